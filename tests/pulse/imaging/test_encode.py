"""Frames to parts of films: what is coded is what was given."""

import gc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pulse.imaging.clips import open_clip
from pulse.imaging.colours import Colours
from pulse.imaging.encode import Shape, write_part
from pulse.imaging.encoding import Codec, Encoding
from pulse.imaging.join import Companions, join
from pulse.imaging.pictures import InputError
from tests.films import TICKS, UNEVEN, picture

SHAPE = Shape(
    width=64,
    height=48,
    pixel_aspect=Fraction(1),
    colours=Colours(1, False, 1, 1),
    deep=False,
    time_base=TICKS,
    rate=Fraction(25),
    encoding=Encoding("h264", 0),
)
NOTHING = Companions(clip=None, tracks=(), start=None, end=None, comment="")


def written(folder: Path, frames: list[np.ndarray], shape: Shape) -> Path:
    timed = zip(UNEVEN, frames, strict=False)
    assert list(write_part(folder / "a.nut", timed, shape)) == [*range(1, len(frames) + 1)]
    join([folder / "a.nut"], folder / "a.mkv", shape, NOTHING)
    return folder / "a.mkv"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9])
def test_a_colour_stays_however_it_is_coded(tmp_path: Path, matrix: int, full: bool) -> None:
    shape = replace(SHAPE, colours=Colours(matrix, full, 1, 1))
    colours = np.random.default_rng(0).integers(0, 256, (8, 1, 1, 3), np.uint8)
    flat = [np.broadcast_to(c, (48, 64, 3)).copy() for c in colours]
    film = written(tmp_path, flat, shape)
    for frame, expected in zip(open_clip(film).frames(), flat, strict=True):
        assert np.abs(frame.pixels.astype(int) - expected).max() <= 2


def test_colours_do_not_wander(tmp_path: Path) -> None:
    """Half the colour resolution is taken from where it was put, however often."""
    first = given = picture(3, 128, 96)
    shape = replace(SHAPE, width=128, height=96)
    for _ in range(4):
        film = written(tmp_path, [given], shape)
        given = next(open_clip(film).frames()).pixels
    squares = (given.astype(float) - first).reshape(12, 8, 16, 8, 3).mean((1, 3))
    assert np.abs(squares).max() < 1


def test_ten_bits_stay(tmp_path: Path) -> None:
    ramp = np.linspace(10_000, 50_000, 64, dtype=np.uint16)
    pixels = np.broadcast_to(ramp[None, :, None], (48, 64, 3)).copy()
    film = written(tmp_path, [pixels], replace(SHAPE, deep=True, encoding=Encoding("h265", 0)))
    frame = next(open_clip(film).frames())
    assert np.abs(frame.pixels.astype(int) - pixels).max() < 130  # Half a step of 8 bits.


def test_no_frame_waits_for_a_later_one(tmp_path: Path) -> None:
    frames = [picture(n, 64, 48) for n in range(12)]
    list(write_part(tmp_path / "a.nut", zip(UNEVEN, frames, strict=True), SHAPE))
    with av.open(str(tmp_path / "a.nut")) as part:
        times = [(p.pts, p.dts) for p in part.demux(video=0) if p.size]
    assert all(pts == dts for pts, dts in times)


def test_a_part_is_whole_or_not_there(tmp_path: Path) -> None:
    frames = ((pts, picture(pts, 64, 48)) for pts in UNEVEN)
    for count in write_part(tmp_path / "a.nut", frames, SHAPE):
        if count == 3:
            break
    gc.collect()  # Where an iterator is left, it is closed once nobody holds it.
    assert not list(tmp_path.iterdir())


def test_factors_out_of_range() -> None:
    with pytest.raises(InputError, match="has 0, the best, to 51"):
        Encoding("h264", 52)
    with pytest.raises(InputError, match="loses nothing"):
        Encoding("ffv1", 10)
    assert Encoding("vp9", 63).options()["crf"] == "63"


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1", "ffv1"])
def test_players_are_told_the_rate(tmp_path: Path, codec: Codec) -> None:
    shape = replace(SHAPE, encoding=Encoding(codec), time_base=Fraction(1, 1000))
    frames = [(n * 40, picture(n, 64, 48)) for n in range(30)]
    for part in (0, 1):
        list(write_part(tmp_path / f"{part}.nut", frames[15 * part : 15 * part + 15], shape))
    for suffix in (".mkv",) if codec == "ffv1" else (".mkv", ".mp4"):
        film = tmp_path / f"out{suffix}"
        join([tmp_path / "0.nut", tmp_path / "1.nut"], film, shape, NOTHING)
        clip = open_clip(film)
        assert clip.rate == 25
        assert clip.colours == shape.colours
        assert [round(frame.seconds * 25) for frame in clip.frames()] == [*range(30)]
