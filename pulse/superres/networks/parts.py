"""What the networks have in common: what may be asked of each, and the layers they share."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Network(Protocol):
    """A network that upscales in one pass, whatever family it comes from.

    Attributes:
        family: the architecture, for example "SRResNet".
        scale: how many times as wide and as high its pictures are.
        reach: pixels of the small picture, in each direction, that a result depends on.
        grid: a part of a picture must begin at a multiple of so many pixels to come out as it
            does in the whole.
        floats: numbers that are held at once for each pixel of the small picture, about.
    """

    family: str
    scale: int
    reach: int
    grid: int
    floats: int

    def __call__(self, lr: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h*s w*s"]:
        """Small pictures in [0, 1] to large ones, nominal range [0, 1], unclamped, float32."""
        ...


class ConfigError(ValueError):
    """A network of such sizes cannot be; the message says why."""


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size of the picture."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class ToColours(nn.Conv2d):
    """The last convolution, to three channels, of a large kernel.

    Processors convolve to 16 channels in the time of 3. So a kernel of 9x9 is taken as nine columns
    of 9x1, each to channels of its own, whose results are then shifted and added: the same sums in
    a third of the time.
    """

    def __init__(self, inputs: int, kernel: int) -> None:
        super().__init__(inputs, 3, kernel, padding=kernel // 2)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        side, width = self.kernel_size[0], input.shape[-1]
        if side <= 3:
            return super().forward(input)
        columns = self.weight.permute(3, 0, 1, 2).flatten(0, 1)[..., None]
        parts = F.conv2d(input, columns, padding=side // 2).unflatten(1, (side, 3))
        made = sum(parts[:, n, ..., n : n + width] for n in range(side))
        assert isinstance(made, Tensor)
        return made if self.bias is None else made + self.bias[:, None, None]


def shrink_(module: nn.Module, factor: float = 0.1) -> None:
    """He's initialisation times a factor.

    At a tenth, residual blocks without batch norm begin near the identity: Wang et al. 2018
    (ESRGAN), section 3.1, "smaller initialization".
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and not part.weight.is_meta:
            nn.init.kaiming_normal_(part.weight)
            with torch.no_grad():
                part.weight.mul_(factor)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def near_identity_(layer: nn.Conv2d) -> nn.Conv2d:
    """Make a convolution begin as the identity and a tenth of He's initialisation.

    So a stack without residual connections begins as one with them. Where its activations begin
    linear, too, gradients stay as alike from pixel to pixel as in a shallow network (Balduzzi et
    al. 2017, "The shattered gradients problem", section 4).
    """
    if not layer.weight.is_meta:
        shrink_(layer)
        with torch.no_grad():
            layer.weight.add_(nn.init.dirac_(torch.empty_like(layer.weight)))
    return layer


def zero_(layer: nn.Conv2d) -> nn.Conv2d:
    """Make a last convolution begin with nothing, so that what it is added to is the result."""
    if not layer.weight.is_meta:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def icnr_(layer: nn.Conv2d, factor: int) -> nn.Conv2d:
    """Make a convolution before a pixel shuffle begin as nearest-neighbour upscaling.

    All factor^2 channels that become one pixel's neighbours get the same weights, so that nothing
    of a checkerboard is there to begin with (Aitken et al. 2017, "Checkerboard artifact free
    sub-pixel convolution", section 3.2).
    """
    if layer.weight.is_meta:
        return layer  # Laid out for weights that come from a file.
    with torch.no_grad():
        first = torch.empty(len(layer.weight) // factor**2, *layer.weight.shape[1:])
        nn.init.kaiming_normal_(first)
        layer.weight.copy_(first.repeat_interleave(factor**2, 0))
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def steps_of(scale: int) -> tuple[int, ...]:
    """The stages of upsampling: 8 is 2, 2, 2 and 3 is 3.

    Raises:
        ConfigError: it is no product of twos and threes.
    """
    steps, rest = [], scale
    for step in (2, 3):
        while rest > 1 and rest % step == 0:
            steps.append(step)
            rest //= step
    if scale < 1 or rest != 1:
        raise ConfigError(f"a network cannot upscale by {scale}: take 1, 2, 3, 4, 6 or 8")
    return tuple(steps)


def bicubic(x: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h*s w*s"]:
    """Upscaling by Keys' cubic with a = -0.5, as in Pillow and MATLAB.

    That is what torch calls antialiased; without, its kernel is that of a = -0.75 (OpenCV's).
    """
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=float(scale), mode="bicubic", antialias=True)


def bilinear(x: Float[Tensor, "b c h w"], scale: int) -> Float[Tensor, "b c h*s w*s"]:
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)


def padded(x: Float[Tensor, "b c h w"], grid: int) -> Float[Tensor, "b c p q"]:
    """The picture with its last row and column repeated until its sides are multiples of `grid`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % grid, 0, -height % grid), mode="replicate")


def dtype_of(module: nn.Module) -> torch.dtype:
    """The type that a module's weights have, and its inputs are to have."""
    return next(module.parameters()).dtype


def wants_gradient(x: Tensor, module: nn.Module) -> bool:
    """Whether what is computed now will be differentiated."""
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(p.requires_grad for p in module.parameters())
