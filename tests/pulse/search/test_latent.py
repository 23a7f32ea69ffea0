from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stylegan
from pulse.search.latent import LatentPrior, to_sphere
from stylegan import Generator


def test_to_w_and_back() -> None:
    prior = LatentPrior(torch.randn(32), torch.rand(32) + 0.5, torch.eye(32))
    v = torch.randn(5, 4, 32)
    torch.testing.assert_close(prior.from_w(prior.to_w(v)), v, atol=1e-5, rtol=1e-4)


def test_the_fit_has_the_moments_of_the_mapping(tiny: Generator) -> None:
    prior = LatentPrior.fit(tiny, 20_000)
    v = prior.from_w(tiny.mapping(torch.randn(20_000, tiny.z_dim)))
    assert v.mean(0).abs().max() < 0.05
    assert (v.std(0) - 1).abs().max() < 0.05


def test_the_mapping_s_own_latents_are_not_strange() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    prior = LatentPrior.fit(generator, 20_000)
    rng = torch.Generator().manual_seed(3)
    own = prior.from_w(generator.mapping(torch.randn(500, generator.z_dim, generator=rng)))[:, None]
    # Some axes have less variance than is allowed for, so it is somewhat less than 1.
    assert 0.6 < prior.strangeness(own).mean() < 1.05
    other = prior.on_sphere(torch.randn(500, 1, generator.w_dim, generator=rng))
    assert prior.strangeness(other).min() > 5 * prior.strangeness(own).max()


def test_strangeness_is_the_squared_mahalanobis_distance(tiny: Generator) -> None:
    prior = LatentPrior.fit(tiny, 20_000)
    rng = torch.Generator().manual_seed(3)
    own = prior.from_w(tiny.mapping(torch.randn(20_000, tiny.z_dim, generator=rng))).double()
    covariance = own.T.cov()
    # Where it has variance to speak of: others are taken to have some.
    variances, axes = torch.linalg.eigh(covariance)
    wide = axes[:, variances > 0.01 * variances.max()]
    v = torch.randn(4, 3, tiny.w_dim, generator=rng).double() @ wide @ wide.T
    far = v.flatten(0, 1) @ torch.linalg.pinv(covariance, rtol=0.01, hermitian=True)
    written = (far.unflatten(0, (4, 3)) * v).mean((1, 2))
    assert written.min() > 0.1
    torch.testing.assert_close(prior.strangeness(v.float()).double(), written, rtol=0.1, atol=0)
    v = v.float()
    mirrored = torch.cat([v[:1], -v[:1]], 1)  # Layers count alike.
    torch.testing.assert_close(prior.strangeness(mirrored), prior.strangeness(v[:1]))


def test_draws_lie_where_the_mapping_puts_w() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    prior = LatentPrior.fit(generator, 5000)
    drawn = prior.to_w(torch.randn(5000, generator.w_dim))
    mapped = generator.mapping(torch.randn(5000, generator.z_dim))
    spread = mapped.std(0)
    assert ((drawn.mean(0) - mapped.mean(0)).abs() < 0.25 * spread).all()
    ratio = drawn.std(0) / spread
    assert ratio.median() > 0.8
    assert ratio.median() < 1.25


def test_the_fit_is_the_same_every_time(tiny: Generator) -> None:
    torch.testing.assert_close(LatentPrior.fit(tiny, 5000).mean, LatentPrior.fit(tiny, 5000).mean)


def test_to_sphere() -> None:
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(to_sphere(x, 4.0).norm(dim=-1), torch.full((2, 3), 4.0))
    noise = to_sphere(torch.randn(2, 1, 8, 8), 8.0, (2, 3))
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), torch.full((2,), 8.0))


@pytest.mark.parametrize("family", ["StyleGAN", "StyleGAN2", "StyleGAN3"])
def test_draws_lie_in_the_range_of_each_family_s_mapping(family: str, shared: Path) -> None:
    """Activation and gain included: SG1's mapping has no gain of sqrt(2), the others' have."""
    file = {
        "StyleGAN": "stylegan1-synthesis.pt",
        "StyleGAN2": "stylegan2-ada-pytorch.pkl",
        "StyleGAN3": "stylegan3-t.pkl",
    }[family]
    generator = stylegan.load(shared / "fixtures" / file)
    assert generator.family == family
    prior = LatentPrior.fit(generator, 4000)
    drawn = prior.to_w(torch.randn(4000, generator.w_dim))
    mapped = generator.mapping(torch.randn(4000, generator.z_dim))
    spread = mapped.std(0)
    assert ((drawn.mean(0) - mapped.mean(0)).abs() < 0.25 * spread).all()
    assert 0.8 < (drawn.std(0) / spread).median() < 1.25
    low, high = mapped.quantile(0.001, 0), mapped.quantile(0.999, 0)
    margin = 0.5 * (high - low)
    assert ((drawn > low - margin) & (drawn < high + margin)).float().mean() > 0.999
    # The negative side is flattened by the leaky ReLU, in the draws as in the mapping.
    for w in (drawn, mapped):
        assert -w.quantile(0.01) < 0.5 * w.quantile(0.99)


def test_the_fit_is_kept(tiny: Generator, bare_home: Path) -> None:
    fitted = LatentPrior.cached(tiny, "abc")
    files = [path.name for path in (bare_home / "priors").iterdir()]
    assert files == ["abc-v3.safetensors"]
    tiny.mapping = None  # type: ignore[method-assign]  # It is not asked again.
    kept = LatentPrior.cached(tiny, "abc")
    assert torch.equal(kept.mean, fitted.mean)
    assert torch.equal(kept.std, fitted.std)
    assert torch.equal(kept.axes, fitted.axes)


def test_a_damaged_fit_is_made_anew(tiny: Generator, home: Path) -> None:
    fitted = LatentPrior.cached(tiny, "abc")
    (home / "priors" / "abc-v3.safetensors").write_bytes(b"damaged")
    assert torch.equal(LatentPrior.cached(tiny, "abc").mean, fitted.mean)


def test_where_nothing_can_be_kept(tiny: Generator, bare_home: Path) -> None:
    bare_home.mkdir()
    (bare_home / "priors").write_text("a file where the folder should be", "utf-8")
    assert LatentPrior.cached(tiny, "abc").mean.shape == (tiny.w_dim,)


def test_what_an_earlier_version_kept_is_not_used(
    tiny: Generator, bare_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = LatentPrior.cached(tiny, "abc")
    monkeypatch.setattr("pulse.search.latent.VERSION", 99)
    monkeypatch.setattr(LatentPrior, "fit", lambda generator: replace(before, std=before.std * 2))
    after = LatentPrior.cached(tiny, "abc")
    assert torch.equal(after.std, before.std * 2)
