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
    images: Float[Tensor, "b 3 r r"], place: float, colour: float, rng: torch.Generator
) -> Float[Tensor, "b 3 r r"]:
    """Shift, turn and zoom, change brightness, saturation and contrast, each at random.

    The operations are those of differentiable augmentation (Zhao et al., NeurIPS 2020) and, for
    turning and zooming, of ADA (Karras et al., NeurIPS 2020).

    Args:
        place: probability of a shift, and twice that of a turn and a zoom, which blur.
        colour: probability of each of the three other changes.
    """
    if place == colour == 0:
        return images
    count, side, device = len(images), images.shape[-1], images.device

    def chosen(share: float) -> Tensor:
        return torch.rand(count, generator=rng, device=device) < share

    def uniform(low: float, high: float, neutral: float) -> Tensor:
        values = torch.rand(count, generator=rng, device=device) * (high - low) + low
        return torch.where(chosen(colour), values, neutral)[:, None, None, None]

    images = images + uniform(-0.4, 0.4, 0.0)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.3, 1.7, 1.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * uniform(0.6, 1.4, 1.0)

    reach = side // 8
    shift = torch.randint(-reach, reach + 1, (count, 2), generator=rng, device=device)
    use = chosen(place)[:, None]
    padded = F.pad(images, (reach, reach, reach, reach))
    first = torch.where(use, shift, 0) + reach
    rows, columns = (first[:, None] + torch.arange(side, device=device)[:, None]).unbind(2)
    # Taken by index, so that a GPU need not wait for the numbers.
    padded = padded.gather(2, rows[:, None, :, None].expand(-1, 3, -1, padded.shape[3]))
    images = padded.gather(3, columns[:, None, None].expand(-1, 3, side, -1))

    turn = torch.randn(count, generator=rng, device=device) * TURN
    zoom = (torch.randn(count, generator=rng, device=device) * ZOOM).exp()
    use = chosen(place / 2)[:, None, None, None]
    cos, sin, zero = zoom * turn.cos(), zoom * turn.sin(), torch.zeros_like(zoom)
    matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = F.grid_sample(images, grid.to(images), padding_mode="reflection", align_corners=False)
    return torch.where(use, turned, images)
