"""StyleGAN3 (Karras et al., NeurIPS 2021, arXiv 2106.12423), both T and R, in plain torch.

The feature maps stand for continuous signals: they start as plane waves, and the activation is
applied at a higher sampling rate between two low-pass filters so that nothing aliases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan.generator import Noise
from stylegan.mapping import ACTIVATION_GAIN, LRELU_SLOPE, Linear, MappedGenerator, normal

RGB_GAIN = 0.25
"""Scale of the output, which keeps the last layer's weights of unit variance."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer of the synthesis network.

    Attributes:
        inputs, outputs: feature maps.
        kernel: side of the convolution, 1 or 3.
        size: side of the output in pixels.
        up, down: factors by which the sampling rate rises before the activation and falls after.
        up_taps, down_taps: lengths of the low-pass filters; 1 is none.
        radial: whether the filter before falling is two-dimensional.
        padding: pixels added at (left, right, top, bottom) with the rise; negative ones are cut.
    """

    inputs: int
    outputs: int
    kernel: int
    size: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    radial: bool
    padding: tuple[int, int, int, int]


@dataclass(frozen=True)
class StyleGAN3Config:
    """Everything that fixes a StyleGAN3 but its weights.

    Attributes:
        layers: from the plane waves to RGB; the last one gives RGB.
        input_channels: plane waves.
        input_size, input_rate, input_bandwidth: side in pixels, sampling rate per side of the
            picture, and frequency up to which waves are kept whole.
        mapping_layers: fully connected layers from z to w.
        mapping_lr: learning rate multiplier of the mapping network, which also scales its weights.
        conv_clamp: largest absolute value that leaves a layer, for half precision; None is any.
    """

    resolution: int
    layers: tuple[LayerConfig, ...]
    input_channels: int
    input_size: int
    input_rate: float
    input_bandwidth: float
    z_dim: int
    w_dim: int
    mapping_layers: int
    mapping_lr: float = 0.01
    conv_clamp: float | None = None


class Waves(nn.Module):
    """The input: plane waves of given frequencies, turned and moved by w (section 3.2)."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        channels = config.input_channels
        self.size, self.rate = config.input_size, config.input_rate
        self.bandwidth = config.input_bandwidth
        self.affine = Linear(config.w_dim, 4)
        self.weight = nn.Parameter(normal(channels, channels))
        self.register_buffer("freqs", normal(channels, 2))
        self.register_buffer("phases", torch.rand(channels))
        self.register_buffer(
            "transform", torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        )

    def forward(self, w: Float[Tensor, "b w_dim"]) -> Float[Tensor, "b c s s"]:
        turn = self.affine(w)
        cos, sin, x, y = (turn / turn[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        # The inverse of turning by (cos, sin) and of moving by (x, y), as rows of matrices.
        rotate = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
        move = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).view(-1, 3, 3)
        transform = rotate @ move @ self.transform

        phases = self.phases + (self.freqs @ transform[:, :2, 2:]).squeeze(2)
        freqs = self.freqs @ transform[:, :2, :2]
        # Waves that the sampling rate cannot carry fade out.
        fade = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
        steps = (torch.arange(self.size, device=w.device) + 0.5 - self.size / 2) / self.rate
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), 2)
        angles = grid @ freqs.transpose(1, 2)[:, None] + phases[:, None, None]
        waves = torch.sin(2 * math.pi * angles) * fade.clamp(0, 1)[:, None, None]
        return (waves @ (self.weight.T / math.sqrt(len(self.weight)))).permute(0, 3, 1, 2)


