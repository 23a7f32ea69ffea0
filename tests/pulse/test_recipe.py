"""The recipe of docs/films.md, from a film to a film that compares: on a small one."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from pulse.imaging.clips import open_clip
from pulse.superres import build, load
from tests.command import pulse
from tests.films import Kind, decoded, make_film, packets, times


def test_from_a_film_to_a_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = Kind(size=(112, 96), times=range(0, 50 * 3600, 3600))
    film = make_film(tmp_path / "clip.mp4", kind)
    done = pulse(
        "train", "clip.mp4", "-o", "runs/mine", "--gan", "--every", "5",
        "--test-seconds", "0.8", "--steps", "12", "--network", "srresnet", "--blocks", "1",
        "--channels", "8", "--batch", "2", "--patch", "16", "--judge-channels", "8", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    network = load("runs/mine/network.safetensors")
    torch.manual_seed(0)
    fresh = build(network.config).state_dict()
    assert any(not torch.equal(fresh[k], x) for k, x in network.state_dict().items())

    last = ("--start", "-0.8", "--network", "runs/mine/network.safetensors")
    for made in (("large.mp4",), ("panels.mp4", "--compare")):
        done = pulse("video", "clip.mp4", "-o", *made, *last, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    frames = [Fraction(n, 25) for n in range(20)]
    clip, panels = open_clip(Path("large.mp4")), open_clip(Path("panels.mp4"))
    assert (clip.width, clip.height) == (448, 384)
    assert times(Path("large.mp4")) == times(Path("panels.mp4")) == frames
    sound = [data for at, data in packets(film, "audio")[0] if at >= 1.2]
    for made in ("large.mp4", "panels.mp4"):
        assert [data for _, data in packets(Path(made), "audio")[0]] == sound
    assert panels.width > 2 * 112
    assert np.ptp(decoded(Path("panels.mp4"))[0]) > 150
