"""Parts of a film to one film, with all that the film they were made from holds beside pictures."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from pulse.imaging.clips import Chapter, Clip, Track
from pulse.imaging.decode import opened
from pulse.imaging.encode import Shape, add_pictures, plain_errors

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_SILENCE = b"\0\0"
"""The end of a subtitle of MP4's, which libav writes by itself."""
_LONGEST = 2**31 - 1
_XMP_BOX = UUID("be7acfcb-97a9-42e8-9c71-999491e3afac")
_OF_THE_CONTAINER = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""What a file says of itself under metadata, and not of the film."""


@dataclass(frozen=True)
class Companions:
    """What goes into a film beside its pictures.

    Attributes:
        clip: where sound, subtitles, chapters and metadata come from; None for none.
        tracks: those of its tracks that are copied.
        start, end: seconds of the clip that are copied, and become the film's from 0 on.
        comment: what is said in the metadata of how the film was made.
        xmp: an XMP packet that says so to programs; "" for none.
    """

    clip: Clip | None
    tracks: tuple[Track, ...]
    start: float | None
    end: float | None
    comment: str
    xmp: str = ""


def unholdable(clip: Clip, target: Path) -> list[Track]:
    """Tracks of a film that a file of that name's kind cannot hold, found out by trying."""
    found = []
    with opened(clip.path) as source:
        for track in clip.tracks:
            try:
                with av.open(io.BytesIO(), "w", format=_FORMATS[target.suffix.lower()]) as trial:
                    _added(trial, source.streams[track.index])
                    trial.start_encoding()
            except (FFmpegError, ValueError):
                found.append(track)
    return found


def join(parts: Sequence[Path], target: Path, shape: Shape, companions: Companions) -> None:
    """Write a film of parts that `write_part` has made, coded as they are.

    Args:
        target: the file to write, whose ending says of what kind it is; what is there is
            overwritten.

    Raises:
        OSError: it cannot be written.
    """
    format = _FORMATS[target.suffix.lower()]
    options: dict[str, str] = {}
    if format in ("mp4", "mov"):
        # Its header goes to the front, and the beginning is not rounded to milliseconds.
        options = {"movflags": "+faststart"}
        if shape.time_base.denominator <= _LONGEST:
            options["movie_timescale"] = str(max(1000, shape.time_base.denominator))
    clip = companions.clip
    with (
        plain_errors(),
        av.open(f"file:{target}", "w", format=format, container_options=options) as out,
        opened(clip.path if clip else parts[0]) as source,
    ):
        pictures = add_pictures(out, shape)
        if shape.encoding.codec == "h265" and options:
            pictures.codec_context.codec_tag = "hvc1"  # Apple's players know no other.
        pictures.disposition = Disposition.default
        copies = {t.index: _added(out, source.streams[t.index]) for t in companions.tracks}
        out.metadata.update(_metadata(clip.metadata if clip else {}, companions.comment))
        if companions.xmp and not options:
            out.metadata["XMP"] = companions.xmp  # Matroska has tags of any name,
        chapters = _chapters(clip.chapters if clip else (), companions)
        out.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start,
                    "end": chapter.end,
                    "time_base": chapter.time_base,
                    "metadata": chapter.metadata,
                }
                for number, chapter in enumerate(chapters, 1)
            ]
        )
        coded = _coded(parts, pictures, shape, companions.start)
        others = _copied(source, copies, companions)
        for packet in heapq.merge(coded, others, key=_when):
            out.mux_one(packet)
    if companions.xmp and options:
        _append_xmp(target, companions.xmp)  # and MP4 a box.


def _append_xmp(path: Path, xmp: str) -> None:
    """Put a packet at an MP4's end, in the box that the XMP specification (part 3) gives it."""
    data = _XMP_BOX.bytes + xmp.encode()
    with path.open("ab") as file:
        file.write((8 + len(data)).to_bytes(4) + b"uuid" + data)


def _added(out: OutputContainer, template: Stream) -> Stream:
    stream = out.add_stream_from_template(template, opaque=True)
    stream.metadata.update(template.metadata)
    if "name" in template.metadata:
        stream.metadata.setdefault("title", template.metadata["name"])  # As MP4 has it.
    stream.disposition = template.disposition
    return stream


def _when(packet: Packet[Stream]) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


def _coded(
    parts: Sequence[Path], stream: VideoStream, shape: Shape, start: float | None
) -> Iterator[Packet[Stream]]:
    """The pictures' packets, each with the time until the next one for its duration."""
    before: Packet[Any] | None = None
    zero = round(Fraction(start or 0) / shape.time_base)
    for part in parts:
        with opened(part) as container:
            source = container.streams.video[0]
            for packet in container.demux(source):
                if packet.pts is None:
                    continue
                packet.pts = round(packet.pts * packet.time_base / shape.time_base) - zero
                packet.dts, packet.time_base, packet.stream = packet.pts, shape.time_base, stream
                if before is not None and before.pts is not None:
                    before.duration = packet.pts - before.pts
                    yield before
                before = packet
    if before is not None:
        before.duration = max(1, round(1 / shape.rate / shape.time_base))
        yield before


def _copied(
    source: InputContainer, copies: Mapping[int, Stream], companions: Companions
) -> Iterator[Packet[Stream]]:
    """The packets of the tracks that are copied, as they are but for the beginning of time.

    What cannot be read is left out: the pictures have told of the damage.
    """
    if not copies:
        return
    clip, start, end = companions.clip, companions.start, companions.end
    assert clip is not None
    zero = clip.zero + Fraction(start or 0)
    for packet in _readable(source.demux(*[source.streams[index] for index in copies])):
        stream = packet.stream
        if packet.size == 0 or (stream.type == "subtitle" and bytes(packet) == _SILENCE):
            continue
        if stream.disposition & Disposition.attached_pic:
            packet.pts = packet.dts = 0  # A cover has no time.
            packet.stream = copies[stream.index]
            yield packet
            continue
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            continue
        seconds = float(pts * packet.time_base - clip.zero)
        if (start is not None and seconds < start) or (end is not None and seconds >= end):
            continue
        shift = round(zero / packet.time_base)
        dts = packet.dts if packet.dts is not None else pts
        packet.pts, packet.dts = pts - shift, dts - shift
        packet.stream = copies[stream.index]
        yield packet


def _readable(packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
    """Those before the first that cannot be read."""
    while True:
        try:
            packet = next(packets, None)
        except (FFmpegError, OSError):
            return
        if packet is None:
            return
        yield packet


def _metadata(metadata: Mapping[str, str], comment: str) -> dict[str, str]:
    """Those of the film; what it said as a comment stays before ours."""
    kept = {name: text for name, text in metadata.items() if name.lower() not in _OF_THE_CONTAINER}
    old = next((kept.pop(name) for name in list(kept) if name.lower() == "comment"), "")
    return {**kept, "comment": f"{old}\n{comment}" if old else comment}


def _chapters(chapters: Sequence[Chapter], companions: Companions) -> Iterator[Chapter]:
    """Those that lie in what is copied, cut to it."""
    for chapter in chapters:
        base = chapter.time_base
        start = round(Fraction(companions.start or 0) / base)
        end = chapter.end if companions.end is None else round(Fraction(companions.end) / base)
        if chapter.end > start and chapter.start < end:
            begins, ends = max(chapter.start, start) - start, min(chapter.end, end) - start
            yield Chapter(begins, ends, base, chapter.metadata)
