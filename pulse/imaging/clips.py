"""Films: their frames as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import UInt8

from pulse.imaging.pictures import InputError


class Frame(NamedTuple):
    """One picture of a film.

    Attributes:
        seconds: when it is shown, from the film's own zero.
        pixels: [h, w, 3] bytes, RGB, upright.
    """

    seconds: float
    pixels: UInt8[np.ndarray, "h w 3"]


def frames(path: Path, every: int = 1) -> Iterator[Frame]:
    """A film's frames in the order in which they are shown, of which each `every`th is given.

    A film that is to be shown turned is turned; pixels that are not square stay as they are.

    Raises:
        InputError: it is no film, or it is damaged; then the frames before the damage have come.
    """
    seconds = 0.0
    try:
        with av.open(path) as container:
            stream = _video(container, path)
            stream.thread_type = "AUTO"
            for number, frame in enumerate(container.decode(stream)):
                seconds = frame.time if frame.time is not None else seconds
                if number % every == 0:
                    # Both count quarter turns against the clock.
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                    yield Frame(seconds, np.ascontiguousarray(pixels))
    except (FFmpegError, OSError) as error:
        # `seconds` is that of the last frame that could be read.
        place = f"is damaged {seconds:.1f} seconds in" if seconds else "is not a film that opens"
        raise InputError(f"{path} {place} ({error.strerror or error}).") from error


def span(path: Path) -> tuple[float, float]:
    """When a film's first and last frames are shown, in seconds, as it says without decoding.

    Raises:
        InputError: it is no film, or has no frames.
    """
    try:
        with av.open(path) as container:
            packets = container.demux(_video(container, path))
            times = [float(p.pts * p.time_base) for p in packets if p.pts is not None]
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a film that opens ({error.strerror or error}).") from error
    if not times:
        raise InputError(f"{path} has no pictures in it; give a film.")
    return min(times), max(times)


def _video(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise InputError(f"{path} has no pictures in it; give a film.")
    return container.streams.video[0]
