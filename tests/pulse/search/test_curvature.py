from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.search import SearchConfig, curvature
from pulse.search.curvature import FLOOR, Curvature
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error, weighted_error
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Generator


@pytest.fixture
def prior(tiny: Generator) -> LatentPrior:
    return LatentPrior.fit(tiny, 1000)


def test_influences_are_those_of_the_exact_derivatives(
    tiny: Generator, prior: LatentPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On average over samples, from which random mixtures of pixels must not differ by much."""
    monkeypatch.setattr(curvature, "LOW", 2)
    fitted = Curvature.fit(tiny, prior)
    down = Bicubic(32, 2)
    rng = torch.Generator().manual_seed(0)
    noise = [torch.randn(1, 1, *shape, generator=rng) for shape in tiny.noise_shapes]
    by_v, by_noise = torch.zeros_like(fitted.latent), 0.0
    samples = prior.samples(tiny, 256)
    for v in samples:
        # One copy for each of the 12 values of the small picture.
        point = [x.expand(12, *x.shape[1:]).clone().requires_grad_() for x in (v[None], noise[1])]
        images = tiny.synthesis(prior.to_w(point[0]), [noise[0], point[1], *noise[2:]])
        low = down((images + 1) / 2).flatten(1)
        one, two = torch.autograd.grad(low.diagonal().sum(), point)
        by_v += one.square().sum(0) / len(samples)
        by_noise += two.square().sum(0).mean().item() / len(samples)
    # A few samples dominate, each with its own mixture: together they may be half too large, but
    # what matters is how the numbers compare.
    torch.testing.assert_close(fitted.latent.sum(1), by_v.sum(1), rtol=0.7, atol=0)
    assert fitted.noise[1].item() == pytest.approx(by_noise, rel=0.7)
    logarithms = torch.stack([fitted.latent.flatten(), by_v.flatten()]).log()
    assert torch.corrcoef(logarithms)[0, 1] > 0.95


def test_what_matters_less_moves_further(tiny: Generator, prior: LatentPrior) -> None:
    fitted = Curvature.fit(tiny, prior)
    latent, noise = fitted.scale()
    order = fitted.latent.flatten().argsort()
    assert (latent.flatten()[order].diff() <= 0).all()
    assert latent.max() <= 1 / FLOOR
    assert noise.max() <= 1 / FLOOR


def test_the_weighted_error_is_mahalanobis_distance(tiny: Generator, prior: LatentPrior) -> None:
    fitted = Curvature.fit(tiny, prior)
    down = Bicubic(32, 4)
    easy = fitted.easy(down)
    pictures = down(fitted.pictures).flatten(1).double()
    covariance = pictures.T.cov()
    covariance /= torch.linalg.eigvalsh(covariance)[-1]
    low, target = torch.rand(5, 3, 4, 4), torch.rand(3, 4, 4)
    r = (low - target).flatten(1).double()
    inverse = torch.linalg.inv(covariance / FLOOR + torch.eye(48).double())
    expected = ((r @ inverse) * r).mean(1)
    error = weighted_error(low, target, easy)
    torch.testing.assert_close(error.double(), expected, rtol=1e-4, atol=1e-7)
    assert (error < squared_error(low, target)).all()
    # What all samples differ by counts least, what none shows counts fully.
    most, least = torch.linalg.eigh(covariance).eigenvectors[:, [-1, 0]].T
    counted = [
        weighted_error((target.flatten() + axis).float().view(1, 3, 4, 4), target, easy) * 48
        for axis in (most, least)
    ]
    assert counted[0] < 0.3 * counted[1]
    assert counted[0].item() == pytest.approx(1 / (1 / FLOOR + 1), rel=1e-3)


def test_unknown_pixels_do_not_count(tiny: Generator, prior: LatentPrior) -> None:
    easy = Curvature.fit(tiny, prior).easy(Bicubic(32, 4))
    target, low = torch.rand(3, 4, 4), torch.rand(2, 3, 4, 4)
    target[:, :2] = torch.nan
    other = low.clone()
    other[:, :, :2] = 7.0
    assert torch.equal(weighted_error(low, target, easy), weighted_error(other, target, easy))


def test_it_is_kept(tiny: Generator, prior: LatentPrior, bare_home: Path) -> None:
    made = Curvature.cached(tiny, prior, "abc")
    files = [path.name for path in (bare_home / "curvature").iterdir()]
    assert files == ["abc-float32-v2.safetensors"]
    again = Curvature.cached(tiny, replace(prior, mean=prior.mean + 1), "abc")  # Not fitted again.
    assert torch.equal(again.latent, made.latent)
    torch.testing.assert_close(again.pictures, made.pictures, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_both_save_steps_on_faces() -> None:
    """On faces that the generator draws itself, though not from the latents it would start at."""
    upscaler = Upscaler.load()
    generator = upscaler.generator
    w = generator.mapping(torch.randn(16, generator.z_dim))
    images = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))
    targets = Bicubic(generator.resolution, 16)((images.clamp(-1, 1) + 1) / 2)

    def steps(config: SearchConfig) -> float:
        """Geometric mean: one face that takes fifty is not to hide what fifteen others say."""
        how = UpscaleConfig(1, search=config)
        jobs = ((LRFace(0, low), how, number) for number, low in enumerate(targets))
        states = [state for _, state, _ in upscaler.search_many(jobs)]
        assert all(status == "found" for state in states for status in state.status)
        return (torch.cat([state.best_step for state in states]) + 1).log().mean().exp().item()

    # To a match: where candidates are mended few steps are left, and tone mends what is easiest.
    whole = SearchConfig(steps=300, mend=False, tone=None)
    both = steps(whole)
    assert both < steps(replace(whole, whiten=False))
    assert both < 0.9 * steps(replace(whole, precondition=False))


def test_a_large_small_picture_does_without_weights() -> None:
    upscaler = Upscaler.load()
    aids = upscaler.known.aids(LRFace(0, torch.rand(3, 100, 100)), SearchConfig())
    assert aids.easy is None
    assert aids.scale is not None


def test_what_is_kept_is_known_by_its_precision(
    tiny: Generator, prior: LatentPrior, bare_home: Path
) -> None:
    precise = Curvature.cached(tiny, prior, "abc")
    tiny.precision = torch.bfloat16
    coarse = Curvature.cached(tiny, prior, "abc")
    assert not torch.equal(coarse.latent, precise.latent)
    tiny.precision = torch.float32
    assert torch.equal(Curvature.cached(tiny, prior, "abc").latent, precise.latent)
