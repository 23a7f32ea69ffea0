"""A cheap stand-in for the end of a generator: from early feature maps to the small picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Bicubic
from pulse.search.cache import kept, precision_of
from pulse.search.latent import LatentPrior
from pulse.search.memory import in_chunks
from stylegan import Generator, Noise

SAMPLES = 32
"""Pictures that a map is fitted to; each gives as many equations as it has pixels."""
RIDGE = 1e-4
"""Of each feature's mean square, added to the normal equations."""
VERSION = 2
"""Of how it is worked out; to be raised with any change, for what is kept goes on being used."""


@dataclass(frozen=True)
class Coarse:
    """A linear map from the features of one side to the picture downscaled to that side.

    What the later layers add at low resolution is mostly determined by the features that they
    start from, so the layers up to 64 pixels of a network of 1024 tell most of how its picture
    looks at 16. The rest is what `pulse.search.run` corrects for.

    Attributes:
        size: side of the feature maps and of the picture.
        weight: [3, c], of each feature.
        bias: [3].
    """

    size: int
    weight: Float[Tensor, "3 c"]
    bias: Float[Tensor, " 3"]

    def draw(
        self, generator: Generator, ws: Float[Tensor, "b L w_dim"], noise: Noise
    ) -> Float[Tensor, "b 3 size size"]:
        """About what `synthesis` draws, downscaled; nominal range [-1, 1]."""
        features = generator.features(ws, noise, self.size)
        return F.conv2d(features, self.weight[:, :, None, None], self.bias)

    @classmethod
    def fit(cls, generator: Generator, prior: LatentPrior, sizes: Sequence[int]) -> list[Coarse]:
        """Fit one map for each side by least squares, from a fixed seed."""
        ws = prior.to_w(prior.samples(generator, SAMPLES))
        downs = [Bicubic(generator.resolution, size) for size in sizes]
        normal: list[Tensor | float] = [0.0 for _ in sizes]

        @torch.no_grad()
        def add(part: Tensor) -> None:
            images = generator.synthesis(part)
            for i, (size, down) in enumerate(zip(sizes, downs, strict=True)):
                x = generator.features(part, None, size)
                rows = torch.cat([x, torch.ones_like(x[:, :1]), down(images)], 1)
                rows = rows.movedim(1, 3).flatten(0, 2)
                normal[i] = normal[i] + (rows.T @ rows).double().cpu() / len(rows)

        in_chunks(add, ws, 4 if generator.resolution <= 256 else 1)
        maps: list[Coarse] = []
        for size, total in zip(sizes, normal, strict=True):
            assert isinstance(total, Tensor)
            left = total[:-3, :-3]
            left = left + RIDGE * torch.diag(left.diag())
            solution = torch.linalg.solve(left, total[:-3, -3:]).float().to(generator.device)
            maps.append(cls(size, solution[:-1].T.contiguous(), solution[-1]))
        return maps

    @classmethod
    def cached(
        cls, generator: Generator, prior: LatentPrior, sha256: str, sizes: Sequence[int]
    ) -> list[Coarse]:
        """The maps of the generator whose file has that checksum, fitted once and kept."""

        def make() -> dict[str, Tensor]:
            maps = cls.fit(generator, prior, sizes)
            return {
                f"{part}.{one.size}": getattr(one, part)
                for one in maps
                for part in ("weight", "bias")
            }

        name = "-".join(map(str, sizes))
        tensors = kept(
            f"coarse/{sha256}-{name}-{precision_of(generator)}", VERSION, make, generator.device
        )
        return [cls(size, tensors[f"weight.{size}"], tensors[f"bias.{size}"]) for size in sizes]


def useful_sizes(generator: Generator, lr_size: int) -> list[int]:
    """Sides of feature maps that tell enough of a small picture: two to four times its own."""
    sides = (side for side in generator.feature_sizes if side < generator.resolution)
    return [side for side in sides if 2 * lr_size <= side <= 4 * lr_size]


def saves_steps(generator: Generator, size: int) -> bool:
    """Whether searching on such maps saves more than the detour costs.

    It does if they are less than a quarter of the whole in side; else they only serve to find out
    cheaply where to start.
    """
    return 4 * size < generator.resolution
