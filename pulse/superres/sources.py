"""Folders, zip files, pictures and films that are learned from."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from pulse.imaging.encoding import needs_pyav
from pulse.imaging.pictures import InputError, decode_picture, read_picture, setting
from pulse.superres.pairs import SIZES, PairConfig, Pairs
from pulse.superres.shelf import Shelf
from stylegan.dataset import SUFFIXES, DataError, list_pictures

MOST_HELD_OUT = 300
MOST_BYTES = 2**28
"""Of a picture in a zip file, unpacked; what is packed may be a thousand times smaller."""
_AHEAD = 32  # Pictures that may be decoded before they are asked for.


def read_pairs(data: Sequence[Path], config: PairConfig) -> Pairs:
    """Decode pictures and films and keep some of them apart.

    Args:
        data: each a folder of pictures and zip files, a zip file, a picture, or a film. Folders are
            read as `stylegan.dataset.list_pictures` does.

    Raises:
        InputError: something cannot be read, or is too small or too little.
    """
    collected, films = read_stills(data, config)
    for film in films:
        for _ in read_film(film, config, collected):
            pass
    return collected.pairs()


def read_stills(data: Sequence[Path], config: PairConfig) -> tuple[Collected, list[Path]]:
    """The pictures of that, and what is taken for films.

    Raises:
        InputError: something cannot be read.
    """
    names: list[str] = []
    sources: list[Path | zipfile.Path] = []
    weights: list[float] = []
    films: list[Path] = []
    for path in data:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the name.")
        if path.is_dir() or path.suffix.lower() == ".zip":
            try:
                listing = list_pictures(path)
            except DataError as error:
                raise InputError(str(error)) from error
            names += [f"{path}: {name}" for name in listing.names]
            sources += listing.sources
            weights += (listing.weights / listing.weights.mean()).tolist()
        elif path.suffix.lower() in SUFFIXES:
            names.append(str(path))
            sources.append(path)
            weights.append(1.0)
        else:
            films.append(path)
    for source in sources:
        if not isinstance(source, Path) and source.root.getinfo(source.at).file_size > MOST_BYTES:
            raise InputError(f"{source} is too large for a picture; leave it out.")
    apart = _apart(len(sources), config)
    collected = Collected(config)
    for i, pixels in enumerate(_decoded(sources, config.square)):
        collected.add(pixels, names[i], weights[i], test=i >= len(sources) - apart)
    return collected, films


def _apart(count: int, config: PairConfig) -> int:
    """How many of so many pictures are held out."""
    apart = config.held_out
    if apart is None:
        apart = min(MOST_HELD_OUT, max(1, count // 10))
    if count and (apart >= count or apart < 1):
        raise InputError(
            f"There are {count} pictures, of which {apart} are kept apart; at least one must be, "
            f"and at least one remain: take more pictures or give another {setting('held_out')}."
        )
    return apart


class Collected:
    """Shelves that fill, and which pictures are too small for them."""

    def __init__(self, config: PairConfig) -> None:
        self.config = config
        self.training, self.tests = Shelf(), Shelf()
        self.weights: list[float] = []
        self.small: list[str] = []

    def add(self, pixels: UInt8[np.ndarray, "h w 3"], name: str, weight: float, test: bool) -> None:
        if self._too_small(pixels):
            self.small.append(name)
        elif test:
            self.tests.add(pixels)
        else:
            for copy in self._copies(pixels):
                self.training.add(copy)
                self.weights.append(weight)

    def _too_small(self, pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
        return min(pixels.shape[:2]) < self.config.patch * self.config.scale

    def _copies(self, pixels: UInt8[np.ndarray, "h w 3"]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        yield pixels
        image = Image.fromarray(pixels)
        for size in SIZES[1:] if self.config.resized else ():
            shape = (round(image.width * size), round(image.height * size))
            copy = np.asarray(image.resize(shape, Image.Resampling.LANCZOS))
            if not self._too_small(copy):
                yield copy

    def pairs(self) -> Pairs:
        config = self.config
        if self.small:
            others = f" and {len(self.small) - 1} more are" if len(self.small) > 1 else " is"
            raise InputError(
                f"{self.small[0]}{others} smaller than the {config.patch * config.scale} pixels of "
                f"a patch; leave out what is so small, or give a smaller {setting('patch')}."
            )
        if not len(self.training) or not len(self.tests):
            raise InputError("There are no pictures in what was given; give at least two.")
        return Pairs(config, self.training, torch.tensor(self.weights), self.tests)


class FilmFrame(NamedTuple):
    """A frame of a film that is learned from.

    Attributes:
        test: whether it is of the last seconds, which are held out.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    test: bool


def read_film(path: Path, config: PairConfig, collected: Collected) -> Iterator[FilmFrame]:
    """All its frames, of which each so manyth is collected as a picture.

    Raises:
        InputError: it cannot be read, or is too short.
    """
    with needs_pyav(path):
        from pulse.imaging.clips import frames, span
    first, last = span(path)
    first_test = last - config.test_seconds
    if not first <= first_test < last:
        raise InputError(
            f"{path} lasts {last - first:.1f} seconds, of which the last {config.test_seconds:g} "
            f"are kept apart; give {setting('test_seconds')} more than 0 and less than it lasts."
        )
    for number, frame in enumerate(frames(path)):
        pixels, test = frame.pixels, frame.seconds > first_test
        if number % config.every == 0:
            place = f"{path} at {frame.seconds:.1f} s"
            still = pixels if config.square is None else _squared(pixels, config.square)
            collected.add(still, place, 1.0, test=test)
        yield FilmFrame(pixels, test)


def _decoded(
    sources: list[Path | zipfile.Path], square: int | None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The pictures in their order, a few of them decoded ahead."""

    def read(source: Path | zipfile.Path) -> UInt8[np.ndarray, "h w 3"]:
        if isinstance(source, Path):
            picture = read_picture(source)
        else:
            try:
                picture = decode_picture(source.read_bytes(), str(source))
            except (OSError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
                raise InputError(f"{source} cannot be read ({error}).") from error
        pixels = np.asarray(picture.image)
        return pixels if square is None else _squared(pixels, square)

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(sources), _AHEAD):
            yield from pool.map(read, sources[start : start + _AHEAD])


def _squared(pixels: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "s s 3"]:
    image = Image.fromarray(pixels)
    least = min(image.size)
    left, top = (image.width - least) // 2, (image.height - least) // 2
    box = (left, top, left + least, top + least)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, box=box))
