"""Warping, optical flow and what is measured with them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.imaging.motion import flow_difference, optical_flow, warp, warping_error


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth blobs of a few pixels."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, height // 4, width // 4, generator=rng)
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def constant(x: float, y: float, image: Tensor) -> Tensor:
    return torch.tensor([x, y])[None, :, None, None].expand(1, 2, *image.shape[-2:])


def test_warp_by_nothing_is_the_picture() -> None:
    image = torch.rand(2, 3, 17, 23)
    assert (warp(image, torch.zeros(2, 2, 17, 23)) - image).abs().max() < 1e-5


@pytest.mark.parametrize(("x", "y"), [(1, 0), (0, 2), (-3, 4)])
def test_warp_by_whole_pixels_shifts(x: int, y: int) -> None:
    image = torch.rand(1, 3, 20, 21)
    expected = image.roll((-y, -x), (-2, -1))
    inner = (..., slice(5, -5), slice(5, -5))
    assert (warp(image, constant(x, y, image))[inner] - expected[inner]).abs().max() < 1e-5


def test_warp_repeats_the_edge() -> None:
    image = torch.rand(1, 1, 4, 5)
    far = warp(image, constant(-100, 0, image))
    assert torch.allclose(far, image[..., :1].expand_as(image), atol=1e-6)


def test_warp_has_the_gradients_of_its_formula() -> None:
    image = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    flow = (0.3 + 0.4 * torch.rand(1, 2, 6, 7, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, flow))


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.4, -0.3), (2.5, 1.25), (-5.0, 3.0)])
def test_flow_of_what_was_shifted(x: float, y: float) -> None:
    before = texture(120, 130)
    now = warp(before, constant(x, y, before))
    error = (optical_flow(before, now) - constant(x, y, before))[..., 20:-20, 20:-20]
    assert error.abs().mean() < 0.05


def test_flow_of_each_is_what_it_is_in_a_batch() -> None:
    first, second = texture(64, 64), texture(64, 64, 1)
    both = optical_flow(torch.cat((first, second)), torch.cat((second, first)))
    assert torch.allclose(both[:1], optical_flow(first, second), atol=1e-4)


def test_a_film_that_only_moves_does_not_flicker() -> None:
    still = texture(80, 90)
    film = torch.cat([warp(still, constant(1.5 * n, -0.5 * n, still)) for n in range(4)])
    flows = constant(1.5, -0.5, still).expand(3, -1, -1, -1)
    flickering = film + torch.tensor([0.0, 0.1, 0.0, 0.1])[:, None, None, None]
    assert warping_error(film, flows, 16) < 0.01
    assert warping_error(flickering, flows, 16) == pytest.approx(0.1, abs=0.01)


def test_flow_difference_is_in_pixels() -> None:
    still = texture(100, 100)
    film = torch.cat([warp(still, constant(n, 0, still)) for n in range(3)])
    steady = constant(1, 0, still).expand(2, -1, -1, -1)
    other = constant(0, 2, still).expand(2, -1, -1, -1)
    assert flow_difference(film, steady, 20) < 0.1
    assert flow_difference(film, other, 20) == pytest.approx(3, abs=0.1)
