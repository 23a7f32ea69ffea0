import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pulse.search.losses import geocross, squared_error


def test_squared_error_is_the_mean_over_what_is_known() -> None:
    low, target = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(3, 4, 4)
    target[:, 1:] = torch.nan
    error = squared_error(low, target)
    expected = (low[..., :1, :] - target[:, :1]).square().mean((1, 2, 3))
    torch.testing.assert_close(error, expected)
    (gradient,) = torch.autograd.grad(error.sum(), low)
    assert gradient.isfinite().all()
    assert (gradient[..., 1:, :] == 0).all()


def test_geocross_is_the_originals(shared: Path) -> None:
    reference = np.load(shared / "fixtures" / "pulse-method.npz")
    ours = geocross(torch.from_numpy(reference["latent"]))
    torch.testing.assert_close(ours, torch.from_numpy(reference["geocross"]), rtol=1e-5, atol=1e-3)


def test_geocross_of_known_angles() -> None:
    """Two layers at right angles: half of the four pairs have angle pi / 2."""
    v = torch.zeros(1, 2, 16)
    v[0, 0, 0] = v[0, 1, 1] = 4.0
    assert geocross(v).item() == pytest.approx((math.pi / 2) ** 2 / 2 * 16 / 8, rel=1e-5)


def test_geocross_is_zero_for_equal_or_single_layers() -> None:
    v = torch.randn(3, 1, 64)
    assert (geocross(v.expand(-1, 5, -1)) < 1e-6).all()
    assert (geocross(v) == 0).all()


def test_geocross_does_not_mix_candidates_and_has_finite_gradients() -> None:
    v = torch.randn(3, 4, 32, requires_grad=True)
    torch.testing.assert_close(geocross(v)[1:2], geocross(v[1:2]))
    equal = torch.ones(1, 4, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(geocross(equal).sum(), equal)
    assert gradient.isfinite().all()


def test_squared_error_is_per_candidate() -> None:
    low, target = torch.rand(3, 3, 4, 4), torch.rand(3, 4, 4)
    expected = [float(((x - target) ** 2).mean()) for x in low]
    assert squared_error(low, target).tolist() == pytest.approx(expected)
