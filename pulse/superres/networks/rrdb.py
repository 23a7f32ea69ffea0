"""RRDBNet, the generator of ESRGAN and Real-ESRGAN: dense blocks in residuals in residuals."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.superres.networks import winograd
from pulse.superres.networks.parts import (
    ConfigError,
    conv,
    dtype_of,
    padded,
    shrink_,
    wants_gradient,
)  # fmt: skip

COLOURS = 3
SLOPE, RESIDUAL = 0.2, 0.2
DENSE, LAYERS = 3, 5
"""Dense blocks in a residual block, and convolutions in a dense block."""


@dataclass(frozen=True)
class RRDBNetConfig:
    """Sizes of an `RRDBNet`; those of the paper are 23 blocks of 64 that grow by 32.

    Attributes:
        scale: a power of two.
        unshuffle: side of the squares of pixels that become channels before the first convolution.
            Real-ESRGAN's network for twice the size is the one for four times, on squares of 2.
    """

    scale: int = 4
    blocks: int = 23
    channels: int = 64
    growth: int = 32
    unshuffle: int = 1

    def __post_init__(self) -> None:
        inner = self.scale * self.unshuffle
        if min(self.scale, self.unshuffle) < 1 or inner & (inner - 1):
            raise ConfigError(f"RRDBNet cannot upscale by {self.scale}: take 1, 2, 4 or 8")


class RRDBNet(nn.Module):
    """Wang et al. 2018, "ESRGAN: enhanced super-resolution generative adversarial networks".

    Figure 3 (without batch norm), section 3.1: dense blocks whose result is multiplied by 0.2 and
    added, in blocks that do the same; then nearest-neighbour upscaling and a convolution for every
    doubling. Where no gradient is wanted, the input of a dense block and what its layers add lie in
    one buffer instead of being joined anew for each layer, and in float32 on a CPU they are
    convolved by Winograd's algorithm (see `winograd`).

    Unlike the paper's a new network is nearest-neighbour upscaling: three channels carry the
    picture from the first convolution to the last, so that only what is missing has to be learned.
    """

    family = "RRDBNet"

    def __init__(self, config: RRDBNetConfig) -> None:
        super().__init__()
        self.config, self.scale, self.grid = config, config.scale, config.unshuffle
        channels, inner = config.channels, config.scale * config.unshuffle
        self.first = conv(3 * config.unshuffle**2, channels)
        self.blocks = nn.Sequential(*(Block(channels, config.growth) for _ in range(config.blocks)))
        self.body_last = conv(channels, channels)
        doublings = inner.bit_length() - 1
        self.ups = nn.ModuleList(conv(channels, channels) for _ in range(doublings))
        self.hr = conv(channels, channels)
        self.last = conv(channels, 3)
        shrink_(self.blocks)
        shrink_(self.body_last)
        if config.unshuffle == 1:
            nn.init.zeros_(self.body_last.weight[:COLOURS])
            for layer in (self.first, *self.ups, self.hr, self.last):
                _carry_colours_(layer)
        depth = 1 + DENSE * LAYERS * config.blocks + 1 + doublings + 2
        self.reach = depth * config.unshuffle
        self.floats = 3 * channels * self.scale**2

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        height, width = (side * self.scale for side in lr.shape[-2:])
        x = padded(lr.to(dtype_of(self.first)), self.grid)
        first = self.first(F.pixel_unshuffle(x, self.grid))
        x = first + self.body_last(self.blocks(first))
        for up in self.ups:
            x = F.leaky_relu(up(F.interpolate(x, scale_factor=2.0, mode="nearest")), SLOPE)
        x = self.last(F.leaky_relu(self.hr(x), SLOPE).float())
        return x[..., :height, :width]


def _carry_colours_(layer: nn.Module) -> None:
    """Begin with He's weights, but the first channels as they are given."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    if not layer.weight.is_meta:
        shrink_(layer, 1.0)
        nn.init.dirac_(layer.weight[:COLOURS])
        nn.init.zeros_(layer.bias[:COLOURS])


class Block(nn.Module):
    """Residual in residual: three dense blocks, their result x 0.2 added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(DENSE)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.add(x, self.dense(x), alpha=RESIDUAL)


class DenseBlock(nn.Module):
    """Five convolutions, each of which is given the input and what all before it made."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        outputs = (growth,) * (LAYERS - 1) + (channels,)
        inputs = accumulate(outputs[:-1], initial=channels)
        self.convs = nn.ModuleList(conv(i, o) for i, o in zip(inputs, outputs, strict=True))
        self.room = channels + (LAYERS - 1) * growth
        self._state: list[tuple[int, int]] = []
        self._kept: list[winograd.Packed] = []

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if wants_gradient(x, self):
            new = self._joined(x)
        elif x.device.type == "cpu" and x.dtype == torch.float32:
            new = self._fast(x)
        else:
            new = self._buffered(x)
        return torch.add(x, new, alpha=RESIDUAL)

    def _joined(self, x: Tensor) -> Tensor:
        parts = [x]
        for layer in self.convs[:-1]:
            parts.append(F.leaky_relu(layer(torch.cat(parts, 1)), SLOPE))
        return self.convs[-1](torch.cat(parts, 1))

    def _fast(self, x: Tensor) -> Tensor:
        pictures = x.permute(0, 2, 3, 1)
        made = [winograd.dense_block(picture, self._packed(), SLOPE) for picture in pictures]
        return torch.stack(made).permute(0, 3, 1, 2)

    def _packed(self) -> list[winograd.Packed]:
        """The weights as they are multiplied; packed again only where they have changed."""
        pairs: list[tuple[Tensor, Tensor]] = []
        for layer in self.convs:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            pairs.append((layer.weight, layer.bias))
        state = [(x.data_ptr(), x._version) for pair in pairs for x in pair]
        if state != self._state:
            self._kept, self._state = [winograd.pack(*pair) for pair in pairs], state
        return self._kept

    def _buffered(self, x: Tensor) -> Tensor:
        batch, end, height, width = x.shape
        buffer = torch.empty(
            (batch, self.room, height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        buffer[:, :end] = x
        for layer in self.convs[:-1]:
            made = F.leaky_relu_(layer(buffer[:, :end]), SLOPE)
            buffer[:, end : end + made.shape[1]] = made
            end += made.shape[1]
        return self.convs[-1](buffer)
