"""Pictures of any size in bounded memory: tiles that overlap and fade into each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple, TypeAlias

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

from pulse.superres.networks import Network
from stylegan.memory import ran_out

Tile: TypeAlias = int | Literal["auto"]
"""Side of the tiles in pixels of the small picture; "auto" is what memory allows."""

MARGIN = 16
"""Pixels of the small picture, at most, that a tile is computed beyond where it counts."""
BLEND = 8
"""Pixels of the small picture over which neighbours fade into each other."""
LEAST = 32
"""The smallest tile; where not even that fits into memory, nothing does."""
BUDGET = 2**30
"""Bytes that "auto" lets a network hold at once, at most."""
SHARE = 4
"""It takes no more than this fraction of what is free."""


class Partial(NamedTuple):
    """How far a picture is.

    Attributes:
        done, total: tiles; the total grows where memory ran out and tiles became smaller.
        sr: [B, 3, h*s, w*s], the result once all are done.
    """

    done: int
    total: int
    sr: Float[Tensor, "b 3 h*s w*s"]


def upscale_tensor(
    network: Network, lr: Float[Tensor, "b 3 h w"], tile: Tile = "auto"
) -> Float[Tensor, "b 3 h*s w*s"]:
    """What the network makes of pictures of any size, in tiles.

    Where a tile's margin covers the network's reach (`MARGIN`), the result is that of the whole
    picture up to rounding. Deeper networks reach farther, but what lies there hardly tells.

    Args:
        lr: in [0, 1].

    Returns:
        Unclamped, float32, on the device of `lr`.

    Raises:
        MemoryError: not even a small tile fits.
    """
    *_, last = partials(network, lr, tile)
    return last.sr


@torch.no_grad()
def partials(
    network: Network, lr: Float[Tensor, "b 3 h w"], tile: Tile = "auto"
) -> Iterator[Partial]:
    """The same, tile by tile. To stop is to stop iterating.

    Raises:
        MemoryError: not even a small tile fits.
    """
    side = affordable(network, lr) if tile == "auto" else max(tile, LEAST)
    while True:
        try:
            yield from _tiled(network, lr, side)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if side <= LEAST:
                raise MemoryError("not even a small tile fits into memory") from error
        else:
            return
        # Outside the handler, whose error keeps what was allocated alive.
        side = max(LEAST, min(side, *lr.shape[-2:]) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def affordable(network: Network, lr: Float[Tensor, "b 3 h w"]) -> int:
    """Side of the tiles that fit into the budget: the whole picture's where that does."""
    budget = min(BUDGET, _free(lr.device) // SHARE)
    pixels = budget // (4 * network.floats * max(1, len(lr)))
    height, width = lr.shape[-2:]
    if height * width <= pixels:
        return max(height, width, LEAST)
    return max(LEAST, math.isqrt(pixels))


def _free(device: torch.device) -> int:
    """Bytes of memory that are free, or a guess where the device does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        return psutil.virtual_memory().available
    return SHARE * BUDGET


def _tiled(network: Network, lr: Float[Tensor, "b 3 h w"], side: int) -> Iterator[Partial]:
    batch, _, height, width = lr.shape
    scale = network.scale
    rows, columns = (list(_spans(network, length, side)) for length in (height, width))
    total = len(rows) * len(columns)
    if total == 1:
        yield Partial(1, 1, network(lr))
        return
    sr = torch.zeros(batch, 3, height * scale, width * scale, device=lr.device)
    for done, (row, column) in enumerate(product(rows, columns), 1):
        part = network(lr[..., row.begin : row.end, column.begin : column.end])
        part = part * row.weights(scale, lr.device)[:, None] * column.weights(scale, lr.device)
        place = (slice(span.begin * scale, span.end * scale) for span in (row, column))
        sr[(..., *place)] += part
        yield Partial(done, total, sr)


@dataclass(frozen=True)
class _Span:
    """Where a tile lies on one axis.

    Attributes:
        begin, end: in pixels of the small picture.
        before, after: pixels that are shared with the neighbours.
        margin: of these, how many at the tile's end do not count.
    """

    begin: int
    end: int
    before: int
    after: int
    margin: int

    def weights(self, scale: int, device: torch.device) -> Float[Tensor, " l"]:
        """How much each pixel of the tile counts; with its neighbours' they sum to one."""
        weights = torch.ones((self.end - self.begin) * scale, device=device)
        if self.before:
            rise = self._rise(self.before, scale, device)
            weights[: len(rise)] = rise
        if self.after:
            rise = self._rise(self.after, scale, device)
            weights[-len(rise) :] = rise.flip(0)
        return weights

    def _rise(self, shared: int, scale: int, device: torch.device) -> Float[Tensor, " r"]:
        """Nothing over the margin, then up to one by a cosine; with its mirror image it is one."""
        length = (shared - 2 * self.margin) * scale
        x = (torch.arange(length, device=device) + 0.5) / length
        return torch.cat((x.new_zeros(self.margin * scale), (1 - torch.cos(math.pi * x)) / 2))


def _spans(network: Network, length: int, side: int) -> Iterator[_Span]:
    """Tiles of equal length that cover an axis, each beginning on the network's grid."""
    if length <= side:
        yield _Span(0, length, 0, 0, 0)
        return
    margin = min(network.reach, MARGIN, side // 8)
    shared = 2 * margin + min(BLEND, side // 8)
    count = math.ceil((length - shared) / (side - shared))
    stride = math.ceil((length - shared) / count / network.grid) * network.grid
    for begin in range(0, length - shared, stride):
        end = min(begin + stride + shared, length)
        last = end == length
        yield _Span(begin, end, shared if begin else 0, 0 if last else shared, margin)
        if last:
            return
