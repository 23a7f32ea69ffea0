"""Whether a picture looks like a face, or like one that has fallen apart.

A match tells how near a candidate comes to the input, not whether anybody would take it for a face.
A discriminator cannot tell either: it measures how usual a picture is, and a generator learns to
please it. So a network of its own, trained by `benchmarks/plausibility.py` on whole faces and on
broken ones, scores a picture, and its score is read as the share of real faces that score less. It
looks at the picture itself, and at what dlib's network of faces makes of it, which has seen more
faces, and of more kinds, than can be shown to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import inf, isnan
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stylegan import zoo
from stylegan.face_resnet import CHANNELS, FaceResNet, face_of, load_face_resnet
from stylegan.files import whole

SIDE = 128
"""Side in pixels at which pictures are judged."""
BROKEN = 0.01
"""A face than which a smaller share of real faces looks worse is called broken."""
FRAMED = ("faces", "faces of celebrities")
"""What those generators of the zoo draw of which it can be told, in its words."""
WEIGHTS = Path(__file__).parent / "weights" / "plausibility.safetensors"
QUANTILES = "quantiles"
"""Name under which the scores of real faces lie beside the weights."""
WIDTHS = (32, 64, 96, 96)
"""Channels at sides of 32, 16, 8 and 4 pixels."""
PLACES = 4
"""Side in places of the maps that are read at last."""
LOOKED_AT, READ = slice(1, 4), 32
"""Sizes of dlib's features that are looked at, and channels that are read of each."""
AT_ONCE = 32
"""Pictures that are judged together, so that memory is bounded."""


class FaceNetwork(nn.Module):
    """Scores pictures: the higher, the more like a face. Below 0.4 million parameters of its own.

    At 4x4 pixels each place still knows where in FFHQ's frame it is, which a mean over places would
    forget; so a head reads the whole map. dlib's features are of the face alone, and fixed.
    """

    def __init__(self) -> None:
        super().__init__()
        # Four pixels as one: at full size little is computed, and that is most of the time.
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        before = 12
        for width in WIDTHS:
            layers += [_Block(before, width, 2), _Block(width, width, 1)]
            before = width
        self.body = nn.Sequential(*layers)
        self.readers = nn.ModuleList(_reader(inputs) for inputs in CHANNELS[LOOKED_AT])
        self.head = nn.Linear(PLACES**2 * (before + READ * len(self.readers)), 1)

    def forward(self, images: Float[Tensor, "b 3 128 128"]) -> Float[Tensor, " b"]:
        with torch.no_grad():
            features = _face_resnet()(face_of(images))[LOOKED_AT]
        read = [reader(x) for reader, x in zip(self.readers, features, strict=True)]
        return self.head(torch.cat([self.body(images), *read], 1).flatten(1)).squeeze(1)


@cache
def _face_resnet() -> FaceResNet:
    """Not a part of the network, since it comes in a file of its own."""
    return load_face_resnet()


def _reader(inputs: int) -> nn.Sequential:
    """What is worth knowing of dlib's features in each place."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, READ, 1),
        nn.LeakyReLU(0.1),
        nn.AdaptiveAvgPool2d(PLACES),
    )


class _Block(nn.Module):
    """A convolution and what it leaves out, if the sizes allow."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.skip = stride == 1

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        y = F.leaky_relu(self.norm(self.conv(x)), 0.1)
        return x + y if self.skip else y


def at_side(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 128 128"]:
    """Pictures of any size as the network takes them: averaged, or enlarged bicubically."""
    if min(images.shape[-2:]) >= SIDE:
        return F.adaptive_avg_pool2d(images, SIDE)
    return F.interpolate(images, (SIDE, SIDE), mode="bicubic", align_corners=False)


class Judge:
    """The network with what real faces get from it.

    Attributes:
        network: in evaluation mode.
        quantiles: [q], ascending, evenly spaced quantiles of the scores of real faces that it was
            not trained on.
    """

    def __init__(self, network: FaceNetwork, quantiles: Float[Tensor, " q"]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.quantiles = quantiles

    @torch.no_grad()
    def score(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """The network's logits, averaged over a picture and its mirror image.

        Which way somebody looks says nothing, and the mean wavers less. On the CPU, since it is
        small.
        """
        scores: list[Tensor] = []
        for part in images.detach().split(AT_ONCE):
            x = at_side(part.float().cpu()).clamp(-1, 1)
            scores.append((self.network(x) + self.network(x.flip(3))) / 2)
        return torch.cat(scores)

    def plausibility(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Share of real faces that look worse, from 0 to 1; NaN for pictures that are not finite.

        Args:
            images: in [-1, 1], framed as FFHQ does, of any size.
        """
        score, steps = self.score(images), len(self.quantiles) - 1
        above = torch.searchsorted(self.quantiles, score.contiguous()).clamp(1, steps)
        low, high = self.quantiles[above - 1], self.quantiles[above]
        share = (above - 1 + ((score - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)) / steps
        finite = images.detach().isfinite().flatten(1).all(1).cpu()
        return torch.where(finite, share, torch.nan)


@cache
def load(path: Path = WEIGHTS) -> Judge:
    """The judge that comes with the program, or another one that was saved."""
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    quantiles = tensors.pop(QUANTILES)
    network = FaceNetwork()
    counts = {k: v for k, v in network.state_dict().items() if not v.is_floating_point()}
    network.load_state_dict(counts | tensors)  # Batches are not counted in the file.
    return Judge(network, quantiles)


def save(judge: Judge, path: Path) -> None:
    """Write it whole, its weights in half precision, or not at all."""
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in judge.network.state_dict().items()
        if tensor.is_floating_point()
    }
    with whole(path) as file:
        save_file({**tensors, QUANTILES: judge.quantiles.float()}, file)


def can_tell(generator: str) -> bool:
    """Whether the judge knows what that generator draws: photographs of faces, framed as FFHQ's.

    Args:
        generator: its name; one that is not in the zoo is taken to draw such faces.
    """
    model = zoo.find(generator)
    return model is None or model.draws in FRAMED


def is_broken(share: float | None) -> bool:
    """Whether a face of that plausibility has fallen apart; not where it cannot be told."""
    return share is not None and share < BROKEN


def in_words(share: float | None) -> str:
    """A plausibility as front ends say it; nothing where it cannot be told."""
    if share is None:
        return ""
    return "looks broken" if is_broken(share) else f"looks like a face: {share:.0%}"


def ranking(
    found: Sequence[bool], shares: Sequence[float | None], errors: Sequence[float]
) -> list[int]:
    """Indices of candidates, the best first: what matches by plausibility, the rest by error.

    Args:
        found: whether each matches.
        shares: the plausibility of each; None, where it cannot be told, counts as 0.
        errors: of each, which also tells equals apart.
    """

    def place(index: int) -> tuple[bool, float, float]:
        share = shares[index] if found[index] else None
        error = errors[index]
        return not found[index], -(share or 0.0), inf if isnan(error) else error

    return sorted(range(len(errors)), key=place)
