"""Picture -> faces -> search -> result: what every front end calls."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import stylegan
from pulse.faces.framing import MIN_LR_SIZE, SMALL, Framing, choose, find_framings
from pulse.imaging.back_projection import back_project
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, Picture, to_tensor
from pulse.search import (
    Aids,
    Job,
    Level,
    SearchConfig,
    State,
    Status,
    follows_schedule,
    search,
    search_many,
)
from pulse.search.coarse import Coarse, saves_steps, useful_sizes
from pulse.search.curvature import Curvature
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error
from stylegan import Generator

LR_SIZE = 16
"""Size to which larger pictures are downscaled unless another is asked for."""
MAX_SEED = 2**62
Tag = TypeVar("Tag")
Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BFLOAT16_FROM = 256
"""Resolution from which `auto` takes bfloat16: below, calls and not products take the time."""
AHEAD = 8
"""Faces that are read ahead, so that those that are matched alike can be searched for together."""
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


@dataclass(frozen=True)
class _Kind:
    """What faces have to have in common to be searched for together."""

    size: int
    degrade: DegradeConfig
    search: SearchConfig

    @classmethod
    def of(cls, face: Face, config: UpscaleConfig) -> _Kind:
        how = config.search.with_noise(face.degrade.noise)
        return cls(face.low.shape[-1], face.degrade, how)


class Upscaler:
    """A generator ready to search: loaded once, used for any number of faces."""

    def __init__(
        self, generator: Generator, name: str, sha256: str, prior: LatentPrior | None = None
    ) -> None:
        self.generator, self.name, self.sha256 = generator, name, sha256
        self.prior = prior or LatentPrior.fit(generator)
        self._coarse: dict[tuple[int, ...], list[Coarse]] = {}
        self._curvature: Curvature | None = None

    @classmethod
    def load(
        cls, name: str = stylegan.EMBEDDED, device: str = "auto", precision: Precision = "auto"
    ) -> Upscaler:
        """Open a generator by name or file on a device: auto, cpu, cuda or mps.

        The precision is that of its larger feature maps, see `choose_precision`. A generator of the
        zoo that is not here yet is fetched without a word.

        Raises:
            InputError: there is no such device.
            stylegan.CheckpointError: there is no such generator, or it cannot be opened.
        """
        chosen = choose_device(device)
        path = stylegan.locate(name)
        generator = stylegan.load(path, chosen)
        generator.precision = choose_precision(precision, generator)
        sha256 = stylegan.identity(path)
        prior = LatentPrior.cached(generator, sha256)
        return cls(generator, Path(name).name, sha256, prior)

    def search(
        self, face: Face, config: UpscaleConfig, batch: int | None = None
    ) -> Iterator[State]:
        """Search for candidates; the last state is the answer, after the exact last step.

        Args:
            batch: candidates drawn at once, as in `pulse.search.search`.
        """
        low, how = face.low, config.search.with_noise(face.degrade.noise)
        degrade = face.degrade.operator(self.generator.resolution, low.shape[-1])
        aids = self.aids(face, how)
        state: State | None = None
        for state in search(
            self.generator,
            low,
            config.seeds,
            degrade,
            config=how,
            prior=self.prior,
            batch=batch,
            aids=aids,
        ):
            yield state
        assert state is not None
        if how.exact:
            yield self.closed(face, state)

    def search_many(
        self, jobs: Iterable[tuple[Face, UpscaleConfig, Tag]], batch: int | None = None
    ) -> Iterator[tuple[Tag, State, float]]:
        """Search for many faces, whose candidates share batches where they are matched alike.

        Each becomes what `search` with the same `batch` would make of it. Of `jobs` only a few are
        taken ahead.

        Args:
            jobs: faces, how to search, and what the caller wants back with the result.
            batch: candidates drawn at once, as in `pulse.search.search`.

        Yields:
            As each is done, which need not be in order: what the caller wanted back, the last
            state, and the seconds since the first candidate began.
        """
        coming = iter(jobs)
        waiting: deque[tuple[_Kind, Face, UpscaleConfig, Tag]] = deque()

        def fill() -> None:
            while len(waiting) < AHEAD and (job := next(coming, None)) is not None:
                face, config, tag = job
                waiting.append((_Kind.of(face, config), face, config, tag))

        def alike(kind: _Kind) -> Iterator[Job[tuple[Face, Tag]]]:
            """The next jobs of that kind, passing over a few others."""
            while True:
                fill()
                same = next((job for job in waiting if job[0] == kind), None)
                if same is None:
                    return
                waiting.remove(same)
                _, face, config, tag = same
                yield Job(face.low, config.seeds, (face, tag))

        fill()
        while waiting:
            kind, first, config, tag = waiting[0]
            if follows_schedule(kind.search.optimiser):  # Its candidates begin together.
                waiting.popleft()
                start = time.monotonic()
                (state,) = deque(self.search(first, config, batch), maxlen=1)
                yield tag, state, time.monotonic() - start
                fill()
                continue
            found = search_many(
                self.generator,
                alike(kind),
                kind.size,
                kind.degrade.operator(self.generator.resolution, kind.size),
                config=kind.search,
                prior=self.prior,
                batch=batch,
                aids=self.aids(first, kind.search),
            )
            for (face, tag), state, seconds in found:
                yield tag, self.closed(face, state) if kind.search.exact else state, seconds

    def closed(self, face: Face, state: State) -> State:
        """A state after the exact last step of the candidates that match.

        Their pictures then downscale to the input up to rounding; `best` and `status` still tell
        of the search. What does not match stays as it is, so that it cannot pass for a match.
        """
        side, size = self.generator.resolution, face.low.shape[-1]
        exact = torch.full_like(state.best, math.nan)
        images, low = state.images.clone(), state.low.clone()
        inverse = face.degrade.inverse(side, size)
        matched = [index for index, status in enumerate(state.status) if status is Status.FOUND]
        if inverse is not None and matched:
            degrade, target = face.degrade.operator(side, size), face.low.to(images.device)
            images[matched] = back_project(images[matched], target, degrade, inverse)
            low[matched] = degrade(images[matched])
            exact[matched] = squared_error(low[matched], target)
        return replace(state, images=images, low=low, exact=exact)

    def aids(self, face: Face, config: SearchConfig) -> Aids:
        """What is known of the generator that helps such a search, worked out once and kept."""
        levels = self._levels(face) if config.coarse else ()
        if not (config.precondition or config.whiten):
            return Aids(levels)
        if self._curvature is None:
            self._curvature = Curvature.cached(self.generator, self.prior, self.sha256)
        known, size = self._curvature, face.low.shape[-1]
        side = known.pictures.shape[-1]
        easy = None
        if config.whiten and size <= side:  # Larger small pictures are not known that well.
            easy = known.easy(face.degrade.operator(side, size))
        return Aids(levels, known.scale() if config.precondition else None, easy)

    def _levels(self, face: Face) -> list[Level]:
        size = face.low.shape[-1]
        sides = useful_sizes(self.generator, size)
        if not sides:
            return []
        key = tuple(sides)
        if key not in self._coarse:
            self._coarse[key] = Coarse.cached(self.generator, self.prior, self.sha256, sides)
        return [
            Level(one, face.degrade.operator(one.size, size), saves_steps(self.generator, one.size))
            for one in self._coarse[key]
        ]


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


def choose_precision(name: Precision, generator: Generator) -> torch.dtype:
    """The precision of that name; `auto` is bfloat16 where that is much faster, else float32.

    That is for large StyleGAN2s, on processors that multiply in bfloat16. Small ones stay in
    float32, and so do the other families: StyleGAN gains little by it, and StyleGAN3's pictures
    would differ most. `benchmarks/network.py` has times and differences.
    """
    if name != "auto":
        return PRECISIONS[name]
    large = generator.resolution >= BFLOAT16_FROM and generator.family == "StyleGAN2"
    fast = large and _multiplies_bfloat16(generator.device)
    return torch.bfloat16 if fast else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # Older versions of torch do not tell; then it is float32, which is right everywhere.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
