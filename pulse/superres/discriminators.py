"""The discriminator that SRGAN's generator is trained against."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SLOPE = 0.2
_DENSE = 1024
_POOLED = 6
"""Side to which the features are averaged before the dense head: 96 pixels halved four times."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of a `Discriminator`; 64 channels and a dense head are those of the paper.

    Attributes:
        channels: of the first convolution; later ones have twice, four and eight times as many.
        head: "dense", one verdict on a picture of any size; or "patch", one for each place (Isola
            et al. 2017), which is cheaper and judges texture alone.
    """

    channels: int = 64
    head: Literal["dense", "patch"] = "dense"


class Discriminator(nn.Module):
    """Ledig et al. 2017, figure 4: eight 3x3 convolutions, of which every second one halves.

    Every convolution but the first is followed by batch norm, all by LeakyReLU of 0.2. The paper's
    dense head fits 96 pixels only; here the features are averaged to what it has there, so that
    patches may have other sizes. It ends without the sigmoid, which is in the losses.
    """

    def __init__(self, config: DiscriminatorConfig, frames: int = 1) -> None:
        """For pictures, or for so many frames of a film that are looked at together."""
        super().__init__()
        widths = [config.channels * n for n in (1, 1, 2, 2, 4, 4, 8, 8)]
        layers: list[nn.Module] = [nn.Conv2d(3 * frames, widths[0], 3, 1, 1), nn.LeakyReLU(_SLOPE)]
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, 1 + (number % 2 == 0), 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.LeakyReLU(_SLOPE),
            ]
        self.features = nn.Sequential(*layers)
        if config.head == "patch":
            self.head: nn.Module = nn.Conv2d(widths[-1], 1, 3, 1, 1)
        else:
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(_POOLED),
                nn.Flatten(),
                nn.Linear(widths[-1] * _POOLED**2, _DENSE),
                nn.LeakyReLU(_SLOPE),
                nn.Linear(_DENSE, 1),
            )

    def forward(self, images: Float[Tensor, "b 3*f h w"]) -> Float[Tensor, "b n"]:
        """Logits of being an original, for pictures in [0, 1]: one for each, or for each place."""
        x = images * 2 - 1
        x = x.contiguous(memory_format=torch.channels_last)
        return self.head(self.features(x)).flatten(1).float()
