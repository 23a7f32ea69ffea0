"""The prior on W, and the spheres that a search moves on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse.search.cache import kept
from stylegan import Generator
from stylegan.mapping import SEED

SLOPE = 0.2
"""Negative slope of the leaky ReLU that ends every StyleGAN's mapping network."""
VERSION = 3
"""Of how it is worked out; to be raised with any change, for what is kept goes on being used."""
FLAT = 1e-3
"""Least variance along an axis, as a share of the largest: some have next to none, and nothing that
is drawn would depend on how little."""


@dataclass(frozen=True)
class LatentPrior:
    """PULSE's Gaussian fit of W: w = lrelu(v * std + mean) with v standard normal (section 3.2).

    The last layer of the mapping network is a leaky ReLU; before it, w is close to Gaussian. Where
    a family multiplies the activation by a gain, the gain is found in mean and std, because the
    leaky ReLU is positively homogeneous.

    Attributes:
        mean, std: [w_dim], of the inverse-activated outputs of the mapping network.
        axes: what turns its v into numbers of variance 1 that do not go together. The paper takes v
            itself to be so, and it is far from it: of the embedded generator's 256 axes a quarter
            have less than a 25th of the mean variance.
    """

    mean: Float[Tensor, " w_dim"]
    std: Float[Tensor, " w_dim"]
    axes: Float[Tensor, "w_dim w_dim"]

    @classmethod
    def fit(cls, generator: Generator, samples: int = 50_000) -> LatentPrior:
        """Fit to the generator's mapping network, from a fixed seed."""
        rng = torch.Generator().manual_seed(SEED)
        parts: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, samples, 10_000):
                count = min(10_000, samples - start)
                z = torch.randn(count, generator.z_dim, generator=rng).to(generator.device)
                parts.append(F.leaky_relu(generator.mapping(z), 1 / SLOPE))
        x = torch.cat(parts).cpu().double()  # MPS has no float64.
        mean, std = x.mean(0), x.std(0).clamp_min(1e-8)
        variances, axes = torch.linalg.eigh(((x - mean) / std).T.cov())
        axes = axes / variances.clamp_min(FLAT * variances.max()).sqrt()
        return cls(mean.float(), std.float(), axes.float()).to(generator.device)

    def to(self, device: torch.device | str) -> LatentPrior:
        """The same on another device."""
        return LatentPrior(self.mean.to(device), self.std.to(device), self.axes.to(device))

    @classmethod
    def cached(cls, generator: Generator, sha256: str) -> LatentPrior:
        """The fit to the generator whose file has that checksum, worked out once and kept."""

        def make() -> dict[str, Tensor]:
            prior = cls.fit(generator)
            return {"mean": prior.mean, "std": prior.std, "axes": prior.axes}

        tensors = kept(f"priors/{sha256}", VERSION, make, generator.device)
        return cls(tensors["mean"], tensors["std"], tensors["axes"])

    def to_w(self, v: Float[Tensor, "*b w_dim"]) -> Float[Tensor, "*b w_dim"]:
        return F.leaky_relu(v * self.std + self.mean, SLOPE)

    def from_w(self, w: Float[Tensor, "*b w_dim"]) -> Float[Tensor, "*b w_dim"]:
        """The inverse of `to_w`."""
        return (F.leaky_relu(w, 1 / SLOPE) - self.mean) / self.std

    def strangeness(self, v: Float[Tensor, "b L w_dim"]) -> Float[Tensor, " b"]:
        """How far v lies from what the mapping network gives.

        The squared Mahalanobis distance, by number and layer: about 1 for its own.
        """
        return (v @ self.axes).square().mean((1, 2))

    def on_sphere(self, v: Float[Tensor, "*b w_dim"]) -> Float[Tensor, "*b w_dim"]:
        """The nearest point of the sphere that the latents of a layer live on."""
        return to_sphere(v, math.sqrt(v.shape[-1]))

    def samples(self, generator: Generator, count: int) -> Float[Tensor, "n L w_dim"]:
        """Latents v as a search meets them, from a fixed seed: the layers part more and more."""
        rng = torch.Generator().manual_seed(SEED)
        z = torch.randn(count, generator.z_dim, generator=rng).to(generator.device)
        v = self.from_w(generator.mapping(z))[:, None]
        apart = torch.randn(count, generator.num_layers, generator.w_dim, generator=rng)
        spread = torch.linspace(0, 1, count)[:, None, None] * apart
        return self.on_sphere(v + spread.to(v.device))


def to_sphere(x: Tensor, radius: float | Tensor, dims: tuple[int, ...] | int = -1) -> Tensor:
    """Scale x to the given Euclidean norm over `dims`."""
    return x * (radius / (x.square().sum(dims, keepdim=True) + 1e-9).sqrt())
