"""The mapping network and what else all families share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LRELU_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2)
SEED = 20_200_612
"""Of the latents that samples, means and fits are worked out from.

Any but 0. A mapping network that was made with torch's seed 0, as the embedded one was, has its
first layer filled with the numbers that latents of that seed are made of: the first 256 of them are
its rows. Each wakes one unit sixteen times as much as a latent should, its w lies twice as far from
the mean, and the picture is burnt out.
"""
HALF_SIZES = 4
"""Sides, from the picture's down, whose maps may be in half precision, as in NVIDIA's training.

Smaller maps cost little, and what is rounded there goes through all that follows.
"""


def normal(*shape: int) -> Tensor:
    """Normally distributed numbers for a new network.

    One whose weights come from a file is laid out on the device "meta". Nothing is drawn there: to
    do so torch would import sympy first, which takes longer than all the rest.
    """
    made = torch.empty(shape)
    return made if made.is_meta else made.normal_()


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.normal(0.0, 1 / lr, size=(outputs, inputs)))
        self.bias = nn.Parameter(torch.full([outputs], bias / lr))
        self.gain = lr / math.sqrt(inputs)
        self.lr = lr

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr)


class Mapping(nn.Module):
    """z -> w: normalise z to unit second moment, then fully connected layers with leaky ReLU."""

    def __init__(self, z_dim: int, w_dim: int, layers: int, lr: float) -> None:
        super().__init__()
        widths = [z_dim] + [w_dim] * layers
        self.layers = nn.ModuleList(Linear(i, o, lr=lr) for i, o in pairwise(widths))

    def forward(self, z: Float[Tensor, "b z_dim"]) -> Float[Tensor, "b w_dim"]:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LRELU_SLOPE) * ACTIVATION_GAIN
        return x


class MappedGenerator(nn.Module):
    """The half of a generator that is the same in every family: from z to w.

    Attributes:
        precision: type of the feature maps from an eighth of the resolution up; smaller ones are
            in float32.
        w_mean: [w_dim], the mean of w.
    """

    w_mean: Tensor
    resolution: int
    num_layers: int
    feature_sizes: tuple[int, ...]

    def __init__(
        self, z_dim: int, w_dim: int, layers: int, lr: float, precision: torch.dtype
    ) -> None:
        super().__init__()
        self.precision = precision
        self.z_dim, self.w_dim = z_dim, w_dim
        self.mapping_network = Mapping(z_dim, w_dim, layers, lr)
        self.register_buffer("w_mean", torch.zeros(w_dim))

    @property
    def device(self) -> torch.device:
        return self.w_mean.device

    def mapping(self, z: Float[Tensor, "b z_dim"]) -> Float[Tensor, "b w_dim"]:
        return self.mapping_network(z)

    def precision_at(self, side: float, drawn: int) -> torch.dtype:
        """Type of the feature maps of that side on the way to maps of side `drawn`.

        Where the way ends early, at what only stands in for the picture, the largest sizes are
        those of that way.
        """
        return self.precision if side * 2**HALF_SIZES > drawn else torch.float32

    def check(self, ws: Tensor, size: int | None = None) -> None:
        """Raise a ValueError that says what is expected, unless ws is [batch, L, w_dim].

        And unless there are features of that size, if one is given.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_layers, self.w_dim):
            expected = f"[batch, {self.num_layers}, {self.w_dim}]"
            raise ValueError(f"ws has shape {tuple(ws.shape)}; expected {expected}")
        if size is not None and size not in self.feature_sizes:
            raise ValueError(f"No features have {size} pixels; there are {self.feature_sizes}")
