"""FRVSR: each frame of a film drawn from the small one and from what was drawn before it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.imaging.motion import optical_flow, warp
from pulse.superres.networks.parts import (
    ConfigError,
    bilinear,
    conv,
    dtype_of,
    icnr_,
    padded,
    shrink_,
)  # fmt: skip
from pulse.superres.networks.rrdb import DENSE, LAYERS, Block
from pulse.superres.networks.srresnet import PlainBlock

FARTHEST = 24.0
"""LR pixels, in each direction, that a place may have come from."""
SLOPE = 0.2
PAPER_FLOW = (32, 64, 128)
"""Widths of the paper's flow network."""
DAMPING = 2e-4
"""LR frames have clear patterns, all of which are followed."""


Body: TypeAlias = Literal["residual", "dense"]


@dataclass(frozen=True)
class FRVSRConfig:
    """Sizes of an `FRVSR`; those of the paper are 10 blocks of 128, and `PAPER_FLOW`.

    Attributes:
        scale: 2 to 8.
        blocks, channels: of the body, and the width of each.
        body: "residual", as in the paper; or "dense", the blocks of ESRGAN, which grow by `growth`.
        flow: widths of the flow network, each level of which is half as wide and high; with none
            the flow is Lucas and Kanade's, which has nothing to be trained.
    """

    scale: int = 4
    blocks: int = 3
    channels: int = 64
    body: Body = "residual"
    growth: int = 32
    flow: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= self.scale <= 8:
            raise ConfigError(f"FRVSR cannot upscale by {self.scale}: take 2 to 8")
        if len(self.flow) > 5:
            raise ConfigError("its flow network has 5 levels at most")
        if self.body not in ("residual", "dense"):
            raise ConfigError(f"FRVSR has no body {self.body!r}: take residual or dense")


class FRVSR(nn.Module):
    """Sajjadi, Vemulapalli and Brown, CVPR 2018, "Frame-recurrent video super-resolution".

    Figure 2: the flow between two LR frames, upscaled, tells where in the picture drawn last each
    place has come from; that picture, warped, goes into the next as s^2 channels for each colour.

    Unlike the paper's, the body upscales by one sub-pixel convolution at its end, so that all of
    it is computed on LR pixels, and the bilinear-upscaled frame is added to its result. Its flow
    may be computed instead of learned: a network needs far more training to come as near.

    Called with a frame alone it draws the first of a film, before which everything was black.
    """

    family = "FRVSR"
    grid = 1

    def __init__(self, config: FRVSRConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, outputs = config.channels, 3 * config.scale**2
        self.flow = FlowNetwork(config.flow) if config.flow else LucasKanade()
        self.first = conv(3 + outputs, channels)
        dense = config.body == "dense"
        self.blocks = nn.Sequential(
            *(
                Block(channels, config.growth) if dense else PlainBlock(channels)
                for _ in range(config.blocks)
            )
        )
        shrink_(self.blocks)
        self.last = icnr_(conv(channels, outputs), config.scale)
        if not self.last.weight.is_meta:
            with torch.no_grad():
                self.last.weight.mul_(0.1)  # It begins near the bilinear-upscaled frame.
        self.reach = 2 + config.blocks * (DENSE * LAYERS if dense else 2)
        self.floats = max(3 * channels, 4 * outputs)

    def forward(
        self,
        lr: Float[Tensor, "b 3 h w"],
        carried: Float[Tensor, "b 3*s*s h w"] | None = None,
    ) -> Float[Tensor, "b 3 h*s w*s"]:
        """A frame, from what `carry` made of the one drawn before it."""
        if carried is None:
            batch, _, height, width = lr.shape
            carried = lr.new_zeros(batch, 3 * self.scale**2, height, width)
        x = F.relu(self.first(torch.cat((lr, carried), 1).to(dtype_of(self.first))))
        x = self.last(self.blocks(x).float())
        return F.pixel_shuffle(x, self.scale) + bilinear(lr.float(), self.scale)

    def carry(
        self, sr: Float[Tensor, "b 3 h*s w*s"], flow: Float[Tensor, "b 2 h w"]
    ) -> Float[Tensor, "b 3*s*s h w"]:
        """The frame that was drawn last, moved to where things are now."""
        large = bilinear(flow, self.scale) * self.scale
        return F.pixel_unshuffle(warp(sr, large), self.scale)


class LucasKanade(nn.Module):
    """Where each place of a frame was in the one before, by `optical_flow`; without gradients."""

    def forward(
        self, before: Float[Tensor, "b 3 h w"], now: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 2 h w"]:
        """As `FlowNetwork`'s."""
        grey, last = (x.float().mean(1, keepdim=True) for x in (now, before))
        return optical_flow(last, grey, DAMPING)


class FlowNetwork(nn.Module):
    """Where each place of a frame was in the one before.

    Sajjadi et al. 2018, figure 3: two convolutions and 2x2 maximum pooling at each level, bilinear
    upscaling between those of the way back; a tanh, times 24. Unlike in the paper the levels of
    both ways are connected, which lets so small a network keep fine edges.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Two(i, o) for i, o in pairwise((6, *widths)))
        self.middle = _Two(widths[-1], 2 * widths[-1])
        upward = list(pairwise((2 * widths[-1], *widths[::-1])))
        self.narrow = nn.ModuleList(conv(i, o) for i, o in upward)
        self.up = nn.ModuleList(conv(o, o) for _, o in upward)
        self.last = conv(widths[0], 2)
        self.multiple = 2 ** len(widths)
        if not self.last.weight.is_meta:
            nn.init.normal_(self.last.weight, std=1e-3)  # So that nothing moves to begin with.
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self, before: Float[Tensor, "b 3 h w"], now: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 2 h w"]:
        """Flow in LR pixels, x then y, float32: `now` at p is `before` at p + flow(p)."""
        height, width = now.shape[-2:]
        x = padded(torch.cat((before, now), 1).to(dtype_of(self)), self.multiple)
        levels: list[Tensor] = []
        for level in self.down:
            levels.append(level(x))
            x = F.max_pool2d(levels[-1], 2)
        x = self.middle(x)
        for narrow, up in zip(self.narrow, self.up, strict=True):
            x = F.leaky_relu(narrow(bilinear(x, 2)) + levels.pop(), SLOPE)
            x = F.leaky_relu(up(x), SLOPE)
        return FARTHEST * torch.tanh(self.last(x).float())[..., :height, :width]


class _Two(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList((conv(inputs, outputs), conv(outputs, outputs)))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        for layer in self.convs:
            x = F.leaky_relu(layer(x), SLOPE)
        return x
