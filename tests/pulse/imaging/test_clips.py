"""Films are read as they are meant, whatever they are."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pulse.imaging.clips import Clip, DamagedError, frames, open_clip, span
from pulse.imaging.pictures import InputError
from tests.films import EVEN, TICKS, UNEVEN, Kind, make_film, picture

LIKE = 1.5
"""What coding alone changes; colours of another kind are off by 8 and more."""


def worst(pixels: np.ndarray, expected: np.ndarray) -> float:
    """The largest mean difference of a channel, in 255ths, which coding alone hardly makes."""
    scale = 257 if pixels.dtype == np.uint16 else 1
    return float(np.abs(pixels / scale - expected.astype(float)).mean((0, 1)).max())


def test_times_of_uneven_frames_are_exact(tmp_path: Path) -> None:
    film = make_film(tmp_path / "a.mp4", Kind(times=UNEVEN))
    clip = open_clip(film)
    assert clip.time_base == TICKS
    assert [frame.pts for frame in clip.frames()] == list(UNEVEN)
    assert clip.count == len(UNEVEN)
    some = [frame.pts for frame in clip.frames(0.1, 0.4)]
    assert some == [t for t in UNEVEN if 9000 <= t < 36000]
    assert [f.pts for f in frames(film, every=5)] == list(UNEVEN[::5])
    assert span(film) == (0, 60000 / 90000)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_films_are_upright(tmp_path: Path, degrees: int, flip: bool) -> None:
    kind = Kind(rotation=(degrees, flip, False), aspect=Fraction(4, 3))
    film = make_film(tmp_path / "a.mp4", kind)
    with av.open(str(film)) as container:
        matrix = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    pixels = picture(0, 64, 48)
    # ISO/IEC 14496-12: (x, y) is shown at (a x + c y, b x + d y), moved to where it can be seen.
    upright = np.array([65536, 0, 0, 0, 65536], np.int32)
    a, b, _, c, d = (np.frombuffer(bytes(matrix or upright), np.int32)[:5] / 65536).tolist()
    y, x = np.mgrid[:48, :64]
    across, down = np.round(a * x + c * y).astype(int), np.round(b * x + d * y).astype(int)
    expected = np.zeros((64, 48, 3) if degrees in (90, 270) else (48, 64, 3), np.uint8)
    expected[down - down.min(), across - across.min()] = pixels
    clip = open_clip(film)
    shown = next(clip.frames()).pixels
    assert shown.shape == expected.shape == (clip.height, clip.width, 3)
    assert clip.pixel_aspect == (Fraction(3, 4) if degrees in (90, 270) else Fraction(4, 3))
    assert worst(shown, expected) < LIKE


@pytest.mark.parametrize(
    "colours", [(1, 1, 1, 1), (6, 1, 6, 6), (1, 2, 1, 1), (9, 1, 9, 14), (5, 2, 5, 6)]
)
def test_tagged_colours(tmp_path: Path, colours: tuple[int, int, int, int]) -> None:
    clip = open_clip(make_film(tmp_path / "a.mp4", Kind(colours=colours)))
    read = clip.colours
    assert (read.matrix, 2 if read.full else 1, read.primaries, read.transfer) == colours
    assert worst(next(clip.frames()).pixels, picture(0, 64, 48)) < LIKE


@pytest.mark.parametrize(("size", "matrix"), [((1280, 720), 1), ((720, 576), 5), ((64, 48), 5)])
def test_untagged_colours_are_those_of_the_size(
    tmp_path: Path, size: tuple[int, int], matrix: int
) -> None:
    kind = Kind(size=size, times=EVEN[:2], colours=None, matrix=matrix, sounds=0)
    clip = open_clip(make_film(tmp_path / "a.mkv", kind))
    assert clip.colours.matrix == (1 if matrix == 1 else 6)
    assert worst(next(clip.frames()).pixels, picture(0, *size)) < LIKE


@pytest.mark.parametrize(
    ("format", "codec", "depth", "grey"),
    [
        ("yuv420p10le", "libx264", 10, False),
        ("yuv444p", "libx264", 8, False),
        ("gray", "ffv1", 8, True),
        ("bgr0", "ffv1", 8, False),
        ("yuv420p", "mpeg4", 8, False),
    ],
)
def test_kinds_of_pixels(tmp_path: Path, format: str, codec: str, depth: int, grey: bool) -> None:
    base = Fraction(1, 1000)
    kind = Kind(codec=codec, pixel_format=format, times=range(0, 400, 40), base=base)
    kind = replace(kind, colours=None if codec == "ffv1" else (6, 1, 6, 6))
    clip = open_clip(make_film(tmp_path / "a.mkv", kind))
    assert (clip.depth, clip.grey) == (depth, grey)
    frame = next(clip.frames())
    assert frame.pixels.dtype == (np.uint16 if depth > 8 else np.uint8)
    if not grey:
        assert worst(frame.pixels, picture(0, 64, 48)) < (4 if codec == "mpeg4" else LIKE)
    else:
        assert (frame.pixels[..., 0] == frame.pixels[..., 1]).all()


def test_ten_bits_are_more_than_eight(tmp_path: Path) -> None:
    kind = Kind(pixel_format="yuv420p10le")
    pixels = next(open_clip(make_film(tmp_path / "a.mp4", kind)).frames()).pixels
    assert len(np.unique(pixels[..., 1])) > 300
    learned_from = next(frames(tmp_path / "a.mp4")).pixels
    assert learned_from.dtype == np.uint8
    assert worst(learned_from, picture(0, 64, 48)) < LIKE


def test_interlaced_films_are_joined(tmp_path: Path) -> None:
    clip = open_clip(make_film(tmp_path / "a.mp4", Kind(interlaced=True)))
    assert clip.interlaced
    assert any("interlaced" in note for note in clip.notes)
    assert [frame.pts for frame in clip.frames()] == list(EVEN)


def test_broadcast_time_begins_at_nothing(tmp_path: Path) -> None:
    late = Kind(times=[t + 90000 * 50 for t in EVEN], sounds=0)
    clip = open_clip(make_film(tmp_path / "a.ts", late))
    assert clip.zero > 49
    first = next(clip.frames())
    assert 0 <= first.seconds < 0.1


def damaged(film: Path, keep: float) -> Path:
    data = film.read_bytes()
    film.write_bytes(data[: int(len(data) * keep)])
    return film


def read(clip: Clip) -> tuple[list[int], str]:
    times, said = [], ""
    try:
        for frame in clip.frames():
            times.append(frame.pts)
    except DamagedError as error:
        said = str(error)
    return times, said


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_broken_tail_is_told_and_the_rest_is_read(tmp_path: Path, keep: float) -> None:
    long = Kind(times=range(0, 100 * 40, 40), base=Fraction(1, 1000), sounds=0)
    film = damaged(make_film(tmp_path / "a.mkv", long), keep)
    times, said = read(open_clip(film))
    whole = len(times) - 3  # The last may lack those that are decoded after it and shown before.
    assert times[:whole] == list(long.times)[:whole]
    assert 100 * keep - 15 < len(times) < 100 * keep + 15
    found = re.search(r"is damaged ([\d.]+) seconds in", said)
    assert found
    assert abs(float(found[1]) - times[-1] / 1000) < 0.3


def test_a_broken_tail_of_a_film_with_its_header_in_front(tmp_path: Path) -> None:
    long = Kind(times=range(0, 100 * 3600, 3600))
    film = make_film(tmp_path / "a.mp4", long)
    with (
        av.open(str(film)) as source,
        av.open(str(tmp_path / "b.mp4"), "w", container_options={"movflags": "+faststart"}) as out,
    ):
        copy = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    times, said = read(open_clip(damaged(tmp_path / "b.mp4", 0.6)))
    assert 40 < len(times) < 80
    assert "is damaged" in said


def test_pictures_that_stand_for_long_are_no_damage(tmp_path: Path) -> None:
    slides = Kind(times=(0, 90_000 * 5, 90_000 * 11), sounds=0)
    for suffix in (".mp4", ".mkv"):
        times, said = read(open_clip(make_film(tmp_path / f"a{suffix}", slides)))
        assert len(times) == 3
        assert not said


def test_a_hole_is_told_and_what_comes_after_is_read(tmp_path: Path) -> None:
    long = Kind(times=range(0, 300 * 40, 40), base=Fraction(1, 1000), sounds=0)
    film = make_film(tmp_path / "a.mp4", long)
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    film.write_bytes(data)
    times, said = read(open_clip(film))
    assert times[-1] * open_clip(film).time_base == long.times[-1] * long.base
    assert "is damaged" in said


def test_sound_films_are_not_called_damaged(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".mov"):
        film = make_film(tmp_path / f"a{suffix}", Kind(sounds=2))
        times, said = read(open_clip(film))
        assert not said
        assert len(times) == 12


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range(tmp_path: Path, transfer: int) -> None:
    kind = Kind(pixel_format="yuv420p10le", colours=(9, 1, 9, transfer))
    film = make_film(tmp_path / "a.mp4", kind)
    with pytest.raises(InputError, match=r"high dynamic range.*tone_map"):
        open_clip(film)
    clip = open_clip(film, tone_map=True)
    out = clip.output_colours
    assert (out.matrix, out.primaries, out.transfer) == (1, 1, 1)
    pixels = next(clip.frames()).pixels
    assert not math.isclose(pixels.mean() / 257, picture(0, 64, 48).mean(), abs_tol=5)


def test_what_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("Not a film at all, but some words.", "utf-8")
    Image.fromarray(picture(0, 40, 30)).save(tmp_path / "picture.png")
    (tmp_path / "picture.png").rename(tmp_path / "picture.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        sound = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 44100
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://localhost:9/a.ts\n", "utf-8")
    for name, words in {
        "empty.mp4": "is empty",
        "text.mp4": "is not a film that opens",
        "picture.mp4": "is a picture, not a film",
        "sound.mp4": "has no pictures in it",
        "list.m3u8": "is not a film that opens",
        "missing.mp4": "does not exist",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=words):
            open_clip(tmp_path / name)


def test_names_are_names_and_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_film(tmp_path / "a.mp4").rename(tmp_path / "http:%d.mp4")
    assert len(list(open_clip(Path("http:%d.mp4")).frames())) == 12
