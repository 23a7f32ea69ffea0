"""Picture -> faces -> search -> result: what every front end calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import stylegan
from pulse.degrade import DegradeConfig
from pulse.framing import MIN_LR_SIZE, SMALL, Framing, choose, find_framings
from pulse.images import InputError, Picture, to_tensor
from pulse.latent import LatentPrior
from pulse.search import SearchConfig, State, search
from stylegan import Generator

LR_SIZE = 16
"""Size to which larger pictures are downscaled unless another is asked for."""
MAX_SEED = 2**62
NOTICE = (
    "An imaginary person, drawn by a generative network to match a small picture. "
    "It does not show, and cannot tell, who the small picture shows."
)


@dataclass(frozen=True)
class UpscaleConfig:
    """What to make of each face.

    Attributes:
        candidates: how many faces to search for.
        seed: of the first candidate; the others follow.
        lr_size: side in pixels at which to match; None takes the size of a small picture as it is
            and downscales larger ones to 16; "auto" takes what the pixels hold, at most 64.
        degrade: what happened to the picture; None is plain bicubic, in grey if the picture is.
    """

    candidates: int = 4
    seed: int = 0
    lr_size: int | Literal["auto"] | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    degrade: DegradeConfig | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= 1000:
            raise ValueError("The number of candidates must be between 1 and 1000.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"The seed must be a whole number from 0 to {MAX_SEED}.")

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.candidates)


@dataclass(frozen=True)
class Face:
    """A face to be matched.

    Attributes:
        index: its number in the picture.
        low: [3, l, l] in [0, 1], what the candidates have to downscale to; NaN where it is ignored.
        notes: what was done to get it, one sentence each.
        degrade: how the candidates have to be downscaled.
        framing: where in the picture it is; None if it comes from elsewhere.
    """

    index: int
    low: Float[Tensor, "3 l l"]
    notes: tuple[str, ...] = ()
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    framing: Framing | None = None


def find_faces(
    picture: Picture,
    lr_size: int | Literal["auto"] | None,
    resolution: int,
    name: str = "The picture",
    framings: Sequence[Framing] | None = None,
    degrade: DegradeConfig | None = None,
) -> list[Face]:
    """The faces of a picture, as small as they will be matched.

    Args:
        lr_size, degrade: as in `UpscaleConfig`. A face that is cut out of a small picture is
            matched at what its pixels hold, as with "auto".
        resolution: of the generator, which is the largest size that can be matched.
        name: what messages call the picture.
        framings: which faces, as from `find_framings`; None is the largest.

    Raises:
        InputError: the picture cannot be used like that.
    """
    if framings is None:
        framings = choose(find_framings(picture, name), "largest", name)
    return [_face(picture, lr_size, resolution, name, framing, degrade) for framing in framings]


def _face(
    picture: Picture,
    lr_size: int | Literal["auto"] | None,
    resolution: int,
    name: str,
    framing: Framing,
    degrade: DegradeConfig | None,
) -> Face:
    side, notes = framing.side, [*picture.notes, *framing.notes]
    if framing.square is None:
        name = f"The frame around face {framing.index} of {name}"
    if side < MIN_LR_SIZE:
        raise InputError(
            f"{name} has {picture.image.width}x{picture.image.height} pixels, too few "
            f"to tell a face; at least {MIN_LR_SIZE}x{MIN_LR_SIZE} are needed."
        )
    small = min(picture.image.size) <= SMALL
    if lr_size == "auto" or (lr_size is None and small and framing.square is None):
        most = min(SMALL, resolution)
        size = framing.resolution(picture.image, most)
        held = "no less" if size == most else "about that"
        notes.append(f"It is matched at {size}x{size} pixels, its own hold {held}.")
    elif lr_size is None:
        size = side if small else min(LR_SIZE, side)
    else:
        size = lr_size
    if size > side:
        raise InputError(
            f"{name} has only {side}x{side} pixels and cannot be matched at {size}: leave out "
            "--lr-size or give a smaller one."
        )
    if size > resolution:
        raise InputError(
            f"{name} would be matched at {size} pixels, but the generator draws only {resolution}: "
            f"give --lr-size {LR_SIZE} or another generator."
        )
    image = framing.cut(picture.image, size)
    # Pillow's filters are those of `degrade`, on 8 bits and without a large picture as floats.
    box = degrade is not None and degrade.resampling == "box"
    low = image.resize((size, size), Image.Resampling.BOX if box else Image.Resampling.BICUBIC)
    pixels = to_tensor(low)
    grey = bool((pixels == pixels[:1]).all())
    if degrade is None:
        degrade = DegradeConfig(grey=grey)
        if grey:
            notes.append("It is grey and is matched in grey.")
    elif grey and not degrade.grey:
        notes.append("It is grey but is matched in colour; add grey to --degrade if it should.")
    return Face(framing.index, degrade.target(pixels), tuple(notes), degrade, framing)


class Upscaler:
    """A generator ready to search: loaded once, used for any number of faces."""

    def __init__(
        self, generator: Generator, name: str, sha256: str, prior: LatentPrior | None = None
    ) -> None:
        self.generator, self.name, self.sha256 = generator, name, sha256
        self.prior = prior or LatentPrior.fit(generator)

    @classmethod
    def load(cls, name: str = stylegan.EMBEDDED, device: str = "auto") -> Upscaler:
        """Open a generator by name or file on a device: auto, cpu, cuda or mps.

        One of the zoo that is not here yet is fetched without a word.

        Raises:
            InputError: there is no such device.
            stylegan.CheckpointError: there is no such generator, or it cannot be opened.
        """
        chosen = choose_device(device)
        path = stylegan.locate(name)
        generator = stylegan.load(path, chosen)
        sha256 = stylegan.identity(path)
        prior = LatentPrior.cached(generator, sha256)
        return cls(generator, Path(name).name, sha256, prior)

    def search(
        self, face: Face, config: UpscaleConfig, batch: int | None = None
    ) -> Iterator[State]:
        """Search for candidates; the last state is the answer.

        Args:
            batch: candidates drawn at once, as in `pulse.search.search`.
        """
        degrade = face.degrade.operator(self.generator.resolution, face.low.shape[-1])
        how = config.search.with_noise(face.degrade.noise)
        return search(self.generator, face.low, config.seeds, degrade, how, self.prior, batch)

    def search_many(
        self, jobs: Iterable[tuple[Face, UpscaleConfig]], batch: int | None = None
    ) -> Iterator[tuple[int, State, float]]:
        """Search for many faces; the next is asked for only when there is room for it.

        Args:
            batch: candidates drawn at once; None takes what is good on the device.

        Yields:
            As each is done, which need not be in order: its number in the stream, its last state,
            and the seconds it took.
        """
        for number, (face, config) in enumerate(jobs):
            start = time.monotonic()
            (state,) = deque(self.search(face, config, batch), maxlen=1)
            yield number, state, time.monotonic() - start


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes the fastest that is here."""
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, available in here.items() if available))
    if not here.get(name.partition(":")[0], False):
        raise InputError(f"There is no device {name} here; give --device auto or cpu.")
    return torch.device(name)
