"""Films as they are read: what they hold, and their frames one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.error import BlockingIOError, FFmpegError
from av.error import EOFError as EndOfFile
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pulse.imaging.colours import BT709, ColourError, Colours, Pixels, ToRGB, colours_of
from pulse.imaging.pictures import InputError, setting

_PICTURES = ("image2", "_pipe", "ico")
"""What the names of libav's readers of single pictures contain."""
_STARTS_ANYWHERE = 0x0200  # AVFMT_TS_DISCONT: broadcast streams, whose clock is the sender's.
_INTERLACED = (2, 3, 4, 5)  # AVFieldOrder.
_LOOKED_AT = 8  # Frames that are decoded to learn what a film is.
_LACKING = 0.2
"""Seconds that a film may end before it says so without being damaged."""


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
        decoder = _Decoder(self, start)
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

    Raises:
        InputError: it is no film, or it is damaged; then the frames that can be decoded have come.
    """
    yield from islice(open_clip(path).frames(), 0, None, every)


def span(path: Path) -> tuple[float, float]:
    """When a film's first and last frames are shown, in seconds, as it says without decoding.

    Raises:
        InputError: it is no film, or has no frames.
    """
    try:
        with opened(path) as container:
            zero, stream = _zero(container), video_of(container, path)
            packets = container.demux(stream)
            times = [p.pts * p.time_base - zero for p in packets if p.pts is not None]
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path} is not a film that opens ({error.strerror or error}).") from error
    if not times:
        raise InputError(f"{path} has no pictures in it; give a film.")
    return float(min(times)), float(max(times))


def opened(path: Path) -> InputContainer:
    """A film's container. Nothing but that file is read, whatever it says of others.

    Raises:
        FFmpegError, OSError: it does not open.
    """
    # A name with a colon would be taken for an address.
    return av.open(f"file:{path}", "r", options={"protocol_whitelist": "file"})


def video_of(container: InputContainer, path: Path) -> VideoStream:
    """The pictures of a film.

    Raises:
        InputError: it has none.
    """
    if any(name in container.format.name for name in _PICTURES):
        raise InputError(f"{path} is a picture, not a film; `pulse upscale` enlarges pictures.")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path} has no pictures in it; give a film.")
    return streams[0]


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
    first = list(islice(_lenient(container, stream), _LOOKED_AT))
    if not first:
        raise InputError(f"{path} has no pictures that can be decoded; it is damaged.")
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
        time_base=_base(frame),
        rate=rate,
        count=stream.frames or _count(container, stream, rate),
        zero=_zero(container),
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


def _zero(container: InputContainer) -> Fraction:
    if container.format.flags & _STARTS_ANYWHERE and container.start_time:
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)


def _count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int | None:
    seconds = _said(container, stream)
    return None if seconds is None else round(seconds * rate)


def _said(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the pictures last, as the film says."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    text = stream.metadata.get("DURATION")
    if text and text.count(":") == 2:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _ticks(frame: VideoFrame, clip: Clip, last: int) -> int:
    """A frame's time from the film's zero; each is later than the one before, and none is lost."""
    pts = frame.pts if frame.pts is not None else frame.dts
    if pts is None:
        step = 1 / (clip.rate * clip.time_base)
        return last + max(1, round(step)) if last >= 0 else 0
    # Filters count in a time base of their own.
    exact = pts * _base(frame) - clip.zero
    return max(round(exact / clip.time_base), last + 1)


def _base(frame: VideoFrame) -> Fraction:
    assert frame.time_base is not None
    return frame.time_base


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


def _lenient(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames of what can be decoded."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except FFmpegError:
            continue


class _Decoder:
    """The frames of a film, decoded past what is damaged.

    Attributes:
        damage: a sentence on what could not be read, once all is read; "" if nothing.
    """

    def __init__(self, clip: Clip, start: float | None) -> None:
        self.clip = clip
        self.start = start
        self.damage = ""
        self._damaged_at: float | None = None
        self._seconds = 0.0  # When the last frame is shown,
        self._until = 0.0  # and until when.

    def __iter__(self) -> Iterator[VideoFrame]:
        clip = self.clip
        with opened(clip.path) as container:
            stream = video_of(container, clip.path)
            stream.thread_type = "AUTO"
            if self.start:
                self._seek(container, stream)
            decoded = self._decoded(container, stream)
            for frame in _deinterlaced(decoded, stream) if clip.interlaced else decoded:
                if frame.pts is not None:
                    self._seconds = float(frame.pts * _base(frame) - clip.zero)
                    lasts = frame.duration * _base(frame) if frame.duration else 1 / clip.rate
                    self._until = self._seconds + float(lasts)
                yield frame
            said = _said(container, stream)
        if self._damaged_at is None and said is not None and self._until < said - _LACKING:
            self._damaged_at = self._seconds
        if self._damaged_at is not None:
            self.damage = (
                f"{clip.path} is damaged {self._damaged_at:.1f} seconds in; what could be decoded "
                "is kept."
            )

    def _seek(self, container: InputContainer, stream: VideoStream) -> None:
        """To the last key frame before the start; where that cannot be, all is decoded."""
        assert self.start is not None
        assert stream.time_base is not None
        place = round((Fraction(self.start) + self.clip.zero) / stream.time_base)
        try:
            container.seek(place, stream=stream)
        except (FFmpegError, OSError):
            container.seek(0)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        packets = container.demux(stream)
        while True:
            try:
                packet: Packet[VideoStream] | None = next(packets, None)
            except EndOfFile:
                packet = None
            except (FFmpegError, OSError):
                # The file cannot be read further; the decoder still holds some frames.
                self._note_damage()
                yield from stream.decode(None)
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except FFmpegError:
                self._note_damage()
            if packet.is_corrupt:
                self._note_damage()

    def _note_damage(self) -> None:
        if self._damaged_at is None:
            self._damaged_at = self._seconds


def _deinterlaced(decoded: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
    """One frame for each frame; those that are marked progressive stay as they are."""
    graph = Graph()
    nodes = (
        graph.add_buffer(template=stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()

    def pulled() -> Iterator[VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (BlockingIOError, EndOfFile):
                return

    for frame in decoded:
        graph.vpush(frame)
        yield from pulled()
    graph.vpush(None)
    yield from pulled()
