"""Changes of pictures, real and drawn alike, that keep a discriminator from learning by heart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TURN = math.radians(8)
"""Standard deviation of rotations."""
ZOOM = 0.1
"""Standard deviation of the logarithm of changes in size."""


def augment(
    images: Float[Tensor, "b 3 r r"], probability: float, rng: torch.Generator
) -> Float[Tensor, "b 3 r r"]:
    """Change brightness, saturation and contrast, shift, turn and zoom, each at random.

    The operations are those of differentiable augmentation (Zhao et al., NeurIPS 2020) and, for
    turning and zooming, of ADA (Karras et al., NeurIPS 2020), each applied to a picture with the
    given probability; turning and zooming with half of it, since they blur.
    """
    if probability == 0:
        return images
    count, side, device = len(images), images.shape[-1], images.device

    def chosen(share: float) -> Tensor:
        return torch.rand(count, generator=rng, device=device) < share

    def uniform(low: float, high: float, neutral: float) -> Tensor:
        values = torch.rand(count, generator=rng, device=device) * (high - low) + low
        return torch.where(chosen(probability), values, neutral)[:, None, None, None]

    images = images + uniform(-0.4, 0.4, 0.0)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.3, 1.7, 1.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * uniform(0.6, 1.4, 1.0)

    reach = side // 8
    shift = torch.randint(-reach, reach + 1, (count, 2), generator=rng, device=device)
    use = chosen(probability)[:, None]
    padded = F.pad(images, (reach, reach, reach, reach))
    offsets = (torch.where(use, shift, 0) + reach).tolist()
    moved = [x[:, i : i + side, j : j + side] for x, (i, j) in zip(padded, offsets, strict=True)]
    images = torch.stack(moved)

    turn = torch.randn(count, generator=rng, device=device) * TURN
    zoom = (torch.randn(count, generator=rng, device=device) * ZOOM).exp()
    use = chosen(probability / 2)
    if not use.any():
        return images
    cos, sin, zero = zoom * turn.cos(), zoom * turn.sin(), torch.zeros_like(zoom)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    part = images[use]
    grid = F.affine_grid(matrix[use], list(part.shape), align_corners=False)
    turned = F.grid_sample(part, grid.to(part), padding_mode="reflection", align_corners=False)
    return images.index_put((use,), turned)
