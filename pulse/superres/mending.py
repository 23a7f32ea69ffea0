"""The step to a match: a network that puts what a candidate lacks where a photograph has it.

A search that goes on until a candidate matches leaves what its generator draws well: the last of
the error is mended by stains, halos and lines. So it stops earlier, at a face that is whole. What
the small picture lacks there, `pulse.imaging.back_projection` would add as blurred squares. A
network that enlarges small faces knows more of it: the difference between what it makes of the
input and of the candidate's own small version has edges where the input has them. A second network,
trained by `benchmarks/mending.py`, sees both beside the candidate and takes away outlines that are
no longer there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pulse.imaging.degrade import Degradation, DegradeConfig
from pulse.superres import weights
from pulse.superres.weights import AnyNetwork
from stylegan import Generator
from stylegan.files import whole

SIDE = 128
"""Side in pixels at which faces are mended."""
SMALL, ENLARGER = 16, "srresnet-faces-x8"
"""Side in pixels of the small faces that are enlarged, and by what."""
WEIGHTS = Path(__file__).with_suffix(".safetensors")
WIDTHS = (48, 64, 96, 128)
"""Channels at sides of 64, 32, 16 and 8 pixels."""
LAST = 24
"""Channels at 128 pixels."""
DEPTH = 2
"""Blocks at each side, on the way down and on the way up."""
ROUNDS = 5
"""Of back projection, which colours out of range undo a part of."""
REACH = 6e-3
"""Mean squared error from which faces are mended, about the middle of what the network was trained
for; six times the usual tolerance."""
ASTRAY = 1 / 60, 1 / 20
"""Mean squared errors about a pixel of 32x32, as shares of the square of the face's brightness,
beyond which what was drawn is left out, by and by and altogether, see `in_place`."""
DARKEST = 0.02
"""Added to that square: of a black face not every error counts."""


class MendingNetwork(nn.Module):
    """A U-Net on pixels taken four at a time; what it adds is nought at first."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _conv(36, WIDTHS[0])
        self.down = nn.ModuleList(_blocks(width) for width in WIDTHS)
        pairs = list(pairwise(WIDTHS))
        self.halve = nn.ModuleList(_conv(i, o, 2) for i, o in pairs)
        self.widen = nn.ModuleList(_conv(o, i) for i, o in pairs)
        self.up = nn.ModuleList(_blocks(i) for i, _ in pairs)
        self.narrow = _conv(WIDTHS[0], LAST)
        self.fine = _Block(LAST)
        self.last = _conv(LAST, 3)
        nn.init.zeros_(self.last.weight)

    def forward(
        self,
        images: Float[Tensor, "b 3 128 128"],
        wanted: Float[Tensor, "b 3 128 128"],
        shown: Float[Tensor, "b 3 128 128"],
    ) -> Float[Tensor, "b 3 128 128"]:
        """The pictures, mended.

        Args:
            images: in [0, 1].
            wanted: the small pictures that they are to be, enlarged by another network.
            shown: those that they are now, enlarged likewise.
        """
        x = torch.cat([images, wanted, (wanted - shown) * 4 + 0.5], 1) * 2 - 1
        x = self.first(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        kept: list[Tensor] = []
        for block, halve in zip(self.down, [*self.halve, None], strict=True):
            x = block(x)
            if halve is not None:
                kept.append(x)
                x = halve(x)
        for widen, block in zip(reversed(self.widen), reversed(self.up), strict=True):
            x = F.interpolate(widen(x), scale_factor=2.0, mode="nearest") + kept.pop()
            x = block(x)
        x = F.interpolate(F.leaky_relu(self.narrow(x), 0.1), scale_factor=2.0, mode="nearest")
        return images + wanted - shown + self.last(self.fine(x)).float()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _blocks(width: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(DEPTH)))


class _Block(nn.Module):
    """Two convolutions and what they leave out, which is all at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.1)), 0.1))


def in_place(
    images: Float[Tensor, "b 3 128 128"],
    wanted: Float[Tensor, "b 3 128 128"],
    shown: Float[Tensor, "b 3 128 128"],
) -> tuple[Float[Tensor, "b 3 128 128"], Float[Tensor, "b 3 128 128"]]:
    """The pictures, and what of them is shown, without what is not in its place below the eyes.

    Teeth on the hand before a mouth would be kept as detail. Of the hair above and of the
    background it matters less where what is, and as they are drawn they are sharper. Errors of a
    dark face are smaller and seen as well, so they count for more.

    Args:
        images, wanted, shown: as `MendingNetwork.forward` has them, of known pixels.
    """
    drawn, right = F.avg_pool2d(torch.cat([images, wanted]), 4).chunk(2)
    error = (drawn - right).square().mean(1, keepdim=True)
    around = F.avg_pool2d(F.pad(error, (2,) * 4, mode="replicate"), 5, 1)
    inner = face().to(images.device)
    light = (wanted * inner).mean((1, 2, 3), keepdim=True) / inner.mean()
    least, most = ASTRAY
    share = (around / (light.square() + DARKEST) - least) / (most - least)
    share = F.interpolate(share.clamp(0, 1), scale_factor=4.0, mode="bilinear")
    share = share * oval(0.75, 0.45, middle=0.4).to(images.device)
    return torch.lerp(images, wanted, share), torch.lerp(shown, wanted, share)


def face() -> Float[Tensor, "128 128"]:
    """Where brows, eyes, nose and mouth are in FFHQ's frame: what tells people apart."""
    return oval(0.45, 0.6, middle=0.15)


