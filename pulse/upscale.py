"""Picture -> faces -> search -> result: what every front end calls."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F

import stylegan
from pulse.devices import Precision, choose_device, choose_precision, network_precision
from pulse.faces.prepare import LRFace
from pulse.guide import Guide, completed
from pulse.imaging.back_projection import back_project
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, setting
from pulse.known import Known, operator
from pulse.search import (
    Job,
    SearchConfig,
    Start,
    State,
    Status,
    follows_schedule,
    search,
    search_many,
)
from pulse.search.cache import precision_of
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error
from pulse.second_look import second_look
from pulse.superres.finish import AUTO, LARGEST, OFF, Finisher, held, wanted_size
from pulse.superres.weights import REALESRGAN
from stylegan import Generator

MAX_SEED = 2**62
Tag = TypeVar("Tag")
SECOND_PASS = 1024
"""Side in pixels up to which a second pass makes a face larger for a photo."""
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
        size: side in pixels of the faces that match, for which a network makes them larger; None
            leaves them as the generator draws them, unless `finish` names a network.
        finish: that network, by name or file; "auto" takes the best that is here, "off" none.
    """

    candidates: int = 4
    seed: int = 0
    lr_size: int | Literal["auto"] | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    degrade: DegradeConfig | None = None
    size: int | None = None
    finish: str = AUTO

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= LARGEST:
            raise ValueError(f"Faces can have up to {LARGEST} pixels, not {self.size}.")
        if self.size is not None and self.finish == OFF:
            raise InputError(
                f"A larger face needs a network: give {setting('finish')} auto, or leave out "
                f"{setting('size')}."
            )
        if not 1 <= self.candidates <= 1000:
            raise ValueError("The number of candidates must be between 1 and 1000.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"The seed must be a whole number from 0 to {MAX_SEED}.")

    @property
    def finishes(self) -> bool:
        """Whether a network makes faces larger."""
        return self.size is not None or self.finish not in (AUTO, OFF)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.candidates)


@dataclass(frozen=True)
class _Kind:
    """What faces have to have in common to be searched for together."""

    size: int
    degrade: DegradeConfig
    search: SearchConfig

    @classmethod
    def of(cls, face: LRFace, config: UpscaleConfig) -> _Kind:
        how = config.search.with_noise(face.degrade.noise)
        return cls(face.low.shape[-1], face.degrade, how)


