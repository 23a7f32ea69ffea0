"""What the small film does not tell of a face is kept from frame to frame, and moves with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.back_projection import back_project
from pulse.imaging.degrade import Degradation
from pulse.imaging.motion import optical_flow, warp

KEPT = 0.7
"""Share of the frame before in the next one, where it is trusted. More flickers less and blurs what
changes, as a mouth that speaks."""
DOUBT = 0.04
"""Difference of the small faces, on [0, 1], at which trust has fallen to a third."""


@torch.no_grad()
def steadied(
    image: Float[Tensor, "3 r r"],
    before: Float[Tensor, "3 r r"],
    degrade: Degradation,
    inverse: Degradation | None,
) -> Float[Tensor, "3 r r"]:
    """A drawn face with fine detail of the frame before, which downscales to what it did.

    A generator draws hair and skin at places of the frame that is cut out, so they stay there while
    the face moves below them. The flow between the two downscaled faces moves the frame before, and
    most of it is taken where it then downscales to the same.

    Args:
        image, before: in [0, 1].
        degrade, inverse: as `back_project` has them; without an inverse nothing is kept.
    """
    if inverse is None:
        return image
    side = image.shape[-1]
    low = degrade(torch.stack((before, image)))
    grey = F.interpolate(low.mean(1, keepdim=True), size=(side, side), mode="bicubic")
    moved = warp(before[None], optical_flow(grey[:1], grey[1:]), "bicubic").clamp(0, 1)
    off = (degrade(moved) - low[1:]).abs().mean(1, keepdim=True)
    trust = KEPT * torch.exp(-((off / DOUBT) ** 2))
    trust = F.interpolate(trust, size=(side, side), mode="bilinear")
    mixed = torch.lerp(image[None], moved, trust)
    return back_project(mixed, low[1:], degrade, inverse)[0]
