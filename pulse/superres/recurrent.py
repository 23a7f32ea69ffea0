"""Films through a frame-recurrent network: frame by frame, or clips at once for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pulse.imaging.motion import warp
from pulse.superres.networks.frvsr import FRVSR
from pulse.superres.tiles import Tile, upscale_tensor
from pulse.superres.weights import AnyNetwork

CUT = 0.25
"""Share of a frame's contrast by which the one before, warped, misses it at a change of scene. In
films of faces, birds and cars it is under 0.01 otherwise; of a frame's mirror image 0.1 to 0.5."""
FAINT = 2 / 255
"""Misses that are never one, in pictures without contrast."""


@torch.no_grad()
def recurrent(
    network: FRVSR, frames: Iterable[Float[Tensor, "b 3 h w"]], tile: Tile = "auto"
) -> Iterator[Float[Tensor, "b 3 h*s w*s"]]:
    """A film upscaled, each frame as soon as its own is there; one is held at a time.

    Before the first frame all is black, as in training, and again where the scene changes: where
    the frame before, warped, is not like the frame. A frame of another size begins a film anew.

    Args:
        frames: in [0, 1], of any size; films that are upscaled together are a batch.
        tile: side of the tiles that the body computes, see `upscale_tensor`; the flow, which is
            small work, is that of the whole frame.

    Yields:
        Unclamped, float32.

    Raises:
        MemoryError: not even a small tile fits.
    """
    body = _Body(network)
    before: tuple[Tensor, Tensor] | None = None
    for lr in frames:
        carried = lr.new_zeros(len(lr), 3 * network.scale**2, *lr.shape[-2:])
        if before is not None and before[0].shape == lr.shape:
            last, drawn = before
            flow = network.flow(last, lr)
            same = ~changed(warp(last, flow), lr)
            carried = network.carry(drawn, flow) * same[:, None, None, None]
        sr = upscale_tensor(body, torch.cat((lr, carried), 1), tile)
        before = (lr, sr)
        yield sr


def upscale_film(
    network: AnyNetwork, frames: Iterable[Float[Tensor, "b 3 h w"]], tile: Tile = "auto"
) -> Iterator[Float[Tensor, "b 3 h*s w*s"]]:
    """The same with any network; one that carries nothing sees each frame for itself."""
    if isinstance(network, FRVSR):
        yield from recurrent(network, frames, tile)
        return
    for lr in frames:
        yield upscale_tensor(network, lr, tile)


def changed(warped: Float[Tensor, "b 3 h w"], lr: Float[Tensor, "b 3 h w"]) -> Bool[Tensor, " b"]:
    """Whether a frame shows another scene than the one before it, which was warped onto it."""
    missed = (warped - lr).abs().mean((1, 2, 3))
    contrast = (lr - lr.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3))
    return missed > CUT * contrast + FAINT


class _Body:
    """The part of the network that draws, as one that takes a frame and what is carried to it."""

    family = FRVSR.family
    grid = FRVSR.grid

    def __init__(self, network: FRVSR) -> None:
        self.network, self.scale = network, network.scale
        self.reach, self.floats = network.reach, network.floats

    def __call__(self, lr: Float[Tensor, "b 3+3*s*s h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        return self.network(lr[:, :3], lr[:, 3:])


class Unrolled(NamedTuple):
    """A clip that was upscaled.

    Attributes:
        sr: unclamped.
        warped: each LR frame but the last, warped onto the next.
    """

    sr: Float[Tensor, "b t 3 h*s w*s"]
    warped: Float[Tensor, "b t-1 3 h w"]


def unrolled(network: FRVSR, lr: Float[Tensor, "b t 3 h w"]) -> Unrolled:
    """Clips of one scene at once, with gradients through all of their frames."""
    flow, warped = followed(network, lr)
    drawn = [network(lr[:, 0])]
    for number in range(1, lr.shape[1]):
        drawn.append(network(lr[:, number], network.carry(drawn[-1], flow[:, number - 1])))
    return Unrolled(torch.stack(drawn, 1), warped)


class Followed(NamedTuple):
    """Where each frame of a clip but the first lies in the one before, and that, warped so."""

    flow: Float[Tensor, "b t-1 2 h w"]
    warped: Float[Tensor, "b t-1 3 h w"]


def followed(network: FRVSR, lr: Float[Tensor, "b t 3 h w"]) -> Followed:
    """The same without drawing anything."""
    before, now = lr[:, :-1].flatten(0, 1), lr[:, 1:].flatten(0, 1)
    flow = network.flow(before, now)
    flow, warped = (x.unflatten(0, (len(lr), -1)) for x in (flow, warp(before, flow)))
    return Followed(flow, warped)
