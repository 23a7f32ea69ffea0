"""The image transformation network of Johnson et al., which perceptual losses were made for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pulse.superres.networks.parts import ToColours, conv, dtype_of, steps_of


@dataclass(frozen=True)
class TransformNetConfig:
    """Sizes of a `TransformNet`; those of the paper are 4 blocks of 64."""

    scale: int = 4
    blocks: int = 4
    channels: int = 64
    batch_norm: bool = True

    def __post_init__(self) -> None:
        steps_of(self.scale)


class TransformNet(nn.Module):
    """Johnson et al., ECCV 2016, "Perceptual losses for real-time style transfer and SR".

    Section 3.1 and the supplement's table 2: a 9x9 convolution, residual blocks without a ReLU
    after their sum (Gross and Wilber 2016), upsampling, a 9x9 convolution and a scaled tanh. Where
    the paper has convolutions of stride 1/2, pixels are repeated and then convolved: those leave a
    checkerboard (Odena et al. 2016).
    """

    family = "TransformNet"
    grid = 1

    def __init__(self, config: TransformNetConfig) -> None:
        super().__init__()
        self.config, self.scale = config, config.scale
        channels, steps = config.channels, steps_of(config.scale)

        def normed(inputs: int, kernel: int = 3) -> list[nn.Module]:
            norm = [nn.BatchNorm2d(channels)] if config.batch_norm else []
            return [conv(inputs, channels, kernel), *norm]

        self.first = nn.Sequential(*normed(3, 9), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(*normed(channels), nn.ReLU(), *normed(channels))
            for _ in range(config.blocks)
        )
        self.ups = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Upsample(scale_factor=float(step), mode="nearest"),
                    *normed(channels),
                    nn.ReLU(),
                )
                for step in steps
            )
        )
        self.last = ToColours(channels, 9)
        self.reach = 4 + 2 * config.blocks + len(steps) + 4
        self.floats = 3 * channels * self.scale**2

    def forward(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        x = self.first(lr.to(dtype_of(self.first)))
        for block in self.blocks:
            x = x + block(x)
        x = self.last(self.ups(x).float())
        return (torch.tanh(x) + 1) / 2
