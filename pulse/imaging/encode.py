"""Films as they are written: frames to a part of a film that parts are joined of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from pulse.imaging.colours import FULL, LIMITED, Colours, FromRGB, Pixels
from pulse.imaging.encoding import ENCODERS, Encoding
from stylegan.files import whole

PART = "nut"
"""What parts are kept in: the one container of libav's that keeps every codec and time as it is."""


@dataclass(frozen=True)
class Shape:
    """What all frames of a film have in common, and how they are coded.

    Attributes:
        pixel_aspect: width of a pixel over its height.
        deep: whether it is coded with 10 bits instead of 8.
        time_base: seconds that the frames' times are multiples of.
        rate: frames a second on average.
    """

    width: int
    height: int
    pixel_aspect: Fraction
    colours: Colours
    deep: bool
    time_base: Fraction
    rate: Fraction
    encoding: Encoding

    @property
    def pixel_format(self) -> str:
        """libav's name of it."""
        return self.encoding.pixel_format(self.deep)

    def even(self) -> Shape:
        """With sides that half the colour resolution is possible for, if it is coded with that."""
        if "420" not in self.pixel_format:
            return self
        width, height = self.width + self.width % 2, self.height + self.height % 2
        return replace(self, width=width, height=height)


def write_part(path: Path, frames: Iterable[tuple[int, Pixels]], shape: Shape) -> Iterator[int]:
    """Code frames to a file, whole or not at all, which is there once they have ended.

    No frame is coded from later ones (no B-frames): so parts can be joined as they are, for about
    a tenth more bytes. Frames smaller than the shape get their last row or column again.

    Args:
        frames: times in the shape's time base, rising, and pixels.

    Yields:
        How many are coded, after each.

    Raises:
        OSError: it cannot be written.
    """
    from_rgb = FromRGB(shape.colours, shape.pixel_format)
    with (
        whole(path) as file,
        plain_errors(),
        av.open(f"file:{file}", "w", format=PART) as container,
    ):
        stream = add_pictures(container, shape)
        for count, (pts, pixels) in enumerate(frames, 1):
            frame = from_rgb(_fitted(pixels, shape))
            frame.pts, frame.time_base = pts, shape.time_base
            container.mux(stream.encode(frame))
            yield count
        container.mux(stream.encode(None))


def add_pictures(container: OutputContainer, shape: Shape) -> VideoStream:
    """A new film's pictures: the same header for every part, and for what is joined of them."""
    os.environ.setdefault("SVT_LOG", "1")  # The AV1 encoder tells of its settings otherwise.
    encoding = shape.encoding
    stream = container.add_stream(
        ENCODERS[encoding.codec], rate=shape.rate, options=encoding.options()
    )
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, shape.pixel_format
    stream.time_base = shape.time_base
    context, colours = stream.codec_context, shape.colours
    context.time_base = shape.time_base
    context.max_b_frames = 0
    context.sample_aspect_ratio = shape.pixel_aspect
    context.colorspace, context.color_range = colours.matrix, FULL if colours.full else LIMITED
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer
    return stream


@contextmanager
def plain_errors() -> Iterator[None]:
    """libav's errors as the system's own."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def _fitted(pixels: Pixels, shape: Shape) -> Pixels:
    height, width = pixels.shape[:2]
    if (width, height) == (shape.width, shape.height):
        return pixels
    more = ((0, shape.height - height), (0, shape.width - width), (0, 0))
    return np.pad(pixels, more, mode="edge")
