"""StyleGAN2 (Karras et al., CVPR 2020, arXiv 1912.04958), in plain torch.

The weights are kept as the paper trains them (equalised learning rate: unit variance, scaled when
used), so that one class serves training and inference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan.fused import Once, Projection, StyledConvolution, frozen
from stylegan.generator import Noise, noise_of
from stylegan.mapping import ACTIVATION_GAIN, LRELU_SLOPE, Linear, MappedGenerator, normal


@dataclass(frozen=True)
class StyleGAN2Config:
    """Everything that fixes a StyleGAN2 but its weights.

    Attributes:
        channels: feature maps at 4, 8, 16, ... pixels; their number sets the resolution.
        mapping_layers: fully connected layers from z to w.
        mapping_lr: learning rate multiplier of the mapping network, which also scales its weights.
        architecture: `skip` sums an RGB picture from every block, `resnet` adds a shortcut around
            each block, `orig` does neither (section 4.1 of the paper).
        conv_clamp: largest absolute value that leaves a layer, for half precision; None is any.
    """

    channels: tuple[int, ...] = (192, 192, 128, 96, 48, 24)
    z_dim: int = 256
    w_dim: int = 256
    mapping_layers: int = 4
    mapping_lr: float = 0.01
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    conv_clamp: float | None = None

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1)


class StyledConv(nn.Module):
    """3x3 convolution modulated by w, with noise, bias and leaky ReLU; doubles the size if `up`.

    Modulation scales the activations instead of one weight tensor per sample (appendix B of the
    paper shows that both are the same), so that a batch is one ordinary convolution.
    """

    noise: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resolution: int,
        w_dim: int,
        up: bool,
        clamp: float | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(normal(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", normal(1, 1, resolution, resolution))
        self.gain = 1 / math.sqrt(inputs * 9)
        self.output_gain = gain
        self._prepared: Once[tuple[Tensor, Tensor]] = Once()

    def forward(
        self,
        x: Float[Tensor, "b i h h"],
        w: Float[Tensor, "b w_dim"],
        noise: Float[Tensor, "b 1 r r"] | None,
    ) -> Float[Tensor, "b o r r"]:
        style = self.affine(w)
        if x.dtype == torch.float16:
            # The product below would overflow. Demodulation takes any factor out again.
            style = style / style.detach().abs().amax(1, keepdim=True).clamp_min(1e-8)
        weight, energy = self._prepared(self.weight, x.dtype, self._prepare)
        # Equation 3: the factor that brings each output map back to unit standard deviation.
        demodulate = (style.square() @ energy + 1e-8).rsqrt()
        # Leaky ReLU is positively homogeneous, so its gain can be applied before it for nothing.
        gain = ACTIVATION_GAIN * self.output_gain
        scale = demodulate * gain
        bias = self.bias * gain
        if noise is not None:
            noise = noise * (self.noise_strength * gain)
        limit = None if self.clamp is None else self.clamp * self.output_gain

        if frozen(self.weight, self.bias):
            convolve = partial(_convolve, weight=weight, up=self.up)
            adjoint = partial(_adjoint, weight=weight, up=self.up)
            y = StyledConvolution.apply(x, style, scale, noise, bias, limit, convolve, adjoint)
            assert isinstance(y, Tensor)
            return y
        x = _convolve(x * style.to(x.dtype)[:, :, None, None], weight, self.up)
        x = torch.addcmul(
            bias.to(x.dtype)[None, :, None, None], x, scale.to(x.dtype)[:, :, None, None]
        )
        if noise is not None:
            x = x + noise.to(x.dtype)
        x = F.leaky_relu(x, LRELU_SLOPE)
        return x if limit is None else x.clamp(-limit, limit)

    def _prepare(self, dtype: torch.dtype) -> tuple[Float[Tensor, "a b 3 3"], Float[Tensor, "i o"]]:
        """The weights as `_convolve` takes them, and the sums of their squares for equation 3."""
        weight = self.weight * self.gain
        energy = weight.square().sum((2, 3)).T
        if self.up:
            weight = weight.transpose(0, 1)
        return weight.to(dtype, memory_format=torch.channels_last), energy


class ToRGB(nn.Module):
    """1x1 convolution to RGB, modulated by w but not demodulated."""

    def __init__(self, inputs: int, w_dim: int, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(normal(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.gain = 1 / math.sqrt(inputs)

    def forward(
        self, x: Float[Tensor, "b i r r"], w: Float[Tensor, "b w_dim"]
    ) -> Float[Tensor, "b 3 r r"]:
        style = self.affine(w)
        weight = self.weight * self.gain
        if frozen(self.weight):
            rgb = Projection.apply(x, style[:, None] * weight.flatten(1))
            assert isinstance(rgb, Tensor)
        else:
            x = x * style.to(x.dtype)[:, :, None, None]
            rgb = F.conv2d(x, weight.to(x.dtype)).float()
        rgb = rgb + self.bias[None, :, None, None]
        return rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)


class Shortcut(nn.Module):
    """1x1 convolution around a block, which doubles the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(outputs, inputs, 1, 1))
        self.gain = math.sqrt(0.5 / inputs)

    def forward(self, x: Float[Tensor, "b i h h"]) -> Float[Tensor, "b o r r"]:
        return upsample(F.conv2d(x, (self.weight * self.gain).to(x.dtype)))


