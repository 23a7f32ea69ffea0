"""Anything that turns a small face into larger ones, behind one protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse import superres
from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_tensor
from pulse.superres import PictureConfig
from pulse.superres.weights import REALESRGAN
from pulse.upscale import Precision, UpscaleConfig, Upscaler
from stylegan.memory import keep_freed_memory

Draw: TypeAlias = Callable[[Float[Tensor, "3 l l"]], Float[Tensor, "n 3 r r"]]
"""A small picture in [0, 1] to pictures of one size in [0, 1], one for each candidate."""
TRUTH = "truth"
"""What the original is called, which stands in the table beside the methods."""
FINISHERS = ("srgan-faces-x4", REALESRGAN[0])
"""Networks that enlarge faces that were found; the first of these that is here does."""


class Method(Protocol):
    """A way from a small face to larger ones.

    Its `repr` says all that decides what it makes, so that what was made before is known again. It
    is sent to the process that draws and opened there.
    """

    @property
    def name(self) -> str: ...

    def open(self, lr_size: int, size: int) -> Draw:
        """Get ready to draw faces of `size` pixels from `lr_size`; takes its time.

        Raises:
            InputError, stylegan.CheckpointError: what it needs is not there.
        """
        ...


@dataclass(frozen=True)
class Enlarged:
    """Interpolation."""

    name: Literal["nearest", "bicubic"]

    def open(self, lr_size: int, size: int) -> Draw:
        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "1 3 r r"]:
            return F.interpolate(low[None], (size, size), mode=self.name).clamp(0, 1)

        return draw


@dataclass(frozen=True)
class Network:
    """A network in one pass, or in several where it enlarges less than is asked for.

    Attributes:
        name: of a shipped network, or a file.
        sha256: of the file.
    """

    name: str
    sha256: str

    @classmethod
    def of(cls, name: str) -> Network:
        """
        Raises:
            NetworkError: there is none of that name.
        """
        return cls(name, hashlib.sha256(superres.locate(name).read_bytes()).hexdigest())

    def open(self, lr_size: int, size: int) -> Draw:
        network = superres.load(self.name)
        config = PictureConfig(size / lr_size)

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "1 3 r r"]:
            return to_tensor(superres.upscale(network, to_image(low), config))[None]

        return draw


@dataclass(frozen=True)
class Search:
    """PULSE: a search of a generator's faces, all candidates of it.

    Attributes:
        generator: name or file.
        sha256: of the file.
    """

    name: str
    generator: str
    sha256: str
    config: UpscaleConfig
    device: str = "auto"
    precision: Precision = "auto"

    def open(self, lr_size: int, size: int) -> Draw:
        keep_freed_memory()
        upscaler = Upscaler.load(self.generator, self.device, self.precision)
        upscaler.aids(LRFace(0, torch.zeros(3, lr_size, lr_size)), self.config.search)

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "n 3 r r"]:
            *_, last = upscaler.search(LRFace(0, low), self.config)
            return last.images.cpu()

        return draw


@dataclass(frozen=True)
class Finished:
    """Another method whose faces a network enlarges."""

    base: Method
    network: Network
    larger: int

    @property
    def name(self) -> str:
        return f"{self.base.name}-{self.larger}"

    def open(self, lr_size: int, size: int) -> Draw:
        first, network = self.base.open(lr_size, size), superres.load(self.network.name)
        config = PictureConfig(self.larger / size)

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "n 3 R R"]:
            faces = [to_image(face) for face in first(low)]
            return torch.stack(
                [to_tensor(superres.upscale(network, face, config)) for face in faces]
            )

        return draw


def face_networks(factor: float) -> list[str]:
    """Shipped networks of faces that enlarge by that factor, and Real-ESRGAN's if it is here."""
    here = superres.names()
    faces = [name for name in here if "-faces-" in name and superres.load(name).scale == factor]
    return faces + [name for name in REALESRGAN[:1] if name in here]


def finisher() -> str | None:
    """The network that enlarges faces that were found, if there is one here."""
    here = superres.names()
    return next((name for name in FINISHERS if name in here), None)
