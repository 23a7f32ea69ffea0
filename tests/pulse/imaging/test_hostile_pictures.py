"""No picture costs more than its pixels are worth, and none is refused but in a sentence."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pulse.imaging.pictures import InputError, decode_picture, read_photo, read_picture
from tests.command import pulse
from tests.crafted import mutate
from tests.crafted_pictures import KINDS, costly_pictures, face, saved, sound_pictures
from tests.systems import LINUX

MEASURE = """
import sys, time
from pathlib import Path
from pulse.imaging.pictures import InputError, read_photo, read_picture
for path in map(Path, sys.argv[1:]):
    for read in (read_picture, read_photo):
        start = time.process_time()
        try:
            read(path)
            print(path.name)
        except InputError as error:
            print(path.name, error)
        assert time.process_time() - start < 5, (path, time.process_time() - start)
    # Not getrusage, whose peak is that of the process which started this one, if that had more.
    status = Path("/proc/self/status").read_text()
    most = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    assert most < 1000, (path, most)
"""


@LINUX
def test_no_crafted_picture_takes_five_seconds_or_a_gigabyte(tmp_path: Path) -> None:
    paths = [str(path) for path in costly_pictures(tmp_path)]
    command = [sys.executable, "-c", MEASURE, *paths]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    said: dict[str, str] = {}
    for line in ran.stdout.splitlines():
        name, _, sentence = line.partition(" ")
        said[name] = sentence
    assert len(said) == len(paths)
    for name in ("grey16.png", "rgba.png", "rgba16.png", "frames.gif", "wide.jp2"):
        assert said[name] == "", name
    for name in ("plain.ppm", "scans.jpg"):
        assert "very long" in said[name]
    for name in ("icon.ico", "claims.qoi", "program.eps", "claims.tiff"):
        assert "not a picture of a known format" in said[name]


@pytest.mark.parametrize("name", [name for name, _ in sound_pictures()])
def test_damaged_pictures_give_a_picture_or_a_sentence(name: str) -> None:
    data = dict(sound_pictures())[name]
    assert decode_picture(data).image.size == (48, 48)
    rng = random.Random(0)
    for _ in range(60):
        damaged = mutate(data, rng)
        start = time.process_time()
        try:
            decode_picture(damaged)
        except InputError as error:
            message = str(error)
            assert message.isprintable(), message
            assert len(message) < 300
        assert time.process_time() - start < 5


def test_all_ten_formats_are_tried() -> None:
    assert {name.split()[0] for name, _ in sound_pictures()} == set(KINDS)


def test_what_a_decoder_did_not_foresee_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("Failed to decode frame 0: \x1b[2J" + "x" * 1000)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(InputError, match="damaged and cannot be read whole") as error:
        decode_picture(saved(face(), "PNG"))
    assert len(str(error.value)) < 250
    assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_what_is_too_large_is_read_smaller_where_that_costs_less(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.imaging.bounds.MOST_OF", {})
    image = face(300)
    (tmp_path / "x").write_bytes(saved(image, kind))
    picture = read_picture(tmp_path / "x", most=50_000)
    assert picture.image.size == (150, 150)
    assert picture.notes == ("It has 300x300 pixels and was read at 1/2 of that.",)
    small = np.array(image.resize((150, 150), Image.Resampling.BOX), float)
    assert np.abs(np.array(picture.image) - small).mean() < 6
    with pytest.raises(InputError, match="300x300 pixels; at most"):
        read_picture(tmp_path / "x", most=1000)
    (tmp_path / "y").write_bytes(saved(image, "JPEG", progressive=True))
    with pytest.raises(InputError, match="300x300 pixels"):
        read_picture(tmp_path / "y", most=50_000)
    assert read_photo(tmp_path / "y").image.size == (300, 300)


def test_a_damaged_avif_keeps_nothing_else_from_being_written(tmp_path: Path) -> None:
    """It raises RuntimeError in Pillow, which ended the whole call."""
    data = saved(face(16), "AVIF", speed=10)
    place = data.index(b"mdat") + 8
    (tmp_path / "bad.avif").write_bytes(data[:place] + bytes(len(data) - place))
    face(16).save(tmp_path / "good.png")
    done = pulse("run", "bad.avif", "good.png", "-n1", "--steps=1", "-o", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "out" / "good" / "candidate-00.png").is_file()
    assert "bad.avif is damaged and cannot be read whole" in done.stderr
    assert "Traceback" not in done.stderr


def test_sixteen_bits_are_read_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (50, 7)).astype(np.uint16)
    whole = (values / 257).round().astype(np.uint8)
    monkeypatch.setattr("pulse.imaging.pictures.STRIP", 30)
    for data in (saved(Image.fromarray(values), "PNG"), saved(Image.fromarray(values), "TIFF")):
        assert np.array_equal(np.array(decode_picture(data).image)[..., 0], whole)
