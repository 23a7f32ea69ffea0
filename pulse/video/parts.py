"""Where a film grows: parts that are whole or not there, and what they are parts of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from PIL import Image

from pulse.imaging.clips import Frame
from pulse.imaging.colours import eight_bits
from pulse.imaging.encode import PART, Shape, write_part
from pulse.imaging.join import Companions, join
from pulse.imaging.pictures import InputError, write_bytes
from pulse.video.footage import TIMES, write_times

NAME = "frame-{:06}.png"
"""What the pictures of a film are called, from 1 on."""
FINISHED = "done"
"""Suffix of what says that a part's pictures are all there."""


class Sink(Protocol):
    """What takes the frames of a result, part by part, and makes the result of them."""

    @property
    def target(self) -> Path:
        """What is made: a file or a folder."""
        ...

    def holds(self, number: int) -> bool:
        """Whether a part is there whole."""
        ...

    def write(self, number: int, frames: Iterator[Frame]) -> Iterator[int]:
        """Write a part; how many of its frames are, after each. It is there once they end.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def finish(self, count: int) -> None:
        """Put the result in its place, once all of so many parts are there.

        Raises:
            OSError: it cannot be written.
        """
        ...


@contextmanager
def work_folder(target: Path, job: dict[str, Any]) -> Iterator[Path]:
    """A folder for the parts of a result, beside it, which is this process's alone.

    What is in it stays if the work is cut off, and is taken up by whoever makes the same film of
    the same things; what is of another film is removed. Once the work is done, so is the folder.

    Raises:
        InputError: somebody else is at work in it, or it cannot be written.
    """
    folder = parts_of(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}); give another place with -o."
        ) from error
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{target} is being made by another process.") from None
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror}); give another place with -o."
        ) from error
    try:
        notes = folder / "job.json"
        text = json.dumps(job, indent=2, sort_keys=True)
        if not notes.is_file() or notes.read_text("utf-8") != text:
            _emptied(folder)
            write_bytes(notes, text.encode())
        for rest in folder.glob(".*.part"):
            rest.unlink()  # Of a process that was killed.
        yield folder
    except BaseException:
        made = any(path.name not in ("lock", "job.json") for path in folder.iterdir())
        lock.release()
        if not made:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def parts_of(target: Path) -> Path:
    """The folder in which a result grows."""
    return target.with_name(f"{target.name}.parts")


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


@dataclass(frozen=True)
class FilmSink:
    """Frames become a film, with what the film that they were made from holds besides."""

    folder: Path
    target: Path
    shape: Shape
    companions: Companions

    def holds(self, number: int) -> bool:
        return self._part(number).is_file()

    def write(self, number: int, frames: Iterator[Frame]) -> Iterator[int]:
        timed = ((frame.pts, frame.pixels) for frame in frames)
        yield from write_part(self._part(number), timed, self.shape)

    def finish(self, count: int) -> None:
        # Not under a hidden name beside the target: a kill would leave that.
        joined = self.folder / f"whole{self.target.suffix}"
        parts = [self._part(number) for number in range(count)]
        join(parts, joined, self.shape, self.companions)
        joined.replace(self.target)

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06}.{PART}"


@dataclass(frozen=True)
class PictureSink:
    """Frames become pictures in a folder, and a file of when each is shown.

    Attributes:
        to_file: the bytes of a picture's file.
    """

    folder: Path
    target: Path
    to_file: Callable[[Image.Image], bytes]

    def holds(self, number: int) -> bool:
        return self._mark(number).is_file()

    def write(self, number: int, frames: Iterator[Frame]) -> Iterator[int]:
        self.target.mkdir(parents=True, exist_ok=True)
        before = self._times(number)
        times = []
        for index, frame in enumerate(frames, len(before) + 1):
            image = Image.fromarray(eight_bits(frame.pixels))
            write_bytes(self.target / NAME.format(index), self.to_file(image))
            times.append(repr(frame.seconds))
            yield len(times)
        write_bytes(self._mark(number), "\n".join(times).encode())

    def finish(self, count: int) -> None:
        times = [float(text) for text in self._times(count)]
        write_times(self.target / TIMES, times)
        # A longer film that was here before.
        for number in count_from(len(times) + 1):
            rest = self.target / NAME.format(number)
            if not rest.is_file():
                return
            rest.unlink()

    def _times(self, count: int) -> list[str]:
        return [x for number in range(count) for x in self._mark(number).read_text("utf-8").split()]

    def _mark(self, number: int) -> Path:
        return self.folder / f"{number:06}.{FINISHED}"
