"""Films as they are read: what they hold, and their frames one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pulse.imaging.colours import BT709, ColourError, Colours, Pixels, ToRGB, colours_of, eight_bits
from pulse.imaging.decode import Decoder, base_of, lenient, opened, stated_length, video_of, zero_of
from pulse.imaging.pictures import InputError, setting

_INTERLACED = (2, 3, 4, 5)  # AVFieldOrder.
_LOOKED_AT = 8  # Frames that are decoded to learn what a film is.


class DamagedError(InputError):
    """A film is damaged somewhere; what could be decoded has been given."""


class Frame(NamedTuple):
    """One picture of a film.

    Attributes:
        seconds: when it is shown, from the film's own zero.
        pixels: [h, w, 3] RGB, upright, of 8 bits, or 16 if the film has more than 8.
        pts: the same time in the film's `time_base`.
    """

    seconds: float
    pixels: Pixels
    pts: int


@dataclass(frozen=True)
class Track:
    """Sound, subtitles or an attached file of a film.

    Attributes:
        index: its number in the film.
        kind: libav's name of its type, for example "audio".
        codec: what it is coded by; "" if nobody here knows.
    """

    index: int
    kind: str
    codec: str

    def __str__(self) -> str:
        return f"{self.kind} track {self.index}" + (f" ({self.codec})" if self.codec else "")


class Chapter(NamedTuple):
    """A named stretch of a film.

    Attributes:
        start, end: in the time base.
        metadata: its title above all.
    """

    start: int
    end: int
    time_base: Fraction
    metadata: dict[str, str]


@dataclass(frozen=True)
class Clip:
    """What a film holds and how it is shown.

    Attributes:
        width, height: of a frame once it is upright.
        pixel_aspect: width of a pixel over its height, upright.
        time_base: seconds that the frames' times are multiples of.
        rate: frames a second on average.
        count: frames, as the film says or its length tells; None if neither is known.
        depth: bits of each number.
        grey: whether it has no colours.
        zero: seconds that its clock shows at its beginning and that are taken off.
        turn: [2, 2] of 0, 1 and -1, the display matrix; the rest of it is of no meaning here.
        interlaced: whether its frames are made of two fields, which are then joined.
        tracks: what it holds beside its pictures and can be copied.
        notes: what a person should know of it, one sentence each.
    """

    path: Path
    width: int
    height: int
    pixel_aspect: Fraction
    colours: Colours
    depth: int
    grey: bool
    time_base: Fraction
    rate: Fraction
    count: int | None
    zero: Fraction = Fraction(0)
    turn: tuple[int, int, int, int] = (1, 0, 0, 1)
    interlaced: bool = False
    tracks: tuple[Track, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def output_colours(self) -> Colours:
        """Those of the pixels that `frames` gives, as they are to be written."""
        if self.colours.hdr:
            return Colours(BT709, False, BT709, BT709)
        return self.colours.written()

    def frames(self, start: float | None = None, end: float | None = None) -> Iterator[Frame]:
        """Those that are shown from `start` on and before `end`, in seconds.

        Raises:
            DamagedError: something could not be decoded; what could be has come before.
        """
        decoder = Decoder(
            path=self.path,
            zero=self.zero,
            rate=self.rate,
            interlaced=self.interlaced,
            start=start,
        )
        to_rgb = ToRGB(self.colours, self._coded_size, self.depth > 8)
        last = -1
        for frame in decoder:
            pts = _ticks(frame, self, last)
            seconds = float(pts * self.time_base)
            if end is not None and seconds >= end:
                return
            last = pts
            if start is not None and seconds < start:
                continue
            yield Frame(seconds, _turned(to_rgb(frame), self.turn), pts)
        if decoder.damage:
            raise DamagedError(decoder.damage)

    @property
    def _coded_size(self) -> tuple[int, int]:
        return (self.width, self.height) if self.turn[0] else (self.height, self.width)


def frames(path: Path, every: int = 1) -> Iterator[Frame]:
    """A film's frames in the order in which they are shown, of which each `every`th is given.

    Networks are trained and measured on them: they have 8 bits, whatever the film has.

    Raises:
        InputError: it is no film, or it is damaged; then the frames that can be decoded have come.
    """
    for frame in islice(open_clip(path).frames(), 0, None, every):
        yield frame._replace(pixels=eight_bits(frame.pixels))


def span(path: Path) -> tuple[float, float]:
    """When a film's first and last frames are shown, in seconds, as it says without decoding.

    Raises:
        InputError: it is no film, or has no frames.
    """
    try:
        with opened(path) as container:
            zero, stream = zero_of(container), video_of(container, path)
            first = last = None
            for packet in container.demux(stream):
                if packet.pts is not None:
                    time = packet.pts * packet.time_base - zero
                    first = time if first is None else min(first, time)
                    last = time if last is None else max(last, time)
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a film that opens ({error.strerror or error}).") from error
    if first is None or last is None:
        raise InputError(f"{path} has no pictures in it; give a film.")
    return float(first), float(last)


def open_clip(path: Path, tone_map: bool = False) -> Clip:
    """Find out what a film holds.

    Args:
        tone_map: whether HDR is to become what a common screen can show.

    Raises:
        InputError: it is no film, or not one that can be worked on.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a film.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; give a film.")
    try:
        with opened(path) as container:
            return _described(container, path, tone_map)
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a film that opens ({error.strerror or error}).") from error
    except ColourError as error:
        raise InputError(f"{path} {error}.") from error