class Block(nn.Module):
    """One resolution: doubles the size (but at 4x4), convolves, gives its RGB if asked."""

    def __init__(
        self, config: StyleGAN2Config, inputs: int | None, outputs: int, resolution: int
    ) -> None:
        super().__init__()
        residual = config.architecture == "resnet" and inputs is not None
        # The sum of two maps of unit variance is brought back to unit variance.
        gain = math.sqrt(0.5) if residual else 1.0
        w_dim, clamp = config.w_dim, config.conv_clamp
        convs = [StyledConv(outputs, outputs, resolution, w_dim, False, clamp, gain)]
        if inputs is not None:
            convs.insert(0, StyledConv(inputs, outputs, resolution, w_dim, True, clamp))
        self.convs = nn.ModuleList(convs)
        self.shortcut = Shortcut(inputs, outputs) if residual and inputs is not None else None
        shown = config.architecture == "skip" or resolution == config.resolution
        self.to_rgb = ToRGB(outputs, w_dim, clamp) if shown else None


class StyleGAN2(MappedGenerator):
    """A StyleGAN2 generator; meets `stylegan.Generator`.

    `precision` is the type of the larger feature maps (float32, bfloat16 or float16); the smaller
    ones, styles, demodulation and the RGB skip stay in float32.
    """

    family = "StyleGAN2"

    def __init__(self, config: StyleGAN2Config, precision: torch.dtype = torch.float32) -> None:
        widths = config.z_dim, config.w_dim
        super().__init__(*widths, config.mapping_layers, config.mapping_lr, precision)
        self.config = config
        self.resolution = config.resolution
        self.num_layers = 2 * len(config.channels)
        self.const = nn.Parameter(normal(1, config.channels[0], 4, 4))
        inputs = (None, *config.channels)
        blocks = [
            Block(config, i, o, 4 * 2**level)
            for level, (i, o) in enumerate(zip(inputs, config.channels, strict=False))
        ]
        self.blocks = nn.ModuleList(blocks)
        sides = [4 * 2**level for level, block in enumerate(blocks) for _ in block.convs]
        self.noise_shapes = tuple((side, side) for side in sides)
        self.feature_sizes = tuple(sorted(set(sides)))

    def synthesis(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise = None
    ) -> Float[Tensor, "b 3 r r"]:
        self.check(ws)
        _, rgb = self._maps(ws, noise, self.resolution)
        assert rgb is not None
        return rgb

    def features(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise, size: int
    ) -> Float[Tensor, "b c size size"]:
        self.check(ws, size)
        x, rgb = self._maps(ws, noise, size)
        if rgb is None or self.config.architecture != "skip":
            return x.float()
        return torch.cat([rgb, x.float()], 1)

    def _maps(
        self, ws: Tensor, noise: Noise, size: int
    ) -> tuple[Float[Tensor, "b c size size"], Float[Tensor, "b 3 size size"] | None]:
        """Feature maps and RGB after the block of that side."""
        x = self.const.expand(len(ws), -1, -1, -1).to(memory_format=torch.channels_last)
        rgb: Tensor | None = None
        index = 0
        for side, block in zip(self.feature_sizes, self.blocks, strict=True):
            assert isinstance(block, Block)
            x = x.to(self.precision_at(side, size))
            around = None if block.shortcut is None else block.shortcut(x)
            for conv in block.convs:
                assert isinstance(conv, StyledConv)
                x = conv(x, ws[:, index], noise_of(noise, index, conv.noise))
                index += 1
            if around is not None:
                x = around + x
            if block.to_rgb is not None:
                # The RGB layer shares the w of the next block's first convolution.
                new = block.to_rgb(x, ws[:, index])
                rgb = new if rgb is None else upsample(rgb) + new
            if side == size:
                break
        return x, rgb


def _convolve(
    x: Float[Tensor, "b i h h"], weight: Float[Tensor, "a b 3 3"], up: bool
) -> Float[Tensor, "b o r r"]:
    """3x3, with zeros beyond the border; if `up`, doubling the size with the paper's filter.

    Weights are [outputs, inputs, 3, 3], or [inputs, outputs, 3, 3] if `up`.
    """
    if not up:
        return F.conv2d(x, weight, padding=1)
    x = F.conv_transpose2d(x, weight, stride=2)
    return F.conv2d(x, _blur(x.shape[1], x.dtype, x.device), padding=1, groups=x.shape[1])


def _adjoint(
    x: Float[Tensor, "b o r r"], weight: Float[Tensor, "a b 3 3"], up: bool
) -> Float[Tensor, "b i h h"]:
    """Such that <_convolve(x), y> = <x, _adjoint(y)>."""
    if not up:
        return F.conv_transpose2d(x, weight, padding=1)
    # The filter is symmetric.
    x = F.conv2d(x, _blur(x.shape[1], x.dtype, x.device), padding=2, groups=x.shape[1])
    return F.conv2d(x, weight, stride=2)


@cache
def _blur(channels: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "c 1 4 4"]:
    """The paper's [1, 3, 3, 1] filter for every channel, with the gain of doubling the size."""
    with torch.inference_mode(False):  # It is kept for calls in which gradients are wanted.
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        kernel = torch.outer(taps, taps).to(device, dtype)
        return kernel.expand(channels, 1, 4, 4).contiguous()


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2h 2w"]:
    """Double the size with the paper's [1, 3, 3, 1] filter and zeros beyond the border.

    Those weights are bilinear interpolation; padding by a zero makes the border the same as well.
    """
    x = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    return x[:, :, 2:-2, 2:-2]
