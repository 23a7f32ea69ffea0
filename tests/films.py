"""Films of any kind, made on the fly, and what is in the films that were made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from PIL import Image

from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig

TICKS = Fraction(1, 90_000)
CAREFUL = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
EVEN = tuple(range(0, 12 * 3600, 3600))
UNEVEN = (0, 3600, 4500, 9000, 18000, 18001, 27000, 28800, 40000, 41000, 50000, 60000)


@dataclass(frozen=True)
class Kind:
    """What a film is like.

    Attributes:
        times: when frames are shown, in `base`.
        colours: matrix, range, primaries, transfer as libav has them; None leaves them untagged.
        sounds: how many tracks of sound.
        matrix: what luma and chroma are made with, if `colours` is None.
    """

    size: tuple[int, int] = (64, 48)
    times: Sequence[int] = EVEN
    base: Fraction = TICKS
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    colours: tuple[int, int, int, int] | None = (1, 1, 1, 1)
    matrix: int = 5
    aspect: Fraction = Fraction(1)
    rotation: tuple[float, bool, bool] | None = None
    sounds: int = 1
    subtitles: bool = False
    interlaced: bool = False
    chapters: bool = False


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A smooth picture [h, w, 3] that is another for each number, and lies no way but one."""
    grid = np.random.default_rng(number).integers(60, 190, (3, 4, 3), np.uint8)
    grid[0, 0], grid[-1, -1] = (200, 60, 60), (50, 80, 180)
    image = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def make_film(path: Path, kind: Kind = Kind()) -> Path:
    """A film of that kind, nearly lossless."""
    with av.open(str(path), "w") as out:
        stream = _pictures(out, kind)
        languages = ("deu", "eng", "fra")[: kind.sounds]
        sounds = [_sound(out, 44100 // i, name) for i, name in enumerate(languages, 1)]
        words = _words(out, path) if kind.subtitles else None
        out.metadata.update({"title": "A film", "comment": "by hand", "artist": "Someone"})
        if kind.chapters:
            base = Fraction(1, 1000)
            names = [(0, 200, "One"), (200, 440, "Two")]
            out.set_chapters(
                [
                    {"id": i, "start": a, "end": b, "time_base": base, "metadata": {"title": name}}
                    for i, (a, b, name) in enumerate(names, 1)
                ]
            )
        for sound in sounds:
            _tones(out, sound, float(kind.times[-1] * kind.base) + 0.05)
        if words is not None:
            _lines(out, words, path)
        for number, pts in enumerate(kind.times):
            frame = _frame(picture(number, *kind.size), kind)
            frame.pts, frame.time_base = pts, kind.base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _pictures(out: OutputContainer, kind: Kind) -> VideoStream:
    options = {"crf": "2", "preset": "ultrafast"} if kind.codec == "libx264" else {}
    if kind.interlaced:
        options["x264-params"] = "tff=1"
        options["flags"] = "+ildct+ilme"
    stream = out.add_stream(kind.codec, rate=25, options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = *kind.size, kind.pixel_format
    stream.time_base = stream.codec_context.time_base = kind.base
    context = stream.codec_context
    context.sample_aspect_ratio = kind.aspect
    if kind.codec == "libx264":
        context.max_b_frames = 2
    if kind.colours:
        context.colorspace, context.color_range = kind.colours[:2]
        context.color_primaries, context.color_trc = kind.colours[2:]
    if kind.rotation:
        stream.set_display_rotation(*kind.rotation)
    return stream


def _frame(pixels: np.ndarray, kind: Kind) -> av.VideoFrame:
    matrix, full = kind.colours[:2] if kind.colours else (kind.matrix, 1)
    frame = av.VideoFrame.from_ndarray(pixels)
    frame.pts = 0
    graph = Graph()  # Which says where chroma lies: on the left, as every player has it.
    nodes = (
        graph.add_buffer(None, *kind.size, format=frame.format, time_base=TICKS),
        graph.add("setparams", "chroma_location=left"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    graph.vpush(frame)
    frame = graph.vpull()
    frame.color_range = 2
    made = frame.reformat(
        format=kind.pixel_format,
        dst_colorspace=5 if matrix == 6 else matrix,
        dst_color_range=full,
        interpolation=CAREFUL,
    )
    if kind.colours:
        made.colorspace, made.color_range, made.color_primaries, made.color_trc = kind.colours
    else:
        made.colorspace, made.color_range = 2, 0
    return made


def _sound(out: OutputContainer, rate: int, language: str) -> AudioStream:
    stream = out.add_stream("aac", rate=rate)
    stream.metadata.update({"language": language, "title": f"Sound in {language}"})
    return stream


def _tones(out: OutputContainer, stream: AudioStream, seconds: float) -> None:
    rate = stream.rate
    for start in range(0, int(seconds * rate), 1024):
        x = np.sin((start + np.arange(1024)) * 2000 / rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([x, x]), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _words(out: OutputContainer, path: Path) -> Any:
    stream = out.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text")
    stream.metadata["language"] = "eng"
    stream.time_base = Fraction(1, 1000)
    return stream


def _lines(out: OutputContainer, stream: Any, path: Path) -> None:
    for number in range(3):
        data = f"Line {number}".encode()
        packet = av.Packet(data if path.suffix == ".mkv" else len(data).to_bytes(2) + data)
        packet.pts = packet.dts = number * 150
        packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), stream
        out.mux(packet)


def packets(path: Path, kind: str) -> list[list[tuple[float, bytes]]]:
    """Time and bytes of all packets of each track of a kind."""
    found = []
    with av.open(str(path)) as film:
        count = len([s for s in film.streams if s.type == kind])
    for number in range(count):
        with av.open(str(path)) as film:
            stream = [s for s in film.streams if s.type == kind][number]
            rows = [
                (round(float(p.pts * p.time_base), 3), bytes(p))
                for p in film.demux(stream)
                if p.pts is not None and p.size
            ]
        found.append(rows)
    return found


def times(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds."""
    with av.open(str(path)) as film:
        frames = film.decode(video=0)
        return [f.pts * f.time_base for f in frames if f.pts is not None and f.time_base]


def decoded(path: Path) -> np.ndarray:
    """All frames [n, h, w, 3] as libav shows them when told nothing."""
    with av.open(str(path)) as film:
        return np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video=0)])


def save_network(path: Path, scale: int = 2) -> Path:
    """A tiny network that enlarges almost bilinearly."""
    weights.save(weights.build(SRResNetConfig(scale, 1, 8, kernel=3)), path)
    return path
