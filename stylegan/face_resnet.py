"""dlib's network of faces, in torch: its features judge drawn faces, its descriptors compare them.

The network is King's (dlib_face_recognition_resnet_model_v1, public domain): 29 convolutions in
residual blocks (He et al. 2016) with half of ResNet-34's filters, which give 128 numbers; faces of
one person lie closer than 0.6. dlib computes it for one picture at a time, without derivatives.
The weights are read from dlib's own file in the package `face_recognition_models`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIDE = 150
"""Pixels of the square around the face that the network takes."""
CHANNELS = (32, 64, 128, 256, 256)
"""Of the features at strides of about 4, 9, 18, 37 and 75."""
DESCRIPTOR = 128
FACE = (42.6 / 256, 67.9 / 256, 171.3 / 256)
"""Left and top edge and side of the square that dlib cuts out of a face framed like FFHQ's, the
mean of 200, as parts of the picture."""
_MODEL = "dlib_face_recognition_resnet_model_v1.dat"
# A block of each size keeps it; the first of every size but the first halves it.
_BLOCKS = (3, 4, 3, 3, 1)
_MEANS = (122.782, 117.001, 104.298)
_LAYER = re.compile(rb"\x01\x05con_4|\x01\x07affine_|\x01\x04fc_2")


class DamagedModelError(ValueError):
    """The file with dlib's network is not the one that is expected; the message says what to do."""


class Layer(nn.Module):
    """Frozen convolution with the scale that follows it folded in."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weights: Iterator[Tensor], inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        conv, scale = next(weights), next(weights)
        gamma, beta = scale.split(outputs)
        weight, bias = conv.split([outputs * inputs * size**2, outputs])
        weight = weight.view(outputs, inputs, size, size)
        self.register_buffer("weight", weight * gamma[:, None, None, None])
        self.register_buffer("bias", bias * gamma + beta)

    def forward(self, x: Tensor, stride: int = 1) -> Tensor:
        # dlib pads only where the size is kept.
        padding = self.weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(x, self.weight, self.bias, stride, padding)


class Block(nn.Module):
    """Two convolutions, added to what came in; a halving one adds what came in at half the size."""

    def __init__(self, weights: Iterator[Tensor], inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.first = Layer(weights, inputs, outputs, 3)
        self.second = Layer(weights, outputs, outputs, 3)
        self.stride = 2 if halve else 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x, self.stride)))
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        # dlib adds maps of unlike shape as if the smaller went on with zeros.
        shape = [max(p, q) for p, q in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_widened(x, shape) + _widened(y, shape))


class FaceResNet(nn.Module):
    """Frozen. Pictures are squares of `SIDE` pixels around the face, as dlib's chips are."""

    means: Tensor
    last: Tensor

    def __init__(self, weights: Iterator[Tensor]) -> None:
        super().__init__()
        self.stem = Layer(weights, 3, CHANNELS[0], 7)
        sizes, inputs = [], CHANNELS[0]
        for size, (count, channels) in enumerate(zip(_BLOCKS, CHANNELS, strict=True)):
            blocks = []
            for index in range(count):
                blocks.append(Block(weights, inputs, channels, size > 0 and index == 0))
                inputs = channels
            sizes.append(nn.Sequential(*blocks))
        self.sizes = nn.ModuleList(sizes)
        self.register_buffer("last", next(weights).view(inputs, DESCRIPTOR))
        self.register_buffer("means", torch.tensor(_MEANS).view(3, 1, 1))

    def forward(self, faces: Float[Tensor, "b 3 150 150"]) -> tuple[Float[Tensor, "b c p q"], ...]:
        """Features of faces in [-1, 1], with `CHANNELS` maps of 35, 17, 8, 4 and 2 pixels."""
        x = ((faces + 1) * 127.5 - self.means) / 256
        x = F.max_pool2d(
            F.relu(self.stem(x.contiguous(memory_format=torch.channels_last), 2)), 3, 2
        )
        features = []
        for blocks in self.sizes:
            x = blocks(x)
            features.append(x)
        return tuple(features)

    def describe(self, features: tuple[Float[Tensor, "b c p q"], ...]) -> Float[Tensor, "b 128"]:
        """What dlib's `compute_face_descriptor` gives for the faces that have these features."""
        return features[-1].mean((2, 3)) @ self.last


def face_of(images: Float[Tensor, "b 3 r r"]) -> Float[Tensor, "b 3 150 150"]:
    """What dlib would cut out of pictures that are framed like FFHQ's."""
    left, top, side = (round(part * images.shape[-1]) for part in FACE)
    face = images[:, :, top : top + side, left : left + side]
    return F.interpolate(face, (SIDE, SIDE), mode="bicubic")


def load_face_resnet(device: torch.device | str = "cpu") -> FaceResNet:
    """The network with its published weights.

    Raises:
        DamagedModelError: the file is another one.
    """
    path = model_file(_MODEL)
    try:
        return FaceResNet(_tensors(Path(path).read_bytes())).to(device)
    except (StopIteration, IndexError, RuntimeError) as error:
        raise DamagedModelError(
            f"{path} is not dlib's network of faces: install face_recognition_models again."
        ) from error


def model_file(name: str) -> str:
    """A dlib model file of face_recognition_models, which cannot be imported any more.

    `align/landmarks.py` has the same two lines, since neither package knows the other.
    """
    package = "face_recognition_models"
    return str(distribution(package).locate_file(f"{package}/models/{name}"))


def _tensors(file: bytes) -> Iterator[Tensor]:
    """Numbers of each convolution, scale and product, in the file's order, first layer first.

    dlib writes a layer's name, its numbers and its settings; a tensor as a version, four sizes and
    float32. Nothing else of the file is needed, since the network's shape is known.
    """
    at = 0
    while found := _LAYER.search(file, at):
        at = found.end()
        if found.group().endswith(b"fc_2"):
            for _ in range(2):  # Numbers out and in.
                _, at = _integer(file, at)
        count = 1
        _, at = _integer(file, at)
        for _ in range(4):
            size, at = _integer(file, at)
            count *= size
        # Skipped as a whole: a layer's name could stand in it by chance.
        yield torch.frombuffer(bytearray(file[at : at + 4 * count]), dtype=torch.float32)
        at += 4 * count


def _integer(file: bytes, at: int) -> tuple[int, int]:
    """dlib's unsigned integers: how many bytes follow, and these, the least first."""
    end = at + 1 + file[at]
    return int.from_bytes(file[at + 1 : end], "little"), end


def _widened(x: Tensor, shape: list[int]) -> Tensor:
    missing = [size - own for size, own in zip(shape, x.shape[1:], strict=True)]
    return F.pad(x, [part for n in reversed(missing) for part in (0, n)]) if any(missing) else x
