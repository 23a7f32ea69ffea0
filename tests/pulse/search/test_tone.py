"""Brightness, contrast and white that follow the target's."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pulse.imaging.degrade import Bicubic
from pulse.search import SearchConfig, Start, search
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error
from pulse.search.tone import Tone
from stylegan import Generator


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.6 + 0.2


def toned(tone: Tone, low: Tensor, target: Tensor) -> Tensor:
    gain, offset = tone.fit(low, target)
    return low * gain + offset


def test_what_has_the_tone_already_stays(picture: Tensor) -> None:
    gain, offset = Tone().fit(picture, picture)
    assert torch.allclose(gain, torch.ones_like(gain), atol=1e-5)
    assert torch.allclose(offset, torch.zeros_like(offset), atol=1e-5)


def test_without_costs_it_is_found_whole(picture: Tensor) -> None:
    gain = torch.tensor([0.7, 1.2, 1.0])[:, None, None]
    target = picture * gain + torch.tensor([0.1, -0.05, 0.0])[:, None, None]
    assert torch.allclose(toned(Tone(0.0, 0.0), picture, target), target, atol=1e-5)


def test_costs_make_up_for_a_part_only(picture: Tensor) -> None:
    brighter = toned(Tone(gain=0.02, shift=0.5), picture, picture + 0.09) - picture
    assert torch.allclose(brighter, torch.full_like(brighter, 0.06), atol=1e-5)
    variance = picture.var((2, 3), correction=0, keepdim=True)
    gain, _ = Tone(gain=0.02).fit(picture, picture * 2)
    assert torch.allclose(gain, (2 * variance + 0.02) / (variance + 0.02), rtol=1e-4)


def test_it_never_makes_the_error_larger(picture: Tensor) -> None:
    for seed in range(20):
        target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        before = squared_error(picture, target)
        assert (squared_error(toned(Tone(), picture, target), target) <= before).all()


def test_a_downscaled_picture_gets_what_the_picture_gets(picture: Tensor) -> None:
    down = Bicubic(32, 8)
    target = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
    gain, offset = Tone().fit(down(picture), target)
    assert torch.allclose(
        down(picture * gain + offset), toned(Tone(), down(picture), target), atol=1e-5
    )


def test_ignored_pixels_do_not_count(picture: Tensor) -> None:
    target = picture.flip(0).clone()
    spoilt, other = target.clone(), picture.clone()
    spoilt[:, :, :16] = torch.nan
    other[:, :, :16] = 0.9
    plain = Tone().fit(picture, spoilt)
    for one, two in zip(plain, Tone().fit(other, spoilt), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    half = Tone().fit(picture[:, :, 16:], target[:, :, 16:])
    for one, two in zip(plain, half, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_its_gradient_is_that_of_what_it_computes(picture: Tensor) -> None:
    low = picture[:1, :, :4, :4].double().requires_grad_()
    target = torch.rand(3, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: toned(Tone(), x, target), (low,))


def test_a_search_need_not_find_the_light(tiny: Generator) -> None:
    """Where the person is found already, another light is no error."""
    w = tiny.mapping(torch.randn(1, tiny.z_dim, generator=torch.Generator().manual_seed(5)))
    prior = LatentPrior.fit(tiny)
    ws = prior.to_w(prior.on_sphere(prior.from_w(w)))[:, None].expand(-1, tiny.num_layers, -1)
    start = Start((0,), ws)
    down = Bicubic(32, 8)
    config = SearchConfig(steps=1, noise_layers=0, exact=False)
    plain = replace(config, tone=None)
    own = next(search(tiny, torch.zeros(3, 8, 8), start, down, plain, prior))
    target = own.low[0] * 0.8 + 0.1
    first = next(search(tiny, target, start, down, config, prior))
    assert first.best < 0.3 * squared_error(own.low, target)
    assert torch.allclose(squared_error(down(first.images), target), first.best, atol=1e-7)
