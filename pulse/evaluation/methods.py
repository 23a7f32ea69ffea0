"""Anything that turns a small face into larger ones, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse import superres
from pulse.devices import Precision
from pulse.faces.prepare import LRFace
from pulse.superres import PictureConfig, weights
from pulse.superres.pictures import LARGEST_SCALE, upscale_colours
from pulse.superres.weights import REALESRGAN
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan.memory import keep_freed_memory

Draw: TypeAlias = Callable[[Float[Tensor, "3 l l"]], Float[Tensor, "n 3 r r"]]
"""A small picture in [0, 1] to pictures of one size in [0, 1], one for each candidate."""
TRUTH = "truth"
"""What the original is called, which stands in the table beside the methods."""
FINISHED = 512
"""Side in pixels to which a network makes the faces of a search larger."""
STAND_INS = ("srresnet-x4", "srgan-x4")
"""Networks of photos, in pixels and as a GAN, where none of faces enlarges by a factor."""


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
        configs = [PictureConfig(scale) for scale in _scales(size / lr_size)]

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "1 3 r r"]:
            sr = low[None]
            for config in configs:
                sr = upscale_colours(network, sr, config)
            return sr

        return draw


@dataclass(frozen=True)
class Search:
    """PULSE: a search of a generator's faces, all candidates of it, larger if `config` says so.

    Attributes:
        generator: name or file.
        sha256: of the file, and of those of networks that mend faces and make them larger.
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
        upscaler.prepare(LRFace(0, torch.zeros(3, lr_size, lr_size)), self.config.search)

        def draw(low: Float[Tensor, "3 l l"]) -> Float[Tensor, "n 3 r r"]:
            *_, last = upscaler.search(LRFace(0, low), self.config)
            return last.images.cpu()

        return draw


def finished(search: Search, network: str) -> Search:
    """A search whose faces a network makes larger, as `run --size` does."""
    config = replace(search.config, size=FINISHED, finish=network)
    both = f"{search.sha256} {weights.identity(network)}"
    return replace(search, name=f"{search.name}-{FINISHED}", sha256=both, config=config)


def face_networks(factor: float) -> list[str]:
    """What enlarges faces by that factor: shipped networks, and Real-ESRGAN's if it is here.

    Those of faces do so in one pass, which they were trained for. Where there is none of that
    factor, two of photos stand in, in several passes.
    """
    here = superres.names()
    faces = [name for name in here if "-faces-" in name and superres.load(name).scale == factor]
    others = REALESRGAN[:1] if faces else (*STAND_INS, *REALESRGAN[:1])
    return faces + [name for name in others if name in here]


def _scales(factor: float) -> list[float]:
    """Factors that a picture may be enlarged by at once and that together make a larger one."""
    found = []
    while factor > LARGEST_SCALE:
        found.append(float(LARGEST_SCALE))
        factor /= LARGEST_SCALE
    return [*found, factor]
