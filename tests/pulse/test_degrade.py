from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.degrade import Bicubic

SIZES = [(128, 16), (128, 20), (64, 64), (1024, 16), (33, 7), (5, 1)]


@pytest.mark.parametrize(("high", "low"), SIZES)
def test_adjoint(high: int, low: int) -> None:
    """<A x, y> = <x, A* y>."""
    operator = Bicubic(high, low)
    x, y = torch.randn(2, 3, high, high), torch.randn(2, 3, low, low)
    left = (operator(x).double() * y.double()).sum()
    right = (x.double() * operator.adjoint(y).double()).sum()
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("high", "low"), SIZES)
def test_is_linear_keeps_constants_and_has_the_adjoint_as_gradient(high: int, low: int) -> None:
    operator = Bicubic(high, low)
    a, b = torch.randn(3, high, high), torch.randn(3, high, high)
    torch.testing.assert_close(
        operator(2 * a - b), 2 * operator(a) - operator(b), atol=1e-4, rtol=1e-4
    )
    flat = torch.full((3, high, high), 0.3)
    torch.testing.assert_close(operator(flat), torch.full((3, low, low), 0.3))
    x, y = torch.randn(3, high, high, requires_grad=True), torch.randn(3, low, low)
    (gradient,) = torch.autograd.grad((operator(x) * y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y))


@pytest.mark.parametrize(("high", "low"), SIZES)
def test_is_pillows_bicubic(high: int, low: int) -> None:
    image = torch.rand(1, high, high)
    expected = Image.fromarray(image[0].numpy()).resize((low, low), Image.Resampling.BICUBIC)
    ours = Bicubic(high, low)(image.expand(3, -1, -1))[0]
    assert np.abs(ours.numpy() - np.array(expected)).max() < 1e-5


def test_is_the_originals_inside_and_close_to_it_at_the_border(shared: Path) -> None:
    """PULSE mirrors the picture at the border where Pillow, and we, renormalise the kernel."""
    reference = np.load(shared / "fixtures" / "pulse-method.npz")
    low = torch.from_numpy(reference["low"])
    difference = (Bicubic(128, 16)(torch.from_numpy(reference["image"])) - low).abs()
    assert difference[..., 2:-2, 2:-2].max() < 1e-6
    assert difference.max() < 0.05


def test_same_size_changes_nothing() -> None:
    image = torch.rand(3, 16, 16)
    torch.testing.assert_close(Bicubic(16, 16)(image), image)


def test_refuses_to_enlarge() -> None:
    with pytest.raises(ValueError, match="Cannot downscale 16 pixels to 32"):
        Bicubic(16, 32)
