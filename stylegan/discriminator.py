"""The network that judges pictures while a generator is trained."""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan.mapping import ACTIVATION_GAIN, LRELU_SLOPE, Linear, normal

BLOCK_TENSORS = 5
"""Of each block: two convolutions with biases, and one without."""


class Conv(nn.Module):
    """Convolution with equalised learning rate and zero padding that keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Float[Tensor, "b i h w"], gain: float = 1.0) -> Float[Tensor, "b o h w"]:
        weight = (self.weight * (self.gain * gain)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * gain).to(x.dtype)
        return F.conv2d(x, weight, bias, padding=self.weight.shape[-1] // 2)


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LRELU_SLOPE)


class Block(nn.Module):
    """Residual block that halves the size.

    This differs from the paper in the filter: 2x2 averages instead of [1, 3, 3, 1], which costs a
    third on a CPU; the generator, whose output is what counts, keeps the paper's filter.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3)
        self.skip = Conv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv0(x, gain=ACTIVATION_GAIN))
        # The two branches are added with weight 1 / sqrt(2) each, which cancels the gain.
        y = activate(self.conv1(F.avg_pool2d(y, 2)))
        return y + self.skip(F.avg_pool2d(x, 2), gain=math.sqrt(0.5))


class Discriminator(nn.Module):
    """Residual discriminator of StyleGAN2 on patches.

    The picture is cut into patches of `patch` x `patch` pixels that become channels, so that the
    body works at resolution / patch. A body trained at one size therefore serves the next one
    unchanged, see `grow`.
    """

    def __init__(self, channels: tuple[int, ...], patch: int = 1) -> None:
        """`channels` runs from 4x4 up to the body's resolution, as in the generator."""
        super().__init__()
        self.channels, self.patch = channels, patch
        self.stem = Conv(3 * patch**2, channels[-1], 3)
        down = channels[::-1]
        self.blocks = nn.ModuleList(Block(i, o) for i, o in pairwise(down))
        self.conv = Conv(channels[0] + 1, channels[0], 3)
        self.hidden = Linear(channels[0] * 16, channels[0])
        self.out = Linear(channels[0], 1)
        self.precision = torch.float32

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> "Discriminator":
        """The discriminator whose weights those are, its sizes read off them.

        Raises:
            KeyError, RuntimeError: they are of something else.
        """
        stem = state["stem.weight"]
        blocks = sum(name.startswith("blocks.") for name in state) // BLOCK_TENSORS
        narrower = (len(state[f"blocks.{index}.conv1.weight"]) for index in range(blocks))
        judge = cls((len(stem), *narrower)[::-1], math.isqrt(stem.shape[1] // 3))
        judge.load_state_dict(state)
        return judge

    @property
    def resolution(self) -> int:
        return 2 ** (len(self.channels) + 1) * self.patch

    def forward(self, images: Float[Tensor, "b 3 r r"]) -> Float[Tensor, " b"]:
        """Logits, positive for what looks real; every four in a row share their statistics."""
        x = F.pixel_unshuffle(images, self.patch)
        x = x.to(self.precision, memory_format=torch.channels_last)
        x = activate(self.stem(x, gain=ACTIVATION_GAIN))
        for block in self.blocks:
            x = block(x)
        x = torch.cat([x, self._group_deviation(x)], 1)
        x = activate(self.conv(x, gain=ACTIVATION_GAIN)).float().flatten(1)
        return self.out(activate(self.hidden(x)) * ACTIVATION_GAIN).flatten()

    @staticmethod
    def _group_deviation(x: Tensor) -> Tensor:
        """Minibatch standard deviation (Karras et al. 2018, section 3): one number per group."""
        size = math.gcd(len(x), 4)
        groups = x.float().unflatten(0, (-1, size))
        deviation = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        deviation = deviation.repeat_interleave(size)[:, None, None, None]
        return deviation.to(x.dtype).expand(-1, 1, *x.shape[2:])

    def grow(self) -> "Discriminator":
        """The same judge for twice the resolution: it starts by averaging 2x2 pixels.

        Its output on a picture equals this one's on the picture box-averaged to half the size, so
        nothing is forgotten and the finer detail can be learned from the first step on.
        """
        grown = Discriminator(self.channels, self.patch * 2)
        state = {k: v for k, v in self.state_dict().items() if k != "stem.weight"}
        grown.load_state_dict(state, strict=False)
        stem = self.stem.weight.detach() * self.stem.gain
        p, q = self.patch, self.patch * 2
        # Channel order of pixel_unshuffle: colour, row in the patch, column in the patch.
        coarse = stem.reshape(len(stem), 3, p, 1, p, 1, 3, 3)
        fine = coarse.expand(-1, -1, -1, 2, -1, 2, -1, -1) / 4
        weight = fine.reshape(len(stem), 3 * q * q, 3, 3) / grown.stem.gain
        grown.stem.weight.data.copy_(weight)
        grown.precision = self.precision
        return grown.to(self.stem.weight.device)
