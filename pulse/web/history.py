"""What is kept of a visitor: the searches of this visit, and the one that goes on."""

from __future__ import annotations

import math
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from pulse.faces.plausibility import ranking
from pulse.faces.prepare import LRFace
from pulse.results import Result
from pulse.superres.finish import AUTO
from pulse.upscale import UpscaleConfig
from pulse.web.updates import Wish

FACES = 24
"""Faces of a visit that are kept; when there are more, its first searches are forgotten."""
PASTING = "pasting"
"""Among a visit's stops: ends putting a face into the photo, which no search's end does."""


@dataclass(frozen=True)
class Asked:
    """A search as it was asked for.

    Attributes:
        preset: that `config.search` was made from.
        finish: the network for a face that is put into a photo, as in `UpscaleConfig`; where no
            size is asked for, `config` names none, since then it would make every face larger.
    """

    wish: Wish
    config: UpscaleConfig
    preset: str
    finish: str = AUTO


@dataclass(frozen=True)
class Past:
    """A search that is over, without its pictures, which are among its files.

    Attributes:
        first: the number in the visit of its first face; those of the others follow.
        folder: of its files.
        face, tolerance, near: as in `Result`.
        errors, steps: of each face, and the step that it was met at.
        plausibility: as in `Result`.
        low: [n, 3, l, l], the faces downscaled.
        ws: [n, L, w_dim], the latents that drew them.
        drawn, size: sides in pixels, as drawn and in the end.
        finisher: the network that made those that match larger.
        thumbnails: the faces as the page shows them.
    """

    asked: Asked
    first: int
    folder: Path
    face: LRFace
    tolerance: float
    near: int | None
    errors: tuple[float, ...]
    steps: tuple[int, ...]
    plausibility: tuple[float | None, ...]
    low: Float[Tensor, "n 3 l l"]
    ws: Float[Tensor, "n L w_dim"]
    drawn: int
    size: int
    finisher: str | None
    thumbnails: tuple[str, ...]

    @classmethod
    def of(cls, result: Result, place: Place, thumbnails: tuple[str, ...]) -> Past:
        state, finisher = result.state, result.upscaler.finisher(result.config)
        return cls(
            asked=place.asked,
            first=place.first,
            folder=place.folder,
            face=result.face,
            tolerance=result.tolerance,
            near=result.near,
            errors=tuple(state.best.nan_to_num(math.inf).tolist()),
            steps=tuple(state.best_step.tolist()),
            plausibility=result.plausibility,
            low=state.low.cpu(),
            ws=state.ws.cpu(),
            drawn=result.upscaler.generator.resolution,
            size=state.images.shape[-1],
            finisher=None if finisher is None else finisher.name,
            thumbnails=thumbnails,
        )

    @property
    def ranked(self) -> list[int]:
        """Its faces' indices, best first: matches by plausibility, then the rest by error."""
        found = [error <= self.tolerance for error in self.errors]
        return ranking(found, self.plausibility, self.errors)

    @property
    def pastable(self) -> bool:
        """Whether it is known where in a photo the face was."""
        return self.face.framing is not None and self.face.framing.found is not None

    def file(self, index: int) -> Path:
        return candidate_file(self.folder, index)


@dataclass(frozen=True)
class Place:
    """Where in a visit a search belongs, as in `Past`."""

    asked: Asked
    first: int
    folder: Path


@dataclass
class Visit:
    """What is kept of one visitor.

    Attributes:
        folder: of the files that he may fetch, its name not to be guessed.
        picture: that what he sees was, or is being, searched for.
        past: his searches that are over, the oldest first.
        made: how many faces he has been shown.
        stops: end what else he has going on: by the page's tabs, and what goes into his photo.
        stop: ends his search. Another search, or picture, has another one: so a search can tell
            whether anybody still wants it.
        idle: whether he gave another picture since, or took it away, and has not searched for it.
        running: how many searches of his run or wait; while there are any, he is not forgotten.
    """

    folder: Path
    picture: Path | None = None
    past: list[Past] = field(default_factory=list)
    made: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    stops: dict[str, threading.Event] = field(default_factory=dict)
    idle: bool = False
    running: int = 0
    used: float = field(default_factory=time.monotonic)

    def turn_to(self, picture: Path | None, stop: threading.Event, idle: bool = False) -> None:
        """End what goes on, since the visitor wants something else."""
        self.idle = idle
        old, self.picture, self.stop = self.stop, picture, stop
        old.set()  # At last: a search that sees it set also sees that it is not wanted any more.
        if PASTING in self.stops:
            self.stops[PASTING].set()

    def place(self, asked: Asked) -> Place:
        """Where the next search belongs."""
        return Place(asked, self.made, self.folder / f"from-{self.made}")

    def keep(self, past: Past) -> None:
        """Add a search, and forget the first ones if there are too many faces then."""
        self.past.append(past)
        self.made += len(past.errors)
        while sum(len(one.errors) for one in self.past) > FACES and len(self.past) > 1:
            shutil.rmtree(self.past.pop(0).folder, ignore_errors=True)

    def find(self, number: int) -> tuple[Past, int] | None:
        """The search that made a face of the visit, and the face's index in it."""
        for past in self.past:
            if past.first <= number < past.first + len(past.errors):
                return past, number - past.first
        return None


def candidate_file(folder: Path, index: int) -> Path:
    """Where the files of a search have a candidate."""
    return folder / f"candidate-{index:02d}.png"
