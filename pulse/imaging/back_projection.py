"""The exact last step: what is left of the error is put back onto the picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

MOST = 0.15
"""Bound on the change of any value, black being 0 and white 1."""
ROUNDS = 30


@torch.no_grad()
def back_project(
    images: Float[Tensor, "b c h w"],
    target: Float[Tensor, "... c l m"],
    degrade: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor], Tensor],
    *,
    levels: int = 255,
    most: float = MOST,
) -> Float[Tensor, "b c h w"]:
    """The pictures changed by as little as makes `degrade` give the target, up to rounding.

    x + A+ (y - A x), with A+ the pseudo-inverse of a linear degradation, is the point nearest to x
    that is consistent with y (Sønderby et al. 2017, equation 4). Colours have to stay in [0, 1] and
    near what they were, so this is repeated after cutting off what does not (Dykstra's method would
    find the very nearest; the difference cannot be seen).

    Args:
        images: in [0, 1].
        target: NaN where it is ignored.
        degrade: linear, HR -> LR.
        inverse: LR -> HR, about its pseudo-inverse.
        most: bound on the change of any value.
        levels: what white is where the result is rounded to whole numbers; 255 is 8 bits.
    """
    least, largest = (images - most).clamp_min(0), (images + most).clamp_max(1)
    closer = images
    for _ in range(ROUNDS):
        lacking = (target - degrade(closer)).nan_to_num(0)
        closer = torch.minimum(torch.maximum(closer + inverse(lacking), least), largest)
    return (closer * levels).round() / levels
