"""`pulse evaluate` as a person meets it: in a process of its own, killed and gone on with."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pulse.superres import weights
from pulse.superres.networks import SRResNetConfig
from stylegan import Generator
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.command import DEVNULL, Done, Started, pulse

PATIENCE = 240


def evaluate(*arguments: str | float | Path, cwd: Path) -> Done:
    return pulse("evaluate", *arguments, cwd=cwd)


@pytest.fixture
def folder(tiny: Generator, tmp_path: Path) -> Path:
    """A small generator, a small network and six pictures with labels."""
    assert isinstance(tiny, StyleGAN2)
    save(tiny, tmp_path / "tiny.safetensors")
    weights.save(weights.build(SRResNetConfig(2, 1, 8, kernel=3)), tmp_path / "x.safetensors")
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    lines = ["file,label"]
    for number in range(6):
        pixels = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        pixels.resize((48, 48), Image.Resampling.BICUBIC).save(tmp_path / "in" / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), "utf-8")
    return tmp_path


def values(table: dict[str, Any]) -> dict[str, Any]:
    """Everything that does not depend on the machine."""
    return {
        method["name"]: {
            key: value
            for key, value in method["values"].items()
            if key not in ("seconds", "memory")
        }
        for method in table["methods"]
    }


def children(pid: int) -> list[int]:
    """Processes that it has started, where the system tells (Linux)."""
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split())]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_killed_run_goes_on_and_comes_to_the_same(folder: Path) -> None:
    arguments = (
        "in", "--generator", "tiny.safetensors", "--methods", "nearest,default",
        "--steps", 4, "-n", 2, "--labels", "labels.csv", "--json", "--workers", 2,
    )  # fmt: skip
    words = ["evaluate", *map(str, arguments), "-o", "killed"]
    process = Started(words, cwd=folder, stdout=DEVNULL, stderr=DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while len(list((folder / "killed").glob("pictures/nearest/*-drawn.json"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    own = children(process.pid)
    process.kill()
    process.wait()
    made = {file: file.stat().st_mtime_ns for file in folder.glob("killed/pictures/*/*-drawn.json")}
    assert not (folder / "killed" / "table.json").exists()
    while any(map(alive, own)):  # They end after the face that they are at.
        assert time.monotonic() < deadline
        time.sleep(0.1)

    again = evaluate(*arguments, "-o", "killed", cwd=folder)
    assert again.returncode == 0, again.stderr
    whole = evaluate(*arguments, "-o", "whole", cwd=folder)
    assert whole.returncode == 0, whole.stderr
    for file, when in made.items():
        assert file.stat().st_mtime_ns == when, file
    tables = [json.loads(done.stdout) for done in (again, whole)]
    assert values(tables[0]) == values(tables[1])

    table = tables[1]
    assert table == json.loads((folder / "whole" / "table.json").read_text("utf-8"))
    assert [m["name"] for m in table["methods"]] == ["truth", "nearest", "default"]
    assert [m["candidates"] for m in table["methods"]] == [1, 1, 2]
    assert (table["size"], table["lr_size"], len(table["faces"])) == (32, 16, 6)
    assert table["methods"][2]["groups"].keys() == {"a", "b"}
    assert table["methods"][2]["values"]["seconds"]["mean"] > 0
    assert table["methods"][1]["values"]["memory"]["mean"] > 1e7
    with Image.open(next(folder.glob("whole/pictures/nearest/*-00.png"))) as own:
        own.load()
    pixels = np.array(own)
    assert (pixels[::2, ::2] == pixels[1::2, 1::2]).all()
    assert "Description" not in own.info  # Nothing in it is made up.
    with Image.open(next(folder.glob("whole/pictures/default/*-00.png"))) as own:
        assert "to measure a method" in own.info["Description"]
    with Image.open(folder / "whole" / "sheet.png") as sheet:
        assert sheet.width > 4 * 160
        assert sheet.height > 6 * 160
    with Image.open(folder / "whole" / "plot.png") as plot:
        assert plot.width > 500
    assert "| default |" in (folder / "whole" / "table.md").read_text("utf-8")


def test_samples_of_the_generator_where_no_data_are_given(folder: Path) -> None:
    """Also by a factor that takes a network more passes than `pulse upscale` would make."""
    large = StyleGAN2(StyleGAN2Config((8,) * 6, z_dim=8, w_dim=8, mapping_layers=1))
    save(large.requires_grad_(False), folder / "large.safetensors")
    arguments = ("--generator", "large.safetensors", "--methods", "x.safetensors", "--count", 2)
    done = evaluate(*arguments, "--factor", 32, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "x.safetensors" in done.stdout
    table = json.loads((folder / "evaluation" / "table.json").read_text("utf-8"))
    assert (table["size"], table["lr_size"]) == (128, 4)
    assert "samples of the generator large.safetensors" in table["data"]
    with Image.open(folder / "evaluation/pictures/x.safetensors/00001-sample-00.png") as face:
        assert face.size == (128, 128)


@pytest.mark.slow
def test_no_data_and_no_generator_are_needed(tmp_path: Path) -> None:
    """Everything is compared on samples of the embedded one; here on one, once."""
    done = evaluate("--count", 1, "-n", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "evaluation" / "table.json").read_text("utf-8"))
    assert (table["size"], table["lr_size"], len(table["faces"])) == (128, 16, 1)
    assert table["data"].startswith("samples of the generator faces,")
    methods = {method["name"]: method["values"] for method in table["methods"]}
    here = [name for name in weights.names() if name.endswith("-faces-x8")]
    expected = ["truth", "nearest", "bicubic", *here, "paper", "default", "default-512"]
    assert [name for name in methods if name != "realesrgan-x4plus"] == expected
    for name in expected[1:]:
        assert methods[name]["seconds"]["mean"] >= 0
        assert methods[name]["memory"]["mean"] > 1e7
        assert name in done.stdout
    assert methods["default"]["found"]["mean"] == methods["default-512"]["found"]["mean"] == 1
    assert methods["srresnet-faces-x8"]["psnr"]["mean"] > methods["nearest"]["psnr"]["mean"] + 2
    with Image.open(tmp_path / "evaluation/pictures/default-512/00000-sample-00.png") as face:
        assert face.size == (512, 512)
    for name in ("table.md", "sheet.png", "plot.png"):
        assert (tmp_path / "evaluation" / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "nearest,none"), "There is no network none"),
        (("--methods", "nearest,nearest"), "names nearest twice"),
        (("--factor", "3"), "--factor 3 does not take faces of 32 pixels"),
        (("--degradation", "bd"), "--degradation is of films"),
        (("--align",), "--align, --labels and --held-out are of a folder"),
        (("nowhere",), "nowhere is not a folder"),
        (("in", "--labels", "tiny.safetensors"), "is not a table"),
        (("in", "--labels", "labels.csv:age"), "no columns file and age; it has file, label"),
        (("small",), "None of the pictures in small can be used"),
    ],
)
def test_mistakes_get_one_sentence(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "small").mkdir()
    Image.new("RGB", (20, 20)).save(folder / "small" / "a.png")
    done = evaluate(*arguments, "--generator", "tiny.safetensors", cwd=folder)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_films(folder: Path) -> None:
    arguments = ("in", "--video", "--factor", 2, "--methods", "bicubic,x.safetensors")
    done = evaluate(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "tOF" in done.stdout
    assert "--workers" not in done.stderr
    table = json.loads((folder / "evaluation" / "film.json").read_text("utf-8"))
    assert [m["name"] for m in table["methods"]] == ["truth", "bicubic", "x.safetensors"]
    assert (table["frames"], table["counted"], table["border"]) == (6, 2, 8)
    assert table["degradation"] == "bicubic"
    assert table["methods"][1]["values"]["psnr"]["mean"] > 15
    assert "| bicubic |" in (folder / "evaluation" / "film.md").read_text("utf-8")
    again = evaluate(*arguments, "--json", "--workers", 2, cwd=folder)
    assert json.loads(again.stdout) == table
    assert "--workers is not used with --video" in again.stderr
    blurred = evaluate(*arguments, "--json", "--degradation", "bd", cwd=folder)
    other = json.loads(blurred.stdout)
    assert other["degradation"] == "bd"
    assert other["methods"][1]["values"]["psnr"] != table["methods"][1]["values"]["psnr"]
    short = evaluate(*arguments, "--count", 5, cwd=folder)
    assert short.returncode == 2
    assert "give a longer film, or a larger --count" in short.stderr
    wrong = evaluate(*arguments[:2], "--factor", 2.5, cwd=folder)
    assert wrong.returncode == 2
    assert "--factor takes a whole number" in wrong.stderr
