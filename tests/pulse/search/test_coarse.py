from pathlib import Path

import pytest
import torch

import stylegan
from pulse.imaging.degrade import Bicubic
from pulse.search.coarse import Coarse, saves_steps, useful_sizes
from pulse.search.latent import LatentPrior
from stylegan import Generator


@pytest.mark.parametrize("size", [32, 64])
def test_it_tells_most_of_the_small_picture(size: int) -> None:
    """On samples that it was not fitted to."""
    generator = stylegan.load(stylegan.EMBEDDED)
    prior = LatentPrior.fit(generator, 10_000)
    (coarse,) = Coarse.fit(generator, prior, [size])
    w = generator.mapping(torch.randn(16, generator.z_dim))
    ws = w[:, None].expand(-1, generator.num_layers, -1)
    with torch.no_grad():
        about = Bicubic(size, 16)(coarse.draw(generator, ws, None))
        true = Bicubic(generator.resolution, 16)(generator.synthesis(ws))
    unexplained = (about - true).square().mean() / (true - true.mean(0)).square().mean()
    assert unexplained < {32: 0.25, 64: 0.03}[size]


def test_the_maps_are_kept(tiny: Generator, bare_home: Path) -> None:
    prior = LatentPrior.fit(tiny, 1000)
    fitted = Coarse.cached(tiny, prior, "abc", [8, 16])
    files = [path.name for path in (bare_home / "coarse").iterdir()]
    assert files == ["abc-8-16-float32-v2.safetensors"]
    tiny.synthesis = None  # type: ignore[method-assign]  # It is not asked again.
    kept = Coarse.cached(tiny, prior, "abc", [8, 16])
    for one, same in zip(fitted, kept, strict=True):
        assert one.size == same.size
        assert torch.equal(one.weight, same.weight)
        assert torch.equal(one.bias, same.bias)


def test_sides_that_are_worth_it(tiny: Generator) -> None:
    class Large:
        resolution = 1024
        feature_sizes = (4, 8, 16, 32, 64, 128, 256, 512, 1024)

    assert useful_sizes(Large(), 16) == [32, 64]  # type: ignore[arg-type]
    assert useful_sizes(Large(), 64) == [128, 256]  # type: ignore[arg-type]
    assert useful_sizes(tiny, 8) == [16]
    assert useful_sizes(tiny, 32) == []
    assert saves_steps(Large(), 128)  # type: ignore[arg-type]
    assert not saves_steps(tiny, 8)
