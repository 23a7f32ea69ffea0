"""StyleGAN (Karras et al., CVPR 2019, arXiv 1812.04948), in plain torch.

It differs from its successor in that each feature map is normalised after the activation and then
scaled and shifted by w, with noise of a strength of its own for every channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan.fused import Normalisation, Once, frozen, precise
from stylegan.generator import Noise, noise_of
from stylegan.mapping import LRELU_SLOPE, Linear, MappedGenerator, normal


@dataclass(frozen=True)
class StyleGAN1Config:
    """Everything that fixes a StyleGAN but its weights.

    Attributes:
        channels: feature maps at 4, 8, 16, ... pixels; their number sets the resolution.
        mapping_layers: fully connected layers from z to w.
        mapping_lr: learning rate multiplier of the mapping network, which also scales its weights.
        norm_epsilon: added to the variance in the instance normalisation.
    """

    channels: tuple[int, ...]
    z_dim: int
    w_dim: int
    mapping_layers: int
    mapping_lr: float = 0.01
    norm_epsilon: float = 1e-8

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)


class Layer(nn.Module):
    """Convolution (none for the constant), noise, bias, leaky ReLU, normalisation, style (AdaIN).

    If `up`, the size is doubled by repeating pixels before the convolution and blurred after it.
    """

    noise: Tensor

    def __init__(
        self, config: StyleGAN1Config, inputs: int | None, outputs: int, resolution: int, up: bool
    ) -> None:
        super().__init__()
        self.up, self.epsilon = up, config.norm_epsilon
        if inputs is None:
            self.weight = None
        else:
            self.weight = nn.Parameter(normal(outputs, inputs, 3, 3))
            self.gain = math.sqrt(2 / (inputs * 9))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))
        self.affine = Linear(config.w_dim, 2 * outputs)
        self._prepared: Once[Tensor] = Once()

    def forward(
        self,
        x: Float[Tensor, "b i h h"],
        w: Float[Tensor, "b w_dim"],
        noise: Float[Tensor, "b 1 r r"] | None,
    ) -> Float[Tensor, "b o r r"]:
        if self.weight is not None:
            kernel = self._prepared(self.weight, x.dtype, self._prepare)
            x = _up_conv(x, kernel) if self.up else F.conv2d(x, kernel, padding=1)
        # Equation 1, AdaIN; the style is kept as the difference from a scale of one.
        scale, shift = self.affine(w).chunk(2, dim=1)
        scale = scale + 1
        if frozen(self.bias, self.noise_strength):
            out = Normalisation.apply(
                x, noise, scale, shift, self.bias, self.noise_strength, self.epsilon
            )
            assert isinstance(out, Tensor)
            return out
        x = x + self.bias.to(x.dtype)[None, :, None, None]
        if noise is not None:
            x = x + (noise * self.noise_strength[:, None, None]).to(x.dtype)
        x = F.leaky_relu(x, LRELU_SLOPE)
        y = precise(x)  # A map of nearly one value has little left when its mean is taken off.
        variance, mean = torch.var_mean(y, (2, 3), correction=0, keepdim=True)
        scale = scale[:, :, None, None] * (variance + self.epsilon).rsqrt()
        return torch.addcmul(shift[:, :, None, None], y - mean, scale).to(x.dtype)

    def _prepare(self, dtype: torch.dtype) -> Tensor:
        """The weights as the convolution takes them."""
        assert self.weight is not None
        weight = self.weight * self.gain
        kernel = _up_kernel(weight) if self.up else weight
        return kernel.to(dtype, memory_format=torch.channels_last)


class StyleGAN1(MappedGenerator):
    """A StyleGAN generator; meets `stylegan.Generator`.

    `precision` is the type of the larger feature maps; the smaller ones, styles and statistics stay
    in float32.
    """

    family = "StyleGAN"

    def __init__(self, config: StyleGAN1Config, precision: torch.dtype = torch.float32) -> None:
        widths = config.z_dim, config.w_dim
        super().__init__(*widths, config.mapping_layers, config.mapping_lr, precision)
        self.config = config
        self.resolution = config.resolution
        self.num_layers = 2 * len(config.channels)
        self.const = nn.Parameter(torch.ones(1, config.channels[0], 4, 4))
        layers: list[Layer] = []
        inputs = None
        for level, outputs in enumerate(config.channels):
            side = 4 * 2**level
            layers.append(Layer(config, inputs, outputs, side, up=level > 0))
            layers.append(Layer(config, outputs, outputs, side, up=False))
            inputs = outputs
        self.layers = nn.ModuleList(layers)
        self.rgb_weight = nn.Parameter(normal(3, config.channels[-1], 1, 1))
        self.rgb_bias = nn.Parameter(torch.zeros(3))
        sides = [4 * 2 ** (index // 2) for index in range(self.num_layers)]
        self.noise_shapes = tuple((side, side) for side in sides)
        self.feature_sizes = tuple(sides[::2])

    def synthesis(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise = None
    ) -> Float[Tensor, "b 3 r r"]:
        self.check(ws)
        x = self._maps(ws, noise, self.resolution)
        weight = self.rgb_weight / math.sqrt(self.rgb_weight.shape[1])
        rgb = F.conv2d(x, weight.to(x.dtype)).float()
        return rgb + self.rgb_bias[None, :, None, None]

    def features(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise, size: int
    ) -> Float[Tensor, "b c size size"]:
        self.check(ws, size)
        return self._maps(ws, noise, size).float()

    def _maps(self, ws: Tensor, noise: Noise, size: int) -> Float[Tensor, "b c size size"]:
        x = self.const.expand(len(ws), -1, -1, -1).to(memory_format=torch.channels_last)
        for index, layer in enumerate(self.layers[: 2 * self.feature_sizes.index(size) + 2]):
            assert isinstance(layer, Layer)
            x = x.to(self.precision_at(layer.noise.shape[-1], size))
            x = layer(x, ws[:, index], noise_of(noise, index, layer.noise))
        return x


def _up_kernel(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "i o 4 4"]:
    """For `_up_conv`: of the nine taps, those that fall on copies of one pixel are added up."""
    kernel = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    kernel = kernel[..., 1:, :] + kernel[..., :-1, :]
    return kernel[..., 1:] + kernel[..., :-1]


def _up_conv(
    x: Float[Tensor, "b i h h"], kernel: Float[Tensor, "i o 4 4"]
) -> Float[Tensor, "b o 2*h 2*h"]:
    """Repeat each pixel 2x2, convolve, and blur with [1, 2, 1].

    A transposed convolution with a 4x4 kernel does the first two with less than half the products.
    """
    x = F.conv_transpose2d(x, kernel, stride=2, padding=1)
    taps = torch.tensor([1.0, 2.0, 1.0], device=x.device, dtype=x.dtype) / 4
    channels = x.shape[1]
    blur = torch.outer(taps, taps).expand(channels, 1, 3, 3)
    return F.conv2d(x, blur, padding=1, groups=channels)
