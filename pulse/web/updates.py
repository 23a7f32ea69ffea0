"""What a visitor may ask for, and what is told of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Any, ParamSpec

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.results import Result
from pulse.search import State
from pulse.upscale import UpscaleConfig
from stylegan import EMBEDDED

Updates = dict[Any, Any]
"""Part of the page -> what becomes of it."""
LATELY = 1.0
"""Seconds in which a browser has shown an update, unless another one came meanwhile."""
Given = ParamSpec("Given")


def repeating(events: Callable[Given, Iterator[Updates]]) -> Callable[Given, Iterator[Updates]]:
    """What it yields, each time with what it said of other parts just before.

    Of updates that come faster than they are drawn Gradio's page shows the last alone: a search
    that begins and at once says how far it is would leave its visitor without the button that stops
    it, and a result that is followed by "ended" without its file.
    """

    @wraps(events)
    def repeated(*args: Given.args, **kwargs: Given.kwargs) -> Iterator[Updates]:
        recent: list[tuple[float, Updates]] = []
        for update in events(*args, **kwargs):
            now = monotonic()
            recent = [(when, old) for when, old in recent if now - when < LATELY]
            recent.append((now, update))
            yield {part: value for _, one in recent for part, value in one.items()}

    return repeated


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask of the machine.

    Attributes:
        searches: at once on the device; who comes later waits.
        waiting: visitors that may wait.
        each: searches that run and wait of one address.
        upload: bytes of a file.
        pixels: of a picture.
        visitors: whose results are kept at once; the longest unused are removed first.
        fetch: whether generators that are not here may be fetched.
        enlarged: pixels that a picture, or a frame of a film, may be given by a network.
        seconds: of a film that are taken at once.
        film: bytes of a film's file.
        frame: pixels that a frame of a film may have.
    """

    searches: int = 1
    waiting: int = 20
    candidates: int = 8
    steps: int = 500
    upload: int = 20_000_000
    pixels: int = 25_000_000
    visitors: int = 100
    fetch: bool = True
    each: int = 10
    enlarged: int = 50_000_000
    seconds: float = 30.0
    film: int = 100_000_000
    frame: int = 1_000_000

    def check(self, config: UpscaleConfig) -> None:
        """Raises InputError if more is asked for than is allowed."""
        for name, value, most in (
            ("candidates", config.candidates, self.candidates),
            ("steps", config.search.steps, self.steps),
        ):
            if value > most:
                raise InputError(f"At most {most} {name} can be asked for here, not {value}.")


@dataclass(frozen=True, eq=False)
class Near:
    """A face that others are to be like.

    Attributes:
        seed: of it.
        ws: the latents that drew it.
    """

    seed: int
    ws: Float[Tensor, "L w_dim"]


@dataclass(frozen=True)
class Wish:
    """Which face of which picture to match, and how.

    Attributes:
        face: its number in the picture.
        as_it_is: whether no face is looked for, and the picture taken as one.
        lr_size, degrade: as in `UpscaleConfig`.
        near: what the search begins near to; None begins at random.
    """

    picture: Path
    face: int = 0
    generator: str = EMBEDDED
    lr_size: int | None = None
    as_it_is: bool = False
    degrade: DegradeConfig | None = None
    near: Near | None = None


@dataclass(frozen=True)
class Waiting:
    """Others come first: `ahead` of them."""

    ahead: int


@dataclass(frozen=True)
class Opening:
    """A generator is opened, or fetched first: then bytes that are here, and in all if known."""

    generator: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Preparing:
    """The search gets ready; the first one with a generator works out what helps all of them."""


@dataclass(frozen=True)
class Searching:
    """A search as it stands.

    Attributes:
        seconds: since it began.
        tolerance: that is used, with what noise adds.
        finishing: whether it is over, and a network makes the faces that match larger.
    """

    state: State
    seconds: float
    tolerance: float
    finishing: bool = False

    @property
    def left(self) -> float | None:
        """Seconds that it takes at most if it goes on as it did; None at the start."""
        if self.state.step == 0:
            return None
        return self.seconds / self.state.step * (self.state.steps - self.state.step)


@dataclass(frozen=True)
class Done:
    """The search ended, or was stopped after it had begun."""

    result: Result


@dataclass(frozen=True)
class Pasted:
    """The visitor's photo has an imaginary face in it.

    Attributes:
        file: of it, as large as the photo was.
        photo: as it was.
        note: what there is to say of it.
    """

    file: Path
    photo: Image.Image
    note: str | None


Update = Waiting | Opening | Preparing | Searching | Done
Tell = Callable[[Update], None]
