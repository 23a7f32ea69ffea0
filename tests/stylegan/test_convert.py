"""`python -m stylegan convert`, as a person meets it."""

from pathlib import Path

import pytest
import torch

from stylegan.checkpoints import open_checkpoint, read_metadata
from tests.command import Done, stylegan


def convert(*arguments: str | Path, cwd: Path) -> Done:
    return stylegan("convert", *arguments, cwd=cwd)


def test_a_checkpoint_becomes_safetensors(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures" / "stylegan3-r.pkl"
    done = convert(source, "out.safetensors", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "out.safetensors  StyleGAN3, 64 pixels, float32\n"
    ws = torch.randn(1, 16, 64)
    before, after = open_checkpoint(source), open_checkpoint(tmp_path / "out.safetensors")
    assert torch.equal(before.synthesis(ws), after.synthesis(ws))
    assert read_metadata(tmp_path / "out.safetensors")["source"] == "stylegan3-r.pkl"

    done = convert(source, "half.safetensors", "--dtype", "float16", cwd=tmp_path)
    assert done.returncode == 0
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "out")]
    assert sizes[0] < 0.55 * sizes[1]


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("nobody", "x.safetensors", "No generator is named nobody"),
        ("text.pkl", "x.safetensors", "text.pkl cannot be opened as a generator"),
        ("faces", "x.pkl", "should end in .safetensors"),
        ("faces", "nowhere/x.safetensors", "cannot be written"),
    ],
)
def test_wrong_calls(source: str, target: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "text.pkl").write_text("no pickle", "utf-8")
    done = convert(source, target, cwd=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"text.pkl"}
