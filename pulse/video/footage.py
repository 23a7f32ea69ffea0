"""What a film is made from: a film, or a folder of pictures that are its frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from pulse.imaging.clips import Frame, open_clip
from pulse.imaging.colours import BT709, UNKNOWN, Colours
from pulse.imaging.pictures import InputError, read_picture, setting
from stylegan.dataset import SUFFIXES

TIMES = "timecodes.txt"
"""In a folder of pictures: when each is shown, in MKVToolNix's format 2."""
_FIRST_LINE = "# timestamp format v2"
_TICK = Fraction(1, 90_000)


class Footage(Protocol):
    """What `pulse.imaging.clips.Clip` and `PictureFolder` have in common; it says what each is."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def pixel_aspect(self) -> Fraction: ...
    @property
    def time_base(self) -> Fraction: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def count(self) -> int | None: ...
    @property
    def depth(self) -> int: ...
    @property
    def grey(self) -> bool: ...
    @property
    def path(self) -> Path: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def output_colours(self) -> Colours: ...

    def frames(self, start: float | None = None, end: float | None = None) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class PictureFolder:
    """Pictures that are a film's frames, in the order of the numbers in their names.

    Attributes:
        pictures: names of the files and when each is shown, in the time base.
        rate: frames a second on average.
    """

    path: Path
    pictures: tuple[tuple[str, int], ...]
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pixel_aspect: Fraction = Fraction(1)
    depth: int = 8
    grey: bool = False
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.pictures)

    @property
    def output_colours(self) -> Colours:
        return Colours(BT709, False, BT709, UNKNOWN)

    def frames(self, start: float | None = None, end: float | None = None) -> Iterator[Frame]:
        """Those that are shown from `start` on and before `end`, in seconds.

        Raises:
            InputError: a picture cannot be read, or has another size than the first.
        """
        for name, pts in self.pictures:
            seconds = float(pts * self.time_base)
            if (start is not None and seconds < start) or (end is not None and seconds >= end):
                continue
            image = read_picture(self.path / name).image
            if image.size != (self.width, self.height):
                raise InputError(
                    f"{self.path / name} has {image.width}x{image.height} pixels and the first "
                    f"picture {self.width}x{self.height}; the frames of a film have one size."
                )
            yield Frame(seconds, np.asarray(image), pts)


def open_footage(path: Path, rate: Fraction | None, tone_map: bool) -> Footage:
    """A film, or a folder of pictures.

    Args:
        rate: frames a second, for a folder; None is 25, or what its time codes say.

    Raises:
        InputError: it is neither.
    """
    if not path.is_dir():
        if rate is not None:
            raise InputError(f"{path} has its own times; {setting('fps')} is for a folder.")
        return open_clip(path, tone_map)
    found = (p.name for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    names = sorted((name for name in found if not name.startswith(".")), key=_natural)
    if not names:
        raise InputError(f"{path} holds no pictures; give a film, or a folder of its frames.")
    with_times = rate is None and (path / TIMES).is_file()
    time_base = _TICK if with_times else 1 / (rate or Fraction(25))
    times = _read_times(path / TIMES, len(names)) if with_times else range(len(names))
    last = max(1, times[-1] - times[0])
    average = Fraction(len(names) - 1) / (last * time_base) if len(names) > 1 else 1 / time_base
    image = read_picture(path / names[0]).image
    pictures = tuple(zip(names, times, strict=True))
    return PictureFolder(path, pictures, image.width, image.height, average, time_base)


def write_times(path: Path, times: Sequence[float]) -> None:
    """Write when frames are shown, in seconds."""
    lines = [_FIRST_LINE, *(f"{1000 * seconds:.6f}" for seconds in times)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _read_times(path: Path, count: int) -> list[int]:
    lines = [x for x in path.read_text("utf-8", errors="replace").splitlines() if x and x[0] != "#"]
    try:
        times = [round(Fraction(line) / 1000 / _TICK) for line in lines]
    except ValueError:
        times = []
    if len(times) < count or any(b <= a for a, b in pairwise(times)):
        raise InputError(
            f"{path} does not hold {count} times that rise; mend it, or say {setting('fps')}."
        )
    return times[:count]


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in names by their value: frame-10 comes after frame-9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
