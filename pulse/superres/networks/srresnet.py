"""SRResNet and its relatives: residual blocks on the small picture, upsampling at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.superres.networks.parts import (
    ConfigError,
    ToColours,
    bilinear,
    conv,
    dtype_of,
    icnr_,
    shrink_,
    steps_of,
)  # fmt: skip


@dataclass(frozen=True)
class SRResNetConfig:
    """Sizes of an `SRResNet`; those of the paper are 16 blocks of 64 with batch norm.

    Attributes:
        scale: product of twos and threes.
        blocks, channels: residual blocks and the width of each.
        batch_norm: after each convolution of the trunk, as in the paper. Without it training is
            sooner and steadier and nothing depends on the batch (Lim et al. 2017, EDSR).
        upsampling: "shuffle", sub-pixel convolutions as in the paper; or "bilinear", upscaling and
            then a convolution, as in the article that this program's recipes come from.
        activation: "prelu" as in the paper, or "leaky" (0.2) as in the article.
        skip: whether the bilinear-upscaled input is added to the result, so that the network
            draws what is missing and not the picture.
        tanh: whether the result is a tanh, which is then moved from [-1, 1] to [0, 1].
        kernel: side of the first and the last convolution.
    """

    scale: int = 4
    blocks: int = 16
    channels: int = 64
    batch_norm: bool = False
    upsampling: Literal["shuffle", "bilinear"] = "shuffle"
    activation: Literal["prelu", "leaky"] = "prelu"
    skip: bool = True
    tanh: bool = False
    kernel: int = 9

    def __post_init__(self) -> None:
        steps_of(self.scale)
        if self.skip and self.tanh:
            raise ConfigError("a tanh leaves no room for the upscaled input; give skip or tanh")


PAPER = SRResNetConfig(batch_norm=True, skip=False, tanh=True)
"""Ledig et al. 2017, section 2.1.1 and figure 4: 16 blocks of 64, HR in [-1, 1]."""
ARTICLE = SRResNetConfig(
    batch_norm=True, upsampling="bilinear", activation="leaky", skip=False, tanh=True
)
"""The article's: bilinear upsampling, LeakyReLU, tanh."""


class SRResNet(nn.Module):
    """Ledig et al., CVPR 2017, "Photo-realistic single image super-resolution using a GAN".

    The generator of figure 4. Sub-pixel convolutions begin as nearest-neighbour upscaling (ICNR),
    which is later than the paper. Without batch norm, residual blocks begin at a tenth.
    """

    family = "SRResNet"
    grid = 1

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, kernel = config.channels, config.kernel
        self.first = nn.Sequential(conv(3, channels, kernel), _activation(config))
        self.blocks = nn.Sequential(*(ResidualBlock(config) for _ in range(config.blocks)))
        self.body_last = nn.Sequential(conv(channels, channels), *_norm(config))
        if not config.batch_norm:
            shrink_(self.blocks)
            shrink_(self.body_last)
        self.ups = nn.Sequential(*(_upsampling(config, step) for step in steps_of(self.scale)))
        self.last = ToColours(channels, kernel)
        # The upsampling's convolutions reach less far than they would before it.
        self.reach = 2 * (kernel // 2) + 2 * config.blocks + 1 + len(self.ups) + 1
        self.floats = 3 * channels * self.scale**2

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        first = self.first(lr.to(dtype_of(self.first)))
        x = first + self.body_last(self.blocks(first))
        x = self.last(self.ups(x).float())
        if self.config.tanh:
            return (torch.tanh(x) + 1) / 2
        return x + bilinear(lr.float(), self.scale) if self.config.skip else x


class ResidualBlock(nn.Module):
    """Convolution, norm, activation, convolution, norm; its input is added."""

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__()
        channels = config.channels
        self.layers = nn.Sequential(
            conv(channels, channels), *_norm(config), _activation(config),
            conv(channels, channels), *_norm(config),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.layers(x)


def _norm(config: SRResNetConfig) -> list[nn.Module]:
    return [nn.BatchNorm2d(config.channels)] if config.batch_norm else []


def _activation(config: SRResNetConfig) -> nn.Module:
    # A slope for each channel, as the paper's authors' code has it (shared over the pixels).
    return nn.PReLU(config.channels) if config.activation == "prelu" else nn.LeakyReLU(0.2)


def _upsampling(config: SRResNetConfig, step: int) -> nn.Sequential:
    channels = config.channels
    if config.upsampling == "bilinear":
        upscale = nn.Upsample(scale_factor=float(step), mode="bilinear", align_corners=False)
        return nn.Sequential(upscale, conv(channels, channels), _activation(config))
    widening = icnr_(conv(channels, channels * step**2), step)
    return nn.Sequential(widening, nn.PixelShuffle(step), _activation(config))


@dataclass(frozen=True)
class MSRResNetConfig:
    """Sizes of an `MSRResNet`; scale is 2, 3, 4 or 8."""

    scale: int = 4
    blocks: int = 16
    channels: int = 64

    def __post_init__(self) -> None:
        steps_of(self.scale)


class MSRResNet(nn.Module):
    """The SRResNet of Wang et al. 2018 (ESRGAN, section 4.1), whose weights BasicSR publishes.

    No batch norm and no skip around the trunk; 3x3 convolutions throughout, ReLU in the blocks and
    LeakyReLU of 0.1 elsewhere; the bilinear-upscaled input is added.
    """

    family = "MSRResNet"
    grid = 1

    def __init__(self, config: MSRResNetConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, steps = config.channels, steps_of(config.scale)
        self.first = conv(3, channels)
        self.blocks = nn.Sequential(*(PlainBlock(channels) for _ in range(config.blocks)))
        shrink_(self.blocks)
        self.ups = nn.ModuleList(icnr_(conv(channels, channels * s**2), s) for s in steps)
        self.hr = conv(channels, channels)
        self.last = conv(channels, 3)
        self.reach = 1 + 2 * config.blocks + len(steps) + 2
        self.floats = 3 * channels * self.scale**2

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        x = F.leaky_relu(self.first(lr.to(dtype_of(self.first))), 0.1)
        x = self.blocks(x)
        for up, step in zip(self.ups, steps_of(self.scale), strict=True):
            x = F.leaky_relu(F.pixel_shuffle(up(x), step), 0.1)
        x = self.last(F.leaky_relu(self.hr(x), 0.1).float())
        return x + bilinear(lr.float(), self.scale)


class PlainBlock(nn.Module):
    """Convolution, ReLU, convolution; its input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList((conv(channels, channels), conv(channels, channels)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        first, second = self.convs
        return x + second(F.relu(first(x)))
