"""What a generator's samples tell of a search before it begins.

The small picture depends on some latents far more than on others, and some of its errors are far
easier to mend than others: brightness and the light's direction follow from many latents, the shape
of an eye from few. Both are much the same all over a generator, so they are worked out once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Bicubic, Degradation
from pulse.search.cache import kept, precision_of
from pulse.search.latent import LatentPrior
from pulse.search.memory import in_chunks
from stylegan import Generator

MOST, LEAST = 256, 24
"""How many samples: the most up to 128 pixels a side, beyond that fewer, as each costs more."""
LOW = 16
"""Side of the picture whose derivatives are taken, as in the paper."""
SIDE = 64
"""Largest side of the pictures that are kept, and of the noise inputs whose influence counts."""
FLOOR = 0.1
"""What is added to influences, of which the mean is 1, and to variances, of which the largest is 1:
neither is known to hold everywhere. Three times more or less costs a twentieth of the steps."""
VERSION = 2
"""Of how it is worked out; to be raised with any change, for what is kept goes on being used."""


@dataclass(frozen=True)
class Curvature:
    """Statistics of a generator's samples.

    Attributes:
        latent: [L, w_dim], the mean square derivative of the small picture by each number of v.
        noise: [N], by the numbers of each noise input, on average; 0 for large inputs.
        pictures: [n, 3, s, s], samples, downscaled, of nominal range [0, 1].
    """

    latent: Float[Tensor, "L w_dim"]
    noise: Float[Tensor, " N"]
    pictures: Float[Tensor, "n 3 s s"]

    @classmethod
    def fit(cls, generator: Generator, prior: LatentPrior) -> Curvature:
        """Work them out from a fixed seed, each sample drawn once with gradients.

        The squared derivative by one number is that of a random mixture of all pixels, which has
        the same mean (Hutchinson 1989; Bekas et al. 2007 for the diagonal).
        """
        side = generator.resolution
        count = min(MOST, max(LEAST, MOST * 128**2 // side**2))
        v = prior.samples(generator, count)
        rng = torch.Generator().manual_seed(0)
        drawn = [torch.randn(1, 1, *shape, generator=rng) for shape in generator.noise_shapes]
        inputs = [x.to(generator.device) for x in drawn]
        small = sum(x.shape[-1] <= SIDE for x in inputs)  # They come in ascending order.
        down = Bicubic(side, min(LOW, side))
        keep = Bicubic(side, min(SIDE, side))
        latent = torch.zeros_like(v[0])
        noise = torch.zeros(len(inputs), device=generator.device)

        def add(part: Tensor) -> Tensor:
            own = [x.expand(len(part), -1, -1, -1).clone() for x in inputs[:small]]
            point = [x.requires_grad_() for x in [part.clone(), *own]]
            ws = prior.to_w(point[0])
            images = (generator.synthesis(ws, [*point[1:], *inputs[small:]]) + 1) / 2
            low = down(images)
            mixture = torch.randn(low.shape, generator=rng).to(low.device)
            gradients = torch.autograd.grad((low * mixture).sum(), point, materialize_grads=True)
            latent.add_(gradients[0].square().sum(0), alpha=1 / count)
            for i, gradient in enumerate(gradients[1:]):
                noise[i] += gradient.square().mean((1, 2, 3)).sum() / count
            return keep(images.detach())

        pictures, _ = in_chunks(add, v, max(1, min(8, 8 * 128**2 // side**2)))
        return cls(latent, noise, torch.cat(pictures))

    @classmethod
    def cached(cls, generator: Generator, prior: LatentPrior, sha256: str) -> Curvature:
        """Those of the generator whose file has that checksum, worked out once and kept."""

        def make() -> dict[str, Tensor]:
            fitted = cls.fit(generator, prior)
            return {
                "latent": fitted.latent,
                "noise": fitted.noise,
                "pictures": fitted.pictures.half(),
            }

        tensors = kept(
            f"curvature/{sha256}-{precision_of(generator)}", VERSION, make, generator.device
        )
        return cls(tensors["latent"], tensors["noise"], tensors["pictures"].float())

    def scale(self) -> tuple[Float[Tensor, "L w_dim"], Float[Tensor, " N"]]:
        """How far to move latents and noise inputs for the same slope, up to a factor.

        The inverse of the mean Gauss-Newton Hessian's diagonal.
        """
        usual = self.latent.mean().clamp_min(1e-30)
        return 1 / (self.latent / usual + FLOOR), 1 / (self.noise / usual + FLOOR)

    def easy(self, degrade: Degradation) -> Float[Tensor, "k 3 l l"]:
        """What to take out of errors of the small picture so that easy ones count less.

        With S the covariance of small pictures, divided by its largest eigenvalue, the weighted
        error is r^T (S / f + 1)^-1 r, f being `FLOOR`: Mahalanobis' distance, except that errors
        which no sample shows count fully. It equals |r|^2 - |E r|^2, with E the rows that are
        returned here: eigenvectors u, each times sqrt(1 - f / (s + f)), s its eigenvalue.

        Args:
            degrade: from the side of `pictures` to LR.
        """
        low = degrade(self.pictures).cpu().double()  # MPS has no float64.
        shape = low.shape[1:]
        _, deviation, directions = torch.linalg.svd((low - low.mean(0)).flatten(1), False)
        share = deviation.square() / deviation.square().max().clamp_min(1e-30)
        rows = directions * (share / (share + FLOOR)).sqrt()[:, None]
        return rows.float().unflatten(1, shape).to(self.pictures.device)
