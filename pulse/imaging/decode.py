"""Films as they are decoded: what is damaged is passed over, and fields are joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import BlockingIOError, FFmpegError
from av.error import EOFError as EndOfFile
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pulse.imaging.pictures import InputError

_PICTURES = ("image2", "_pipe", "ico")
"""What the names of libav's readers of single pictures contain."""
_STARTS_ANYWHERE = 0x0200  # AVFMT_TS_DISCONT: broadcast streams, whose clock is the sender's.
MOST_PIXELS = 64_000_000
"""Of a frame; the largest that cameras take have half of that."""
_LACKING = 0.2
"""Seconds that a film may end before it says so without being damaged."""


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
        InputError: it has none, or too large ones.
    """
    if any(name in container.format.name for name in _PICTURES):
        raise InputError(f"{path} is a picture, not a film; `pulse upscale` enlarges pictures.")
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path} has no pictures in it; give a film.")
    stream, context = streams[0], streams[0].codec_context
    if context.width * context.height > MOST_PIXELS:
        raise InputError(
            f"{path} has frames of {context.width}x{context.height} pixels; at most "
            f"{MOST_PIXELS / 1e6:.3g} megapixels can be read: shrink it."
        )
    # What a film says of its size need not be true of its frames.
    context.options = {**context.options, "max_pixels": str(MOST_PIXELS)}
    return stream


def zero_of(container: InputContainer) -> Fraction:
    """Seconds that a film's clock shows at its beginning, where that means nothing."""
    if container.format.flags & _STARTS_ANYWHERE and container.start_time:
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)


def stated_length(container: InputContainer, stream: VideoStream) -> float | None:
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


def base_of(frame: VideoFrame) -> Fraction:
    """Seconds that a frame's time is a multiple of."""
    assert frame.time_base is not None
    return frame.time_base


def lenient(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames of what can be decoded."""
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except FFmpegError:
            continue


@dataclass
class Decoder:
    """The frames of a film, decoded past what is damaged.

    Attributes:
        zero: seconds that its clock shows at its beginning.
        rate: frames a second on average.
        interlaced: whether its frames are made of two fields, which are then joined.
        start: seconds from which on frames are needed; some earlier ones come, too.
        damage: a sentence on what could not be read, once all is read; "" if nothing.
    """

    path: Path
    zero: Fraction
    rate: Fraction
    interlaced: bool
    start: float | None
    damage: str = field(default="", init=False)
    _damaged_at: float | None = field(default=None, init=False)
    _seconds: float = field(default=0.0, init=False)  # When the last frame is shown,
    _until: float = field(default=0.0, init=False)  # and until when.

    def __iter__(self) -> Iterator[VideoFrame]:
        with opened(self.path) as container:
            stream = video_of(container, self.path)
            stream.thread_type = "AUTO"
            if self.start:
                self._seek(container, stream)
            decoded = self._decoded(container, stream)
            for frame in _deinterlaced(decoded, stream) if self.interlaced else decoded:
                if frame.pts is not None:
                    self._seconds = float(frame.pts * base_of(frame) - self.zero)
                    lasts = frame.duration * base_of(frame) if frame.duration else 1 / self.rate
                    self._until = self._seconds + float(lasts)
                yield frame
            said = stated_length(container, stream)
        if self._damaged_at is None and said is not None and self._until < said - _LACKING:
            self._damaged_at = self._seconds
        if self._damaged_at is not None:
            self.damage = (
                f"{self.path} is damaged {self._damaged_at:.1f} seconds in; what could be decoded "
                "is kept."
            )

    def _seek(self, container: InputContainer, stream: VideoStream) -> None:
        """To the last key frame before the start; where that cannot be, all is decoded."""
        assert self.start is not None
        assert stream.time_base is not None
        place = round((Fraction(self.start) + self.zero) / stream.time_base)
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
