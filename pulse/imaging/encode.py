"""Films as they are written: frames to a part of a film that parts are joined of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from pulse.imaging.colours import Colours, FromRGB, Pixels
from pulse.imaging.encoding import ENCODERS, Encoding
from stylegan.files import whole

PART = "nut"
"""What parts are kept in: the one container of libav's that keeps every codec and time as it is."""


@dataclass(frozen=True)
class Shape:
    """What all frames of a film have in common.

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

    def even(self) -> Shape:
        """With sides that half the colour resolution is possible for."""
        width, height = self.width + self.width % 2, self.height + self.height % 2
        return Shape(
            width, height, self.pixel_aspect, self.colours, self.deep, self.time_base, self.rate
        )


def write_part(
    path: Path, frames: Iterable[tuple[int, Pixels]], shape: Shape, encoding: Encoding
) -> Iterator[int]:
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
    os.environ.setdefault("SVT_LOG", "1")  # The AV1 encoder tells of its settings otherwise.
    format = encoding.pixel_format(shape.deep)
    with (
        whole(path) as file,
        plain_errors(),
        av.open(f"file:{file}", "w", format=PART) as container,
    ):
        stream = container.add_stream(
            ENCODERS[encoding.codec], rate=shape.rate, options=encoding.options()
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, format
        stream.time_base = shape.time_base
        context = stream.codec_context
        context.time_base = shape.time_base
        context.max_b_frames = 0
        context.sample_aspect_ratio = shape.pixel_aspect
        tag(context, shape.colours)
        from_rgb = FromRGB(shape.colours, format)
        for count, (pts, pixels) in enumerate(frames, 1):
            frame = from_rgb(_fitted(pixels, shape))
            frame.pts, frame.time_base = pts, shape.time_base
            container.mux(stream.encode(frame))
            yield count
        container.mux(stream.encode(None))


@contextmanager
def plain_errors() -> Iterator[None]:
    """libav's errors as the system's own."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, error.strerror) from error


def tag(context: av.VideoCodecContext, colours: Colours) -> None:
    """Say in a stream what its colours mean."""
    context.colorspace, context.color_range = colours.matrix, 2 if colours.full else 1
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer


def _fitted(pixels: Pixels, shape: Shape) -> Pixels:
    height, width = pixels.shape[:2]
    if (width, height) == (shape.width, shape.height):
        return pixels
    more = ((0, shape.height - height), (0, shape.width - width), (0, 0))
    return np.pad(pixels, more, mode="edge")
