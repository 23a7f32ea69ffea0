import math
from dataclasses import replace

import pytest
import torch

from pulse.faces.prepare import LRFace
from pulse.imaging.back_projection import MOST, back_project
from pulse.imaging.degrade import DegradeConfig
from pulse.search import PAPER, SearchConfig, Status
from pulse.search.losses import squared_error
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Generator

HIGH, LOW = 64, 8


def near(amount: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures, and what they would be if their small versions were off by some."""
    coarse = torch.rand(2, 3, 4, 4) * 0.8 + 0.1
    images = torch.nn.functional.interpolate(coarse, (HIGH, HIGH), mode="bilinear")
    return images, amount * torch.randn(2, 3, LOW, LOW)


@pytest.mark.parametrize("text", ["bicubic", "box", "grey", "box,grey", "blur:0.3"])
def test_what_is_lacking_is_put_back_up_to_rounding(text: str) -> None:
    config = DegradeConfig.parse(text)
    images, lacking = near(0.02)
    degrade, inverse = config.operator(HIGH, LOW), config.inverse(HIGH, LOW)
    assert inverse is not None
    if config.grey:
        lacking = lacking[:, :1].expand(-1, 3, -1, -1)
    target = degrade(images) + lacking
    closer = back_project(images, target, degrade, inverse)
    assert (squared_error(degrade(closer), target) < 1e-6).all()
    assert (squared_error(degrade(images), target) > 1e-4).all()
    assert (closer - images).square().mean().sqrt() < 0.05  # No more than had to be.
    torch.testing.assert_close((closer * 255).round(), closer * 255, atol=1e-3, rtol=0)


def test_changes_are_bounded_and_colours_stay_in_range() -> None:
    config = DegradeConfig()
    images, lacking = near(0.5)
    degrade, inverse = config.operator(HIGH, LOW), config.inverse(HIGH, LOW)
    assert inverse is not None
    closer = back_project(images, degrade(images) + lacking, degrade, inverse)
    assert (closer - images).abs().max() <= MOST + 0.5 / 255 + 1e-6
    assert closer.min() >= 0
    assert closer.max() <= 1


def test_what_is_ignored_changes_nothing() -> None:
    config = DegradeConfig()
    images, lacking = near(0.02)
    degrade, inverse = config.operator(HIGH, LOW), config.inverse(HIGH, LOW)
    assert inverse is not None
    target = degrade(images) + lacking
    target[:, :, :, LOW // 2 :] = math.nan
    closer = back_project(images, target, degrade, inverse)
    assert (squared_error(degrade(closer), target) < 1e-6).all()
    unknown = (closer - images)[..., HIGH * 3 // 4 :]
    assert unknown.abs().max() < 0.02


def test_strong_blur_is_not_inverted_into_noise() -> None:
    config = DegradeConfig.parse("blur:1.5")
    images, lacking = near(0.02)
    degrade, inverse = config.operator(HIGH, LOW), config.inverse(HIGH, LOW)
    assert inverse is not None
    closer = back_project(images, degrade(images) + lacking, degrade, inverse)
    assert (closer - images).square().mean().sqrt() < 0.1


@pytest.mark.parametrize("text", ["jpeg:50", "noise:0.02"])
def test_what_is_not_linear_has_no_inverse(text: str) -> None:
    assert DegradeConfig.parse(text).inverse(HIGH, LOW) is None


@pytest.fixture
def drawn(tiny: Generator) -> tuple[Upscaler, LRFace]:
    upscaler = Upscaler(tiny, "tiny", "0")
    z = torch.randn(1, tiny.z_dim)
    image = tiny.synthesis(tiny.mapping(z)[:, None].expand(-1, tiny.num_layers, -1))[0]
    low = DegradeConfig().operator(32, 8)((image.clamp(-1, 1) + 1) / 2)
    return upscaler, LRFace(0, low.clamp(0, 1))


def test_matches_are_closed_and_misses_are_not(drawn: tuple[Upscaler, LRFace]) -> None:
    upscaler, face = drawn
    config = UpscaleConfig(2, 0, None, SearchConfig(steps=30, tolerance=0.01, goal=0.3))
    *_, before, after = upscaler.search(face, config)
    assert before.status == after.status == (Status.FOUND,) * 2
    assert torch.equal(before.best, after.best)
    assert after.exact is not None
    assert (after.exact < 1e-4).all()
    assert (after.exact < 0.05 * after.best).all()
    torch.testing.assert_close(squared_error(after.low, face.low), after.exact)
    hard = replace(config, search=replace(config.search, steps=1, tolerance=1e-9))
    *_, before, after = upscaler.search(face, hard)
    assert after.status == (Status.NOT_CONVERGED,) * 2
    assert after.exact is not None
    assert after.exact.isnan().all()
    assert torch.equal(before.images, after.images)


def test_the_paper_s_preset_leaves_it_out(drawn: tuple[Upscaler, LRFace]) -> None:
    upscaler, face = drawn
    search = replace(PAPER, steps=2, tolerance=1.0)
    *_, state = upscaler.search(face, UpscaleConfig(1, 0, None, search))
    assert state.exact is None
