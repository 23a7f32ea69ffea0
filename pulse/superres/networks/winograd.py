"""Dense blocks by Winograd's fast convolution, for processors that multiply in float32.

A 3x3 convolution of 4x4 pixels takes 36 products for each pair of channels instead of 144 (Lavin
and Gray 2016, "Fast algorithms for convolutional neural networks", section 4.3: F(4x4, 3x3)). What
is gained there is mostly lost on transforms, but in a dense block each feature map is transformed
once and then used by every layer behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_SIDE, _TAPS = 4, 6
STRIP = 128
"""Tiles that are transformed at once, so that they stay in the processor's cache."""

# Lavin and Gray, section 4.3: B^T for the input, G for the filter, A^T for the output.
_INPUT = torch.tensor(
    [
        [4.0, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
    ]
)  # fmt: skip
_FILTER = torch.tensor(
    [
        [6.0, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24],
    ],
    dtype=torch.float64,
) / 24  # fmt: skip
_OUTPUT = torch.tensor(
    [[1.0, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
# Rows and columns at once.
_INPUT_2D, _OUTPUT_2D = torch.kron(_INPUT, _INPUT), torch.kron(_OUTPUT, _OUTPUT)


class Packed(NamedTuple):
    """A convolution's weights as they are multiplied: [36, inputs, outputs], and its bias."""

    weight: Float[Tensor, "36 i o"]
    bias: Float[Tensor, " o"]


def pack(weight: Float[Tensor, "o i 3 3"], bias: Float[Tensor, " o"]) -> Packed:
    """Transform a filter, once; it takes four times the memory."""
    spread = _FILTER @ weight.detach().double() @ _FILTER.T
    return Packed(spread.permute(2, 3, 1, 0).flatten(0, 1).float().contiguous(), bias.detach())


def dense_block(
    x: Float[Tensor, "h w c"], layers: Sequence[Packed], slope: float
) -> Float[Tensor, "h w o"]:
    """What the last of some convolutions gives, each being given `x` and what all before it gave.

    All are padded with zeros; all but the last are followed by a leaky ReLU.
    """
    height, width, end = x.shape
    down, across = -(-height // _SIDE), -(-width // _SIDE)
    rows = range(0, down, max(1, STRIP // across))
    strips = [slice(a, b) for a, b in pairwise((*rows, down))]
    room = end + sum(len(layer.bias) for layer in layers[:-1])
    # One buffer for each strip, which every layer reads the front of and adds to.
    maps = [x.new_empty(_TAPS**2, (s.stop - s.start) * across, room) for s in strips]

    def blank(channels: int) -> Float[Tensor, "p q c"]:
        return x.new_zeros(_SIDE * down + 2, _SIDE * across + 2, channels)

    padded = blank(end)
    padded[1 : height + 1, 1 : width + 1] = x
    begin = 0
    for number, (weight, bias) in enumerate(layers, 1):
        for strip, spread in zip(strips, maps, strict=True):
            spread[:, :, begin:end] = _transformed(padded, strip)
        padded = blank(len(bias))
        tiled = padded[1:-1, 1:-1].unflatten(1, (across, _SIDE)).unflatten(0, (down, _SIDE))
        for strip, spread in zip(strips, maps, strict=True):
            products = torch.bmm(spread[:, :, :end], weight).view(_TAPS**2, -1)
            made = (_OUTPUT_2D @ products).view(_SIDE, _SIDE, -1, across, len(bias)).add_(bias)
            if number < len(layers):
                F.leaky_relu_(made, slope)
            tiled[strip] = made.permute(2, 0, 3, 1, 4)
        # Tiles may stand out over the picture, where everything is zero for the next layer.
        padded[height + 1 :] = 0
        padded[:, width + 1 :] = 0
        begin, end = end, end + len(bias)
    return padded[1 : height + 1, 1 : width + 1]


def _transformed(padded: Float[Tensor, "p q c"], strip: slice) -> Float[Tensor, "36 t c"]:
    """The 6x6 pixels of each tile, which overlap by 2, transformed."""
    channels = padded.shape[-1]
    across = (padded.shape[1] - 2) // _SIDE
    shape = (_TAPS, _TAPS, strip.stop - strip.start, across, channels)
    row, column, step = padded.stride()
    strides = (row, column, _SIDE * row, _SIDE * column, step)
    begin = padded.storage_offset() + strip.start * _SIDE * row
    tiles = padded.as_strided(shape, strides, begin).reshape(_TAPS**2, -1)
    return (_INPUT_2D @ tiles).view(_TAPS**2, -1, channels)