class Upscaler:
    """A generator ready to search: loaded once, used for any number of faces."""

    def __init__(
        self, generator: Generator, name: str, sha256: str, prior: LatentPrior | None = None
    ) -> None:
        self.generator, self.name, self.sha256 = generator, name, sha256
        self.prior = prior or LatentPrior.fit(generator)
        self.known = Known(generator, name, sha256, self.prior)
        self._finishers: dict[str, Finisher] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        name: str,
        device: torch.device,
        precision: Precision = "auto",
        prior: LatentPrior | None = None,
    ) -> Upscaler:
        """The generator of a file, however it came here.

        Args:
            name: what records call it.
            precision: of its larger feature maps, see `choose_precision`.
            prior: the fit to it, if that is known; else it is made, or was kept.

        Raises:
            stylegan.CheckpointError: it cannot be opened.
        """
        generator = stylegan.load(path, device)
        generator.precision = choose_precision(precision, generator)
        sha256 = stylegan.identity(path)
        if prior is not None:
            prior = prior.to(device)
        return cls(generator, name, sha256, prior or LatentPrior.cached(generator, sha256))

    @property
    def precision(self) -> str:
        """Type of the generator's larger feature maps, as records say it."""
        return precision_of(self.generator)

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
        return cls.open(stylegan.locate(name), Path(name).name, chosen, precision)

    def search(
        self,
        face: LRFace,
        config: UpscaleConfig,
        batch: int | None = None,
        start: Start | None = None,
    ) -> Iterator[State]:
        """Search for candidates; the last states, `finishing`, are the answer.

        Args:
            batch: candidates drawn at once, as in `pulse.search.search`.
            start: where they begin, one for each of `config.seeds`; None draws that, and anew for
                those that come to look broken.
        """
        state: State | None = None
        for state in self._searching(face, config, batch, Start.of(start or config.seeds)):
            yield state
        assert state is not None
        if start is None:
            for last in self._second_look(face, state, config, batch):
                yield (state := last)
        yield from self.finishing(face, state, config)

    def ready(self, face: LRFace, config: SearchConfig) -> bool:
        """Whether all is worked out or read that such a search needs; if not, it takes a while."""
        _, first, how = self._first(face, config)
        return self.known.ready(first, how)

    def prepare(self, face: LRFace, config: SearchConfig) -> None:
        """Work that out."""
        _, first, how = self._first(face, config)
        self.known.aids(first, how)

    def _first(
        self, face: LRFace, config: SearchConfig
    ) -> tuple[Guide | None, LRFace, SearchConfig]:
        """What guides a search, what is searched for first, and how."""
        how = config.with_noise(face.degrade.noise)
        guide = Guide.of(self.known, face, how)
        return (None, face, how) if guide is None else (guide, guide.larger(face), guide.search)

    def _searching(
        self, face: LRFace, config: UpscaleConfig, batch: int | None, start: Start
    ) -> Iterator[State]:
        """The search for a face, or both of them."""
        guide, first, how = self._first(face, config.search)
        states = self._by_itself(first, how, batch, start)
        if guide is None:
            yield from states
            return
        state: State | None = None
        for state in guide.followed(states, face.low):
            yield state
        assert state is not None
        yield from completed(state, start, partial(self._by_itself, face, guide.rest, batch))

    def _by_itself(
        self, face: LRFace, how: SearchConfig, batch: int | None, start: Start
    ) -> Iterator[State]:
        """One search, for just that picture."""
        degrade = operator(face.degrade, self.generator.resolution, face.low.shape[-1])
        aids = self.known.aids(face, how)
        return search(self.generator, face.low, start, degrade, how, self.prior, batch, aids)

    def _second_look(
        self, face: LRFace, state: State, config: UpscaleConfig, batch: int | None
    ) -> Iterator[State]:
        """States of `second_look`; none where somebody waits who said for how long."""
        if config.search.time_limit is None:
            again = partial(self._searching, face, config, batch)
            yield from second_look(state, config.seeds, again)

    def search_many(
        self, jobs: Iterable[tuple[LRFace, UpscaleConfig, Tag]], batch: int | None = None
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
        waiting: deque[tuple[_Kind, LRFace, UpscaleConfig, Tag]] = deque()

        def fill() -> None:
            while len(waiting) < AHEAD and (job := next(coming, None)) is not None:
                face, config, tag = job
                waiting.append((_Kind.of(face, config), face, config, tag))

        def alike(
            kind: _Kind, guide: Guide | None
        ) -> Iterator[Job[tuple[LRFace, UpscaleConfig, Tag]]]:
            """The next jobs of that kind, passing over a few others."""
            while True:
                fill()
                same = next((job for job in waiting if job[0] == kind), None)
                if same is None:
                    return
                waiting.remove(same)
                _, face, config, tag = same
                first = face if guide is None else guide.larger(face)
                yield Job(first.low, config.seeds, (face, config, tag))

        fill()
        while waiting:
            kind, face, config, tag = waiting[0]
            if follows_schedule(kind.search.optimiser):  # Its candidates begin together.
                waiting.popleft()
                start = time.monotonic()
                (state,) = deque(self.search(face, config, batch), maxlen=1)
                yield tag, state, time.monotonic() - start
                fill()
                continue
            guide, first, how = self._first(face, config.search)
            size = first.low.shape[-1]
            found = search_many(
                self.generator,
                alike(kind, guide),
                size,
                operator(first.degrade, self.generator.resolution, size),
                config=how,
                prior=self.prior,
                batch=batch,
                aids=self.known.aids(first, how),
            )
            for (face, config, tag), state, seconds in found:
                start = time.monotonic()
                if guide is not None:
                    (state,) = guide.followed([state], face.low)
                    rest = partial(self._by_itself, face, guide.rest, batch)
                    for last in completed(state, Start(config.seeds), rest):
                        state = last
                for last in self._second_look(face, state, config, batch):
                    state = last
                state = self.finished(face, state, config)
                yield tag, state, seconds + time.monotonic() - start

    def finished(self, face: LRFace, state: State, config: UpscaleConfig) -> State:
        """The last state of `finishing`; the one that was given if there is nothing to do."""
        for last in self.finishing(face, state, config):
            state = last
        return state

    def finishing(self, face: LRFace, state: State, config: UpscaleConfig) -> Iterator[State]:
        """A state while the candidates that match take their last steps: larger, and exact.

        Each goes through the network that `config` asks for, and where the search is `exact` it
        then downscales to the input up to rounding. `best` and `status` still tell of the search.
        What does not match is not made exact, so that it cannot pass for a match, and becomes as
        large as the others by interpolation.

        Raises:
            InputError: see `finisher`.
        """
        exact, finisher = config.search.exact, self.finisher(config)
        if state.exact is not None or not (exact or finisher):
            return
        drawn, images, low = state.images, state.images.clone(), state.low.clone()
        error = torch.full_like(state.best, torch.nan)
        if finisher is not None:
            side = wanted_size(drawn.shape[-1], config.size, finisher.network.scale)
            images = F.interpolate(drawn, (side, side), mode="bicubic").clamp(0, 1)
            yield replace(state, images=images.clone(), exact=error.clone())
        sides = images.shape[-1], low.shape[-1]
        degrade, target = operator(face.degrade, *sides), face.low.to(images.device)
        inverse = face.degrade.inverse(*sides) if exact else None
        for index, status in enumerate(state.status):
            if status is not Status.FOUND or (finisher is None and inverse is None):
                continue
            one = slice(index, index + 1)
            found = drawn[one] if finisher is None else finisher.enlarge(drawn[one], sides[0])
            if inverse is not None:
                found = back_project(found, target, degrade, inverse)
            elif exact:
                found = held(found, drawn[one])
            images[one], low[one] = found, degrade(found)
            error[one] = squared_error(low[one], target)
            if finisher is not None:
                yield replace(state, images=images.clone(), low=low.clone(), exact=error.clone())
        yield replace(state, images=images, low=low, exact=error)

    def for_photo(self, drawn: int, side: int, finish: str) -> tuple[int, Finisher | None]:
        """How large a face of `drawn` pixels is made for its place in a photo, and by what.

        Where one pass of the network is too little there is a second one, up to `SECOND_PASS`, but
        of Real-ESRGAN's on a CPU, where it would take minutes.

        Args:
            side: of the place, in pixels of the photo.
            finish: as in `UpscaleConfig`.
        """
        if finish == OFF or side <= drawn:
            return drawn, None
        finisher = self._network(finish)
        once = drawn * finisher.network.scale
        slow = finisher.name in REALESRGAN and self.generator.device.type == "cpu"
        twice = 0 if slow else min(once * finisher.network.scale, SECOND_PASS)
        return min(side, max(once, twice)), finisher

    def finisher(self, config: UpscaleConfig) -> Finisher | None:
        """The network that makes faces larger, opened once; None where nothing is to be larger.

        Raises:
            InputError: there is no such network, or the generator draws more pixels than are asked
                for.
        """
        if not config.finishes:
            return None
        finisher = self._network(config.finish)
        wanted_size(self.generator.resolution, config.size, finisher.network.scale)
        return finisher

    def _network(self, name: str) -> Finisher:
        if name not in self._finishers:
            device = self.generator.device
            self._finishers[name] = Finisher.load(name, device, network_precision("auto", device))
        return self._finishers[name]
