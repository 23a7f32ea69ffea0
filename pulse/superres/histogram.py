"""Histogram matching, which Johnson et al. finish their pictures with."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

BINS = 65536


def match_histogram(
    image: Float[Tensor, "c h w"], reference: Float[Tensor, "c k l"]
) -> Float[Tensor, "c h w"]:
    """The picture with the distribution of values of another, channel by channel.

    Johnson et al. 2016, section 4.2, do so with the network's result and the small picture. A value
    becomes the one that as large a share of the reference lies below (Gonzalez and Woods, section
    3.3.2), values between those of the reference by interpolation; what was brighter stays so.

    Args:
        image, reference: in [0, 1]; values outside are cut off.
    """
    matched = [_matched(one, other) for one, other in zip(image, reference, strict=True)]
    return torch.stack(matched)


def _matched(image: Float[Tensor, "h w"], reference: Float[Tensor, "k l"]) -> Float[Tensor, "h w"]:
    levels, share = _cumulative(image)
    _, wanted_share = _cumulative(reference)
    there = np.flatnonzero(np.diff(wanted_share, prepend=0))
    curve = np.interp(share, wanted_share[there], there / (BINS - 1))
    return torch.from_numpy(curve[levels].astype(np.float32)).to(image.device)


def _cumulative(image: Float[Tensor, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """The level of each pixel, and for each level the share of pixels up to it."""
    levels = (image.clamp(0, 1).cpu().numpy() * (BINS - 1)).round().astype(np.int64)
    counts = np.bincount(levels.ravel(), minlength=BINS)
    return levels, counts.cumsum() / levels.size
