"""Anything that turns a small face into larger ones, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse import superres
from pulse.devices import Precision
from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_tensor
from pulse.superres import PictureConfig, weights
from pulse.superres.weights import REALESRGAN
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan.memory import keep_freed_memory

Draw: TypeAlias = Callable[[Float[Tensor, "3 l l"]], Float[Tensor, "n 3 r r"]]
"""A small picture in [0, 1] to pictures of one size in [0, 1], one for each candidate."""
TRUTH = "truth"
"""What the original is called, which stands in the table beside the methods."""


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
        return cls(name, weights.identity(name))

    def open(self, lr_size: int, size: int) -> Draw:
        network = superres.load(self.name)
        config = PictureConfig(size / lr_size)

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "1 3 r r"]:
            return to_tensor(superres.upscale(network, to_image(low), config))[None]

        return draw


@dataclass(frozen=True)
class Search:
    """PULSE: a search of a generator's faces, all candidates of it, larger if `config` says so.

    Attributes:
        generator: name or file.
        sha256: of the file, and of that of a network that makes faces larger.
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


def face_networks(factor: float) -> list[str]:
    """Shipped networks of faces that enlarge by that factor, and Real-ESRGAN's if it is here."""
    here = superres.names()
    faces = [name for name in here if "-faces-" in name and superres.load(name).scale == factor]
    return faces + [name for name in REALESRGAN[:1] if name in here]
