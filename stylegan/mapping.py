"""The mapping network, which all families share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LRELU_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2)


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


def check_ws(ws: Tensor, num_layers: int, w_dim: int) -> None:
    """Raise a ValueError that says what is expected, unless ws is [batch, num_layers, w_dim]."""
    if ws.ndim != 3 or ws.shape[1:] != (num_layers, w_dim):
        raise ValueError(f"ws has shape {tuple(ws.shape)}; expected [batch, {num_layers}, {w_dim}]")
