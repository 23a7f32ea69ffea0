"""Where things move to from picture to picture, and how a film flickers."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_COARSEST = 12
"""Pixels that the shorter side of a pyramid's top has at least."""
_ROUNDS = 5
_WINDOW, _SIGMA = 15, 3.0
"""Of the pixels that are taken to move alike."""
_STEP = 1.0
"""Pixels by which a round may change a place."""


def warp(
    image: Float[Tensor, "b c h w"],
    flow: Float[Tensor, "b 2 h w"],
    mode: Literal["bilinear", "bicubic"] = "bilinear",
) -> Float[Tensor, "b c h w"]:
    """The picture at p + flow(p) for each place p; beyond its edge as at the edge.

    Args:
        flow: x then y, in pixels of the picture.
        mode: what is between pixels; "bicubic" blurs less, and overshoots.
    """
    height, width = image.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    # From the middles of pixels to what grid_sample calls -1 to 1, the outer edges.
    places = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    return F.grid_sample(image, places, mode, padding_mode="border", align_corners=False)


@torch.no_grad()
def optical_flow(
    before: Float[Tensor, "b 1 h w"], now: Float[Tensor, "b 1 h w"], damping: float = 1e-3
) -> Float[Tensor, "b 2 h w"]:
    """Flow in pixels, x then y, such that `now` is `warp(before, flow)`.

    Lucas and Kanade 1981, equation 9 in two dimensions, at every pixel with a Gaussian window, from
    the top of a pyramid down, each round about what the last one found (Bouguet 2001).

    Args:
        before, now: grey, in [0, 1].
        damping: added to squared gradients, so that nothing moves where there are none. With less,
            faint patterns are followed, as those of aliasing in blurred films.
    """
    pyramid = [(before, now)]
    while min(pyramid[-1][0].shape[-2:]) >= 2 * _COARSEST:
        pyramid.append(tuple(F.avg_pool2d(_blurred(x, 5, 1.0), 2) for x in pyramid[-1]))  # type: ignore[arg-type]
    flow = before.new_zeros(len(before), 2, *pyramid[-1][0].shape[-2:])
    for first, second in reversed(pyramid):
        size = first.shape[-2:]
        if flow.shape[-2:] != size:
            grown = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
            flow = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
            flow = flow * grown[:, None, None]
        for _ in range(_ROUNDS):
            flow = flow + _step(warp(first, flow), second, damping)
    return flow


def _step(
    warped: Float[Tensor, "b 1 h w"], now: Float[Tensor, "b 1 h w"], damping: float
) -> Float[Tensor, "b 2 h w"]:
    """How much farther each place has moved, by least squares over its window."""
    both = F.pad((warped + now) / 2, (1, 1, 1, 1), mode="replicate")
    dx = (both[..., 1:-1, 2:] - both[..., 1:-1, :-2]) / 2
    dy = (both[..., 2:, 1:-1] - both[..., :-2, 1:-1]) / 2
    missing = now - warped
    products = torch.cat((dx * dx, dx * dy, dy * dy, dx * missing, dy * missing), 1)
    xx, xy, yy, x, y = _blurred(products, _WINDOW, _SIGMA).split(1, 1)
    xx, yy = xx + damping, yy + damping
    step = torch.cat((yy * x - xy * y, xx * y - xy * x), 1) / (xx * yy - xy * xy)
    return step.clamp(-_STEP, _STEP)


def _blurred(x: Float[Tensor, "b c h w"], window: int, sigma: float) -> Float[Tensor, "b c h w"]:
    half = window // 2
    place = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-0.5 * (place / sigma) ** 2)
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (half, half, half, half), mode="replicate")
    x = F.conv2d(x, weights[..., None], groups=x.shape[1])
    return F.conv2d(x, weights[:, :, None], groups=x.shape[1])


def flow_difference(
    sr: Float[Tensor, "t 1 h w"], flows: Float[Tensor, "t-1 2 h w"], border: int = 0
) -> float:
    """Mean over pixels of how far a film's flow is from the original's, in pixels (tOF).

    Chu et al. 2020 (TecoGAN), equation 5, where the flow is OpenCV's (Farneback's) and the
    distance is summed over x and y; ours is so summed as well.

    Args:
        flows: the original's, from each frame to the next, as `optical_flow` gives them.
        border: pixels at each edge that do not count.
    """
    differences = [
        _inner((optical_flow(sr[i : i + 1], sr[i + 1 : i + 2]) - flow[None]).abs().sum(1), border)
        for i, flow in enumerate(flows)
    ]
    return float(torch.stack([x.mean() for x in differences]).mean())


def warping_error(
    film: Float[Tensor, "t c h w"], flows: Float[Tensor, "t-1 2 h w"], border: int = 0
) -> float:
    """Mean difference of each frame, moved along the flow, from the next (Lai et al. 2018, eq. 8).

    Of a film itself it is how much that flickers; of its difference from the original how much of
    the flicker is not the original's.
    """
    moved = torch.cat([warp(x[None], flow[None]) for x, flow in zip(film, flows, strict=False)])
    return float(_inner(moved - film[1:], border).abs().mean())


def _inner(x: Tensor, border: int) -> Tensor:
    height, width = x.shape[-2:]
    return x[..., border : height - border, border : width - border]