def oval(across: float, down: float, middle: float, soft: float = 4.0) -> Float[Tensor, "128 128"]:
    """A region of FFHQ's frame, 1 within and 0 without.

    Args:
        across, down: about half its width and height, where 1 is half the picture's.
        middle: where its middle is, from -1 at the top to 1 at the bottom.
        soft: the softer its rim, the less.
    """
    line = torch.linspace(-1, 1, SIDE)
    inner = 1.25 - (line / across) ** 2 - ((line[:, None] - middle) / down) ** 2
    return (inner * soft).clamp(0, 1)


class Mender:
    """Both networks, for what was degraded in one way, as `pulse.search.aids.Mending` has it."""

    reach = REACH

    def __init__(
        self,
        network: MendingNetwork,
        enlarger: AnyNetwork,
        degrade: Degradation,
        inverse: Callable[[Tensor], Tensor],
        places: bool,
    ) -> None:
        """
        Args:
            enlarger: from `SMALL` to `SIDE` pixels.
            degrade, inverse: from faces of `SIDE` pixels to LR, and about its pseudo-inverse.
            places: whether `in_place` applies: what is enlarged is about the mean of what faces
                may be.
        """
        self._network, self._enlarger = network, enlarger
        self._degrade, self._inverse, self._places = degrade, inverse, places

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "b 3 r r"], target: Float[Tensor, "b 3 l l"]
    ) -> Float[Tensor, "b 3 r r"]:
        """Pictures in [0, 1] of at least `SIDE` pixels, mended; finer detail stays what it is.

        One at a time, so that a face comes out the same in any company. The target is NaN where it
        is ignored.
        """
        pairs = zip(images.split(1), target.split(1), strict=True)
        return torch.cat([self._mended(image, low) for image, low in pairs])

    @torch.no_grad()
    def enlarged(self, low: Float[Tensor, "b 3 16 16"]) -> Float[Tensor, "b 3 128 128"]:
        """What the other network makes of small pictures: about the mean of what they may be."""
        return self._enlarger(low.clamp(0, 1)).float()

    def _mended(
        self, image: Float[Tensor, "1 3 r r"], target: Float[Tensor, "1 3 l l"]
    ) -> Float[Tensor, "1 3 r r"]:
        drawn = F.adaptive_avg_pool2d(image, SIDE)
        low = self._degrade(drawn)
        pair = torch.cat([torch.where(target.isnan(), low, target), low]).clamp(0, 1)
        if pair.shape[-1] != SMALL:
            pair = F.interpolate(pair, (SMALL, SMALL), mode="bicubic", antialias=True)
        # With its mirror image, which gets other grain: most of it goes out of the mean.
        enlarged = self.enlarged(torch.cat([pair, pair.flip(3)]))
        images, wanted, shown = torch.cat([drawn, drawn.flip(3)]), enlarged[::2], enlarged[1::2]
        if self._places:
            images, shown = in_place(images, wanted, shown)
        both = self._network(images, wanted, shown)
        mended = torch.lerp(both[:1], both[1:].flip(3), 0.5).clamp(0, 1)
        for _ in range(ROUNDS):
            lacking = (target - self._degrade(mended)).nan_to_num(0)
            mended = (mended + self._inverse(lacking)).clamp(0, 1)
        change, side = mended - drawn, image.shape[-1]
        if side > SIDE:
            change = F.interpolate(change, (side, side), mode="bicubic", align_corners=False)
        return (image + change).clamp(0, 1)


def mender(degrade: DegradeConfig, generator: Generator, size: int) -> Mender | None:
    """What mends a generator's faces, framed as FFHQ's, for small pictures of `size` pixels.

    None where it draws too few pixels, or nothing linear tells what the picture was.
    """
    inverse = degrade.inverse(SIDE, size) if size <= SIDE <= generator.resolution else None
    if inverse is None:
        return None
    network, enlarger = _networks(str(generator.device))
    # A larger picture says itself where things are, and of one that is blurred, grey or partly
    # unknown the other network does not make the mean of faces.
    usual = size == SMALL and degrade == DegradeConfig()
    return Mender(network, enlarger, degrade.operator(SIDE, size), inverse, places=usual)


@cache
def _networks(device: str) -> tuple[MendingNetwork, AnyNetwork]:
    return load().to(device), weights.load(ENLARGER, device)


def load(path: Path = WEIGHTS) -> MendingNetwork:
    """The network that comes with the program, or another one that was saved."""
    network = MendingNetwork()
    network.load_state_dict({name: x.float() for name, x in load_file(path).items()})
    return network.eval().requires_grad_(False)


@cache
def identity() -> str:
    """The sha256 of the file of weights, for records of what made a picture."""
    return weights.identity(WEIGHTS)


def save(network: MendingNetwork, path: Path) -> None:
    """Write it whole, in half precision, or not at all."""
    tensors = {name: x.half().contiguous() for name, x in network.state_dict().items()}
    with whole(path) as file:
        save_file(tensors, file)