def _described(container: InputContainer, path: Path, tone_map: bool) -> Clip:
    stream = video_of(container, path)
    first = list(islice(lenient(container, stream), _LOOKED_AT))
    if not first:
        raise InputError(
            f"{path} has no pictures that can be decoded; it is damaged, or they are too large."
        )
    frame, notes = first[0], []
    colours = colours_of(frame)
    if colours.hdr and not tone_map:
        raise InputError(
            f"{path} is in high dynamic range, which networks know nothing of; "
            f"{setting('tone_map')} makes it a film for common screens first."
        )
    if colours.hdr:
        notes.append("Its high dynamic range was made what a common screen can show.")
    interlaced = stream.codec_context.field_order in _INTERLACED
    interlaced |= any(f.interlaced_frame for f in first)
    if interlaced:
        notes.append("It is interlaced; its fields were joined (bwdif).")
    if any(component.is_alpha for component in frame.format.components):
        notes.append("Its transparency is not kept.")
    if len([s for s in container.streams.video if not _attached(s)]) > 1:
        notes.append("It has several pictures; only the first track of them is used.")
    if any(s.type == "data" and s.discard != Discard.all for s in container.streams):
        notes.append("Its tracks of data, such as a camera's, are not kept.")
    turn = _turn(frame)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    clip = Clip(
        path=path,
        width=frame.width,
        height=frame.height,
        pixel_aspect=aspect,
        colours=colours,
        depth=max(component.bits for component in frame.format.components),
        grey=len(frame.format.components) < 3,
        time_base=base_of(frame),
        rate=rate,
        count=stream.frames or _count(container, stream, rate),
        zero=zero_of(container),
        turn=turn,
        interlaced=interlaced,
        tracks=tuple(_tracks(container)),
        chapters=tuple(_chapters(container)),
        metadata=dict(container.metadata),
        notes=tuple(notes),
    )
    if turn[0]:
        return clip
    return replace(clip, width=clip.height, height=clip.width, pixel_aspect=1 / aspect)


def _attached(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _tracks(container: InputContainer) -> Iterator[Track]:
    """What can be copied; chapters are among the data tracks of an MP4, and are no track."""
    for stream in container.streams:
        if stream.type in ("audio", "subtitle", "attachment") or _attached(stream):
            codec = stream.codec_context.name if stream.codec_context else ""
            yield Track(stream.index, stream.type, codec)


def _chapters(container: InputContainer) -> Iterator[Chapter]:
    for found in container.chapters():
        base = found["time_base"] or Fraction(1, 1000)
        yield Chapter(found["start"], found["end"], base, found["metadata"])


def _count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    seconds = stated_length(container, stream)
    return None if seconds is None else round(seconds * rate)


def _ticks(frame: VideoFrame, clip: Clip, last: int) -> int:
    """A frame's time from the film's zero; each is later than the one before, and none is lost."""
    pts = frame.pts if frame.pts is not None else frame.dts
    if pts is None:
        step = 1 / (clip.rate * clip.time_base)
        return last + max(1, round(step)) if last >= 0 else 0
    # Filters count in a time base of their own.
    exact = pts * base_of(frame) - clip.zero
    return max(round(exact / clip.time_base), last + 1)


def _turn(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The signs of the display matrix, whose angles are all taken for quarter turns."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
    return (0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)


def _turned(pixels: Pixels, turn: tuple[int, int, int, int]) -> Pixels:
    """What is at (x, y) goes to (a x + c y, b x + d y) (ISO/IEC 14496-12, 6.2.2)."""
    a, b, c, d = turn
    if not a:
        pixels = pixels.transpose(1, 0, 2)
    across, down = a or c, d or b
    return np.ascontiguousarray(pixels[::down, ::across])
