"""What turns HR into LR, differentiable, with the adjoint of what is linear."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Bicubic:
    """Antialiased bicubic downscaling of square pictures, by any factor.

    The kernel is Keys' cubic with a = -0.5, stretched by the factor, as in PULSE and in Pillow's
    `BICUBIC`; each axis is one small matrix. At the border the kernel is cut off and renormalised
    as Pillow does, since that made most people's small pictures, where PULSE mirrors the picture;
    the outermost two rows and columns differ by that, all others agree.
    """

    def __init__(self, high: int, low: int) -> None:
        """From `high` x `high` to `low` x `low` pixels; low <= high."""
        if not 1 <= low <= high:
            raise ValueError(f"Cannot downscale {high} pixels to {low}.")
        self.high, self.low = high, low
        self.matrix = _bicubic_matrix(high, low)

    def __call__(self, image: Float[Tensor, "*b 3 h h"]) -> Float[Tensor, "*b 3 l l"]:
        """HR -> LR, in float32 whatever the input's type."""
        matrix = self.matrix.to(image.device)
        return matrix @ image.float() @ matrix.T

    def adjoint(self, image: Float[Tensor, "*b 3 l l"]) -> Float[Tensor, "*b 3 h h"]:
        """LR -> HR, such that <A x, y> = <x, A* y>."""
        matrix = self.matrix.to(image.device)
        return matrix.T @ image.float() @ matrix


def _bicubic_matrix(high: int, low: int) -> Float[Tensor, "l h"]:
    """Weights of every HR pixel in every LR pixel along one axis; rows sum to one."""
    factor = high / low
    centres = (torch.arange(low, dtype=torch.float64)[:, None] + 0.5) * factor
    pixels = torch.arange(high, dtype=torch.float64)[None] + 0.5
    x = ((pixels - centres) / factor).abs()
    # Keys 1981, equation 15 (a = -1/2).
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))
    return (weights / weights.sum(1, keepdim=True)).float()
