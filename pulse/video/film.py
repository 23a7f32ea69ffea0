"""Films made of films: in parts, so that what is made stays whatever happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.clips import DamagedError, Frame
from pulse.imaging.colours import Pixels
from pulse.imaging.decode import MOST_PIXELS
from pulse.imaging.encode import Shape
from pulse.imaging.encoding import Encoding
from pulse.imaging.pictures import InputError, setting
from pulse.video.config import Cut
from pulse.video.footage import Footage
from pulse.video.methods import Frames, Method
from pulse.video.parts import Sink

PART_FRAMES = 60
"""Frames of a part: so many are lost at most, and so often a player can jump into the film."""
_MEASURED = 8  # Frames over which the speed is measured.


class FilmProgress(NamedTuple):
    """How far a film is.

    Attributes:
        done: frames that are made, those of earlier runs included.
        total: frames that it will have; None is not known.
        speed: frames a second in this run; 0 before the first.
        damage: at the end, a sentence on what of the input could not be read; "" for nothing.
    """

    done: int
    total: int | None
    speed: float
    damage: str = ""

    @property
    def left(self) -> float | None:
        """Seconds until it is made, if that can be said."""
        if self.total is None or not self.speed:
            return None
        return max(0, self.total - self.done) / self.speed


def shape_of(footage: Footage, method: Method, encoding: Encoding) -> Shape:
    """What the frames of a result have in common.

    Raises:
        InputError: they would be too large.
    """
    height, width = size_of(footage, method)
    shape = Shape(
        width=width,
        height=height,
        pixel_aspect=footage.pixel_aspect,
        colours=footage.output_colours,
        deep=footage.depth > 8,
        time_base=footage.time_base,
        rate=footage.rate,
        encoding=encoding,
    )
    return shape.even()


def size_of(footage: Footage, method: Method) -> tuple[int, int]:
    """Height and width of a result's frames.

    Raises:
        InputError: they would be too large.
    """
    height, width = method.size((footage.height, footage.width))
    if height * width > MOST_PIXELS:
        raise InputError(
            f"Frames of {width}x{height} pixels are too large; at most {MOST_PIXELS / 1e6:.3g} "
            f"megapixels can be made: give a smaller {setting('scale')}."
        )
    return height, width


def make(
    footage: Footage, method: Method, sink: Sink, cut: Cut, part: int = PART_FRAMES
) -> Iterator[FilmProgress]:
    """Make a film's frames, part by part, and the film. To stop is to stop iterating.

    Parts that are there already are not made again. Each is made by itself (the method sees the
    `lead` frames before it, too), so that the result is the same however often the work was cut
    off.

    Raises:
        InputError: a picture cannot be read, nothing lies in the cut, or the result cannot be
            written; what was made stays.
        MemoryError: there is too little for even a small tile.
    """
    reading = Reading(footage, cut)
    frames = iter(reading)
    total = frames_in(footage, cut)
    before: deque[Frame] = deque(maxlen=method.lead)
    clock, number, done = _Clock(), 0, 0
    while (first := next(frames, None)) is not None:
        own = chain((first,), islice(frames, part - 1))
        if sink.holds(number):
            for frame in own:
                before.append(frame)
                done += 1
            yield FilmProgress(done, total, 0)
        else:
            made = _made(method, own, before, footage, begin=done)
            with _saying(sink):
                for _ in sink.write(number, made):
                    done += 1
                    yield FilmProgress(done, total, clock.tick())
        number += 1
    if not number:
        raise InputError(reading.damage or _nothing(footage, cut))
    with _saying(sink):
        sink.finish(number)
    yield FilmProgress(done, done, clock.speed, reading.damage)


def still(footage: Footage, method: Method, number: int) -> Pixels:
    """What the film will look like: its frame of that number, the first being 1.

    Raises:
        InputError: there is no such frame, or it cannot be read.
    """
    reading, count = footage.frames(), 0
    for _ in islice(reading, max(0, number - 1 - method.lead)):
        count += 1
    wanted = islice(reading, number - count)
    seen: deque[Frame] = deque(maxlen=method.lead)
    last = None
    for last in _made(method, wanted, seen, footage, begin=number - 1):  # noqa: B007
        count += 1
    if last is None or count < number:
        raise InputError(f"{footage.path} has no frame {number} but only {count}.")
    return last.pixels


def _made(
    method: Method, own: Iterator[Frame], before: deque[Frame], footage: Footage, *, begin: int
) -> Iterator[Frame]:
    """A part's frames, from that number on, made by the method.

    Those before it are shown to it first.
    """
    lead = tuple(before)
    waiting: deque[Frame] = deque()

    def given() -> Frames:
        for frame in lead:
            yield as_tensor(frame.pixels)
        for frame in own:
            before.append(frame)
            waiting.append(frame)
            yield as_tensor(frame.pixels)

    for result in islice(method.apply(given(), begin), len(lead), None):
        frame = waiting.popleft()
        if footage.grey:
            result = result.mean(0, keepdim=True).expand(3, -1, -1)
        yield Frame(frame.seconds, _pixels(result, footage.depth > 8), frame.pts)


def as_tensor(pixels: Pixels) -> Float[Tensor, "3 h w"]:
    white = 65535 if pixels.dtype == np.uint16 else 255
    return torch.from_numpy(pixels.astype(np.float32) / white).permute(2, 0, 1)


def _pixels(frame: Float[Tensor, "3 h w"], deep: bool) -> Pixels:
    values = (frame.clamp(0, 1) * (65535 if deep else 255)).round().permute(1, 2, 0).contiguous()
    return values.numpy().astype(np.uint16 if deep else np.uint8)


class Reading:
    """The frames of footage, which end where damage ends them.

    Attributes:
        damage: a sentence on what could not be read, once they have ended; "" if nothing.
    """

    def __init__(self, footage: Footage, cut: Cut) -> None:
        self.footage, self.cut = footage, cut
        self.damage = ""

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self.footage.frames(*self.cut)
        except DamagedError as error:
            self.damage = str(error)


class _Clock:
    """How many frames a second are made, of late.

    Attributes:
        speed: 0 before it can be said.
    """

    def __init__(self) -> None:
        self.speed = 0.0
        self._ticks: deque[float] = deque((time.monotonic(),), maxlen=_MEASURED + 1)

    def tick(self) -> float:
        self._ticks.append(time.monotonic())
        self.speed = (len(self._ticks) - 1) / max(1e-9, self._ticks[-1] - self._ticks[0])
        return self.speed


@contextmanager
def _saying(sink: Sink) -> Iterator[None]:
    """Says of a result that it cannot be written, where that turns out."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{sink.target} cannot be written ({error.strerror or error}). What was made is kept: "
            "make room, and give the same command again."
        ) from error


def frames_in(footage: Footage, cut: Cut) -> int | None:
    """How many frames the cut will have, as far as the film says."""
    if footage.count is None:
        return None
    seconds = float(footage.count / footage.rate)
    end = seconds if cut.end is None else min(cut.end, seconds)
    if cut == Cut():
        return footage.count
    return max(0, round((end - (cut.start or 0)) * footage.rate))


def _nothing(footage: Footage, cut: Cut) -> str:
    until = "its end" if cut.end is None else f"{cut.end:g} s"
    return f"{footage.path} has no pictures between {cut.start or 0:g} s and {until}."
