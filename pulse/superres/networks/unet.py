"""The autoencoder of the article "camera quality with autoencoders": a U-Net that sharpens."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.superres.networks.parts import (
    ConfigError,
    bicubic,
    conv,
    dtype_of,
    padded,
    shrink_,
    zero_,
)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a `UNet`.

    Attributes:
        scale: any whole number; 1 only sharpens.
        channels: of each level, from the full size down; each level is half as wide and high.
        skip: whether the bicubic-upscaled input is added to the result. The article's network
            draws the whole picture, which takes longer to learn.
    """

    scale: int = 8
    channels: tuple[int, ...] = (64, 128, 256)
    skip: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.scale <= 16:
            raise ConfigError(f"the autoencoder cannot upscale by {self.scale}: take 1 to 16")
        if not 1 <= len(self.channels) <= 6:
            raise ConfigError("the autoencoder has 1 to 6 levels")


class UNet(nn.Module):
    """An encoder and a decoder with connections between their levels, trained on the MSE.

    As in the article: two convolutions and a ReLU each at a level, 2x2 maximum pooling down,
    repeated pixels and a convolution up; what the encoder had at a level is *added* to the decoder,
    where Ronneberger et al. 2015 join them. It takes the small picture, unlike the article's
    network, and upscales it bicubically inside (Keys' cubic with a = -0.5), so that every
    network is called alike.
    """

    family = "UNet"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        widths = config.channels
        self.down = nn.ModuleList(_Level(i, o) for i, o in pairwise((3, *widths)))
        upward = list(pairwise(widths[::-1]))
        self.narrow = nn.ModuleList(conv(i, o) for i, o in upward)
        self.up = nn.ModuleList(_Level(o, o) for _, o in upward)
        self.last = conv(widths[0], 3)
        # torch's own weights let little of a picture through so many layers of ReLUs, and a result
        # that begins as noise is unlearned together with all features.
        shrink_(self, 1.0)
        if config.skip:
            zero_(self.last)
        self.multiple = 2 ** len(upward)
        """Of the large picture's sides, which are padded to it."""
        self.grid = self.multiple // gcd(self.multiple, self.scale)
        # Two convolutions down, one and two up at each level; one at the end.
        far = sum((2 if level == len(upward) else 5) << level for level in range(len(widths)))
        self.reach = -(-(far + self.multiple) // self.scale) + 2
        self.floats = 4 * widths[0] * self.scale**2

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        large = bicubic(lr.float(), self.scale)
        height, width = large.shape[-2:]
        x = padded(large.to(dtype_of(self.down)), self.multiple)
        levels: list[Tensor] = []
        for number, level in enumerate(self.down):
            x = level(x if number == 0 else F.max_pool2d(x, 2))
            levels.append(x)
        x = levels.pop()
        for narrow, level in zip(self.narrow, self.up, strict=True):
            x = F.relu(narrow(F.interpolate(x, scale_factor=2.0, mode="nearest")))
            x = level(x) + levels.pop()
        x = self.last(x.float())[..., :height, :width]
        return x + large if self.config.skip else x


class _Level(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList((conv(inputs, outputs), conv(outputs, outputs)))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        for layer in self.convs:
            x = torch.relu(layer(x))
        return x
