"""StyleGAN2 with skip connections (Karras et al., CVPR 2020, arXiv 1912.04958), in plain torch.

The weights are kept as the paper trains them (equalised learning rate: unit variance, scaled when
used), so that one class serves training and inference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan.generator import Noise

LRELU_SLOPE = 0.2
ACTIVATION_GAIN = math.sqrt(2)


@dataclass(frozen=True)
class StyleGAN2Config:
    """Everything that fixes the shapes of a StyleGAN2.

    Attributes:
        channels: feature maps at 4, 8, 16, ... pixels; their number sets the resolution.
        mapping_layers: fully connected layers from z to w.
        mapping_lr: learning rate multiplier of the mapping network, which also scales its weights.
    """

    channels: tuple[int, ...] = (192, 192, 128, 96, 48, 24)
    z_dim: int = 256
    w_dim: int = 256
    mapping_layers: int = 4
    mapping_lr: float = 0.01

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full([outputs], bias / lr))
        self.gain = lr / math.sqrt(inputs)
        self.lr = lr

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr)


class Mapping(nn.Module):
    """z -> w: normalise z to unit second moment, then fully connected layers with leaky ReLU."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        widths = [config.z_dim] + [config.w_dim] * config.mapping_layers
        self.layers = nn.ModuleList(Linear(i, o, lr=config.mapping_lr) for i, o in pairwise(widths))

    def forward(self, z: Float[Tensor, "b z_dim"]) -> Float[Tensor, "b w_dim"]:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LRELU_SLOPE) * ACTIVATION_GAIN
        return x


class StyledConv(nn.Module):
    """3x3 convolution modulated by w, with noise, bias and leaky ReLU; doubles the size if `up`.

    Modulation scales the activations instead of one weight tensor per sample (appendix B of the
    paper shows that both are the same), so that a batch is one ordinary convolution.
    """

    blur: Tensor
    noise: Tensor

    def __init__(self, inputs: int, outputs: int, resolution: int, w_dim: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        kernel = torch.outer(taps, taps).expand(outputs, 1, 4, 4).contiguous()
        self.register_buffer("blur", kernel, persistent=False)
        self.gain = 1 / math.sqrt(inputs * 9)

    def forward(
        self,
        x: Float[Tensor, "b i h h"],
        w: Float[Tensor, "b w_dim"],
        noise: Float[Tensor, "b 1 r r"] | None,
    ) -> Float[Tensor, "b o r r"]:
        style = self.affine(w)
        weight = self.weight * self.gain
        # Equation 3: the factor that brings each output map back to unit standard deviation.
        demodulate = (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        # Leaky ReLU is positively homogeneous, so its gain can be applied before it for nothing.
        scale = demodulate * ACTIVATION_GAIN
        bias = self.bias * ACTIVATION_GAIN

        x = x * style.to(x.dtype)[:, :, None, None]
        weight = weight.to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = F.conv2d(x, self.blur.to(x.dtype), padding=1, groups=x.shape[1])
        else:
            x = F.conv2d(x, weight, padding=1)
        x = torch.addcmul(
            bias.to(x.dtype)[None, :, None, None], x, scale.to(x.dtype)[:, :, None, None]
        )
        if noise is not None:
            x = x + (noise * (self.noise_strength * ACTIVATION_GAIN)).to(x.dtype)
        return F.leaky_relu(x, LRELU_SLOPE)


class ToRGB(nn.Module):
    """1x1 convolution to RGB, modulated by w but not demodulated."""

    def __init__(self, inputs: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.gain = 1 / math.sqrt(inputs)

    def forward(
        self, x: Float[Tensor, "b i r r"], w: Float[Tensor, "b w_dim"]
    ) -> Float[Tensor, "b 3 r r"]:
        style = self.affine(w).to(x.dtype)[:, :, None, None]
        rgb = F.conv2d(x * style, (self.weight * self.gain).to(x.dtype))
        return rgb.float() + self.bias[None, :, None, None]


class Block(nn.Module):
    """One resolution: doubles the size (but at 4x4), convolves, gives its RGB for the skip."""

    def __init__(self, inputs: int | None, outputs: int, resolution: int, w_dim: int) -> None:
        super().__init__()
        convs = [StyledConv(outputs, outputs, resolution, w_dim, up=False)]
        if inputs is not None:
            convs.insert(0, StyledConv(inputs, outputs, resolution, w_dim, up=True))
        self.convs = nn.ModuleList(convs)
        self.to_rgb = ToRGB(outputs, w_dim)


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator; meets `stylegan.Generator`.

    `precision` is the type of the feature maps (float32 or bfloat16); styles, demodulation and the
    RGB skip stay in float32.
    """

    family = "StyleGAN2"
    w_mean: Tensor

    def __init__(self, config: StyleGAN2Config, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.precision = precision
        self.resolution = config.resolution
        self.z_dim, self.w_dim = config.z_dim, config.w_dim
        self.num_layers = 2 * len(config.channels)
        self.mapping_network = Mapping(config)
        self.const = nn.Parameter(torch.randn(1, config.channels[0], 4, 4))
        inputs = (None, *config.channels)
        blocks = [
            Block(i, o, 4 * 2**level, config.w_dim)
            for level, (i, o) in enumerate(zip(inputs, config.channels, strict=False))
        ]
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("w_mean", torch.zeros(config.w_dim))
        sides = [4 * 2**level for level, block in enumerate(blocks) for _ in block.convs]
        self.noise_shapes = tuple((side, side) for side in sides)

    @property
    def device(self) -> torch.device:
        return self.const.device

    def mapping(self, z: Float[Tensor, "b z_dim"]) -> Float[Tensor, "b w_dim"]:
        return self.mapping_network(z)

    def synthesis(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise = None
    ) -> Float[Tensor, "b 3 r r"]:
        if ws.ndim != 3 or ws.shape[1:] != (self.num_layers, self.w_dim):
            raise ValueError(
                f"ws has shape {tuple(ws.shape)}; expected [batch, {self.num_layers}, {self.w_dim}]"
            )
        x = self.const.expand(len(ws), -1, -1, -1)
        x = x.to(self.precision, memory_format=torch.channels_last)
        rgb: Tensor | None = None
        index = 0
        for block in self.blocks:
            assert isinstance(block, Block)
            for conv in block.convs:
                assert isinstance(conv, StyledConv)
                x = conv(x, ws[:, index], self._noise(conv, index, noise))
                index += 1
            # The RGB layer shares the w of the next block's first convolution.
            new = block.to_rgb(x, ws[:, index])
            rgb = new if rgb is None else upsample(rgb) + new
        assert rgb is not None
        return rgb

    @staticmethod
    def _noise(conv: StyledConv, index: int, noise: Noise) -> Tensor | None:
        if noise is None:
            return conv.noise
        return None if isinstance(noise, str) else noise[index]


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2h 2w"]:
    """Double the size with the paper's [1, 3, 3, 1] filter and zeros beyond the border.

    Those weights are bilinear interpolation; padding by a zero makes the border the same as well.
    """
    x = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    return x[:, :, 2:-2, 2:-2]