class Layer(nn.Module):
    """Modulated convolution, then a leaky ReLU at a higher sampling rate (section 3.1)."""

    magnitude: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, layer: LayerConfig, w_dim: int, rgb: bool, clamp: float | None) -> None:
        super().__init__()
        self.layer, self.rgb, self.clamp = layer, rgb, clamp
        self.affine = Linear(w_dim, layer.inputs, bias=1.0)
        self.weight = nn.Parameter(normal(layer.outputs, layer.inputs, layer.kernel, layer.kernel))
        self.bias = nn.Parameter(torch.zeros(layer.outputs))
        # Running mean square of the input, from training, by which it is normalised.
        self.register_buffer("magnitude", torch.ones([]))
        self.register_buffer("up_filter", torch.full([layer.up_taps], 1 / layer.up_taps))
        shape = [layer.down_taps] * (2 if layer.radial else 1)
        self.register_buffer("down_filter", torch.full(shape, 1 / math.prod(shape)))

    def forward(
        self, x: Float[Tensor, "b i h h"], w: Float[Tensor, "b w_dim"]
    ) -> Float[Tensor, "b o r r"]:
        layer, style = self.layer, self.affine(w)
        weight = self.weight / math.sqrt(layer.inputs * layer.kernel**2)
        scale = self.magnitude.rsqrt()
        if self.rgb:
            scale = scale.expand(len(w), layer.outputs)
        else:
            if x.dtype == torch.float16:
                # The product below would overflow. Demodulation takes any factor out again.
                style = style / style.detach().abs().amax(1, keepdim=True).clamp_min(1e-8)
            # As in StyleGAN2, equation 3; the input's magnitude does not count there.
            scale = scale * (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = F.conv2d(
            x * style.to(x.dtype)[:, :, None, None], weight.to(x.dtype), padding=layer.kernel - 1
        )
        bias = self.bias.to(x.dtype)[None, :, None, None]
        x = torch.addcmul(bias, x, scale.to(x.dtype)[:, :, None, None])

        x = _resample(x, self.up_filter * layer.up, layer.up, 1, layer.padding)
        if not self.rgb:
            x = F.leaky_relu(x, LRELU_SLOPE) * ACTIVATION_GAIN
        if self.clamp is not None:
            x = x.clamp(-self.clamp, self.clamp)
        return _resample(x, self.down_filter, 1, layer.down, (0, 0, 0, 0))


class StyleGAN3(MappedGenerator):
    """A StyleGAN3 generator; meets `stylegan.Generator`. It takes no noise.

    `precision` is the type of the larger feature maps; the rest stays in float32.
    """

    family = "StyleGAN3"

    def __init__(self, config: StyleGAN3Config, precision: torch.dtype = torch.float32) -> None:
        widths = config.z_dim, config.w_dim
        super().__init__(*widths, config.mapping_layers, config.mapping_lr, precision)
        self.config = config
        self.resolution = config.resolution
        self.num_layers = len(config.layers) + 1
        self.noise_shapes: tuple[tuple[int, int], ...] = ()
        self.input = Waves(config)
        self.layers = nn.ModuleList(
            Layer(layer, config.w_dim, layer is config.layers[-1], config.conv_clamp)
            for layer in config.layers
        )
        # The sampling rate after each layer, which is the side without the margin, and how many
        # layers lead to each; the last one gives RGB.
        self._rates: list[float] = []
        self._layers_to: dict[int, int] = {}
        rate = config.input_rate
        for count, layer in enumerate(config.layers, start=1):
            rate *= layer.up / layer.down
            self._rates.append(rate)
            cut = layer.size - rate
            if count < len(config.layers) and rate % 1 == 0 and cut >= 0 and cut % 2 == 0:
                self._layers_to[int(rate)] = count
        self.feature_sizes = tuple(sorted(self._layers_to))

    def synthesis(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise = None
    ) -> Float[Tensor, "b 3 r r"]:
        self.check(ws)
        return self._maps(ws, len(self.layers)).float() * RGB_GAIN

    def features(
        self, ws: Float[Tensor, "b L w_dim"], noise: Noise, size: int
    ) -> Float[Tensor, "b c size size"]:
        """See `stylegan.Generator`; the margin around the picture is cut off."""
        self.check(ws, size)
        x = self._maps(ws, self._layers_to[size])
        margin = (x.shape[-1] - size) // 2
        return x[:, :, margin : margin + size, margin : margin + size].float()

    def _maps(self, ws: Tensor, layers: int) -> Float[Tensor, "b c h h"]:
        """What comes out of the first so many layers."""
        x = self.input(ws[:, 0]).to(memory_format=torch.channels_last)
        for index, layer in enumerate(self.layers[:layers]):
            x = layer(
                x.to(self.precision_at(self._rates[index], self.resolution)), ws[:, index + 1]
            )
        return x


def _resample(
    x: Float[Tensor, "b c h w"],
    taps: Float[Tensor, " k"] | Float[Tensor, "k k"],
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
) -> Float[Tensor, "b c y x"]:
    """Put `up - 1` zeros behind every pixel, pad, convolve with `taps`, keep every `down`-th pixel.

    Taps of one dimension are applied along both, one after the other.
    """
    if taps.numel() == up == down == 1 and not any(padding):
        return x * taps.to(x.dtype).square().sum() if taps.ndim == 1 else x * taps.to(x.dtype)
    taps = taps.to(x.dtype)
    left, right, top, bottom = padding
    if taps.ndim == 1:
        x = _filter(x, taps[None, :], (1, up), (1, down), (left, right, 0, 0))
        return _filter(x, taps[:, None], (up, 1), (down, 1), (0, 0, top, bottom))
    return _filter(x, taps, (up, up), (down, down), padding)


def _filter(
    x: Float[Tensor, "b c h w"],
    taps: Float[Tensor, "ky kx"],
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> Float[Tensor, "b c y x"]:
    """As `_resample`, with factors for (height, width)."""
    channels = x.shape[1]
    if max(up) > 1:
        # A transposed convolution leaves out the zeros; it is padded by all taps but one.
        kernel = taps.expand(channels, 1, *taps.shape)
        x = F.conv_transpose2d(x, kernel, stride=up, groups=channels)
        (left, right, top, bottom), (ky, kx) = padding, taps.shape
        x = F.pad(
            x,
            (left - kx + 1, right + up[1] - kx, top - ky + 1, bottom + up[0] - ky),
        )
        return x[:, :, :: down[0], :: down[1]]
    kernel = taps.flip(0, 1).expand(channels, 1, *taps.shape)
    return F.conv2d(F.pad(x, padding), kernel, stride=down, groups=channels)
