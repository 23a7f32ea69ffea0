import torch

import stylegan
from pulse.latent import LatentPrior, to_sphere
from stylegan import Generator


def test_to_w_and_back() -> None:
    prior = LatentPrior(torch.randn(32), torch.rand(32) + 0.5)
    v = torch.randn(5, 4, 32)
    torch.testing.assert_close(prior.from_w(prior.to_w(v)), v, atol=1e-5, rtol=1e-4)


def test_the_fit_has_the_moments_of_the_mapping(tiny: Generator) -> None:
    prior = LatentPrior.fit(tiny, 20_000)
    v = prior.from_w(tiny.mapping(torch.randn(20_000, tiny.z_dim)))
    assert v.mean(0).abs().max() < 0.05
    assert (v.std(0) - 1).abs().max() < 0.05


def test_draws_lie_where_the_mapping_puts_w() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    prior = LatentPrior.fit(generator, 20_000)
    drawn = prior.to_w(torch.randn(20_000, generator.w_dim))
    mapped = generator.mapping(torch.randn(20_000, generator.z_dim))
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
