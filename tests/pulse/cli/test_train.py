"""`pulse train` as a person meets it: in a process of its own."""

import json
import signal
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pulse.superres import load
from pulse.superres.networks import FRVSR, FRVSRConfig
from tests.command import DEVNULL, Done, Started, pulse

SMALL = (
    "--network", "compact", "--blocks", "1", "--channels", "8", "--batch", "2", "--patch", "12",
)  # fmt: skip


def run(*arguments: str, cwd: Path) -> Done:
    return pulse("train", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        image.resize((96, 80), Image.Resampling.LANCZOS).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def film(path: Path, seconds: int = 4, rate: int = 10) -> None:
    rng = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(seconds * rate):
            noise = Image.fromarray(rng.integers(0, 256, (8, 12, 3), np.uint8))
            pixels = np.asarray(noise.resize((96, 64), Image.Resampling.BICUBIC))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


def test_killed_and_gone_on_with(folder: Path) -> None:
    """What was saved before SIGKILL is gone on from by the same command."""
    arguments = (
        "photos", "-o", "out", *SMALL, "--gan", "--judge-channels", "2", "--judge-head", "patch",
        "--json",
    )  # fmt: skip
    words = ["train", *arguments, "--steps", "1000000", "--save-every", "0.5"]
    process = Started(words, cwd=folder, stdout=DEVNULL, stderr=DEVNULL)
    log = folder / "out" / "log.jsonl"
    deadline = time.monotonic() + 90
    while not (log.exists() and log.read_text("utf-8").count("\n") >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = [json.loads(line)["step"] for line in log.read_text("utf-8").splitlines()]
    load(folder / "out" / "network.safetensors")
    steps = saved[-1] + 50
    done = run(*arguments, "--steps", str(steps), cwd=folder)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told[-1]["step"] == steps
    assert told[-1]["psnr_y"] is not None


def test_a_film(folder: Path) -> None:
    film(folder / "film.mp4")
    arguments = ("film.mp4", "-o", "out", *SMALL, "--steps", "3", "--every", "2")
    done = run(*arguments, "--test-seconds", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(Path("out") / "network.safetensors")
    assert "15 pictures to learn from, 5 to measure on" in done.stderr
    assert load(folder / "out" / "network.safetensors").scale == 4


def test_a_frame_recurrent_network_learns_from_a_film(folder: Path) -> None:
    film(folder / "film.mp4")
    sizes = ("--network", "frvsr", "--blocks", "1", "--channels", "8", "--patch", "8")
    arguments = ("film.mp4", "-o", "out", *sizes, "--frames", "3", "--every", "4")
    done = run(*arguments, "--steps", "2", "--test-seconds", "1", "--ping-pong", "0.5", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "30 frames of films and" in done.stderr
    network = load(folder / "out" / "network.safetensors")
    assert isinstance(network, FRVSR)
    assert (network.config.blocks, network.config.channels) == (1, 8)
    done = run(*arguments, "--steps", "2", "--square", "32", cwd=folder)
    assert done.returncode == 2
    assert "--square, --resized and --upright are not for films" in done.stderr


@pytest.mark.slow  # The flow of the paper is large.
def test_other_bodies_and_flows(folder: Path) -> None:
    film(folder / "film.mp4")
    sizes = ("--network", "frvsr", "--blocks", "1", "--channels", "8", "--patch", "8")
    arguments = ("film.mp4", "-o", "out", *sizes, "--steps", "2", "--test-seconds", "1")
    both = ("--body", "dense", "--flow", "learned", "--flow-share", "0.5")
    done = run(*arguments, *both, "--batch", "1", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    stages = [json.loads(line)["stage"] for line in done.stdout.splitlines()]
    assert stages == ["flow", "content"]
    network = load(folder / "out" / "network.safetensors")
    assert network.config == FRVSRConfig(4, 1, 8, "dense", 4, (32, 64, 128))
    for other, words in (
        ((), "give the same sizes"),
        (("--body", "slim"), "--body"),
        (("--flow", "none"), "--flow"),
        (("--flow-share", "2"), "--flow-share is a share"),
    ):
        done = run(*arguments, *other, cwd=folder)
        assert done.returncode == 2
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("photos", "--patch", "30"), "--patch"),
        (("photos", "--scale", "5", "--network", "srresnet"), "cannot be"),
        (("photos", "--vgg", "photos/0.png", "--loss", "perceptual"), "VGG-16"),
        (("photos", "--precision", "float16"), "--precision"),
        (("photos", "--held-out", "4"), "--held-out"),
        (("photos", "--degrade", "mask:photos/0.png"), "mask"),
        (("photos/0.png",), "at least one"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_sentence(
    folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    # Of an option that is given twice the last counts.
    done = run(*SMALL, "--steps", "1", *arguments, "-o", "out", cwd=folder)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pulse: ")
    assert words in last
