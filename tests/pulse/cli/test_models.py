"""`pulse models`, and `pulse run` with a generator that has to be fetched, as processes."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pulse.cli.app import main
from stylegan import Generator
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2
from tests import command
from tests.server import FileServer, running
from tests.systems import LINUX

ROOT = Path(__file__).parents[3]
NAME = "stylegan2-ffhq-256"
FILE = "stylegan2-ffhq-256x256.pkl"
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def server(tiny: Generator, tmp_path: Path) -> Iterator[FileServer]:
    """A mirror that has a tiny generator under the name of a large one."""
    assert isinstance(tiny, StyleGAN2)
    save(tiny, tmp_path / "tiny.safetensors")
    with running() as server:
        server.files[FILE] = (tmp_path / "tiny.safetensors").read_bytes()
        yield server


def environment(server: FileServer | None, cwd: Path) -> dict[str, str]:
    mirror = {} if server is None else {"PULSE_MIRROR": server.url}
    own = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PULSE_HOME": str(cwd / "home")}
    return os.environ | own | mirror


def pulse(*arguments: str | Path, cwd: Path, server: FileServer | None = None) -> Done:
    return command.pulse(*arguments, cwd=cwd, env=environment(server, cwd))


def test_list(tmp_path: Path) -> None:
    done = pulse("models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "pixels", "draws", "size", "here", "licence"]
    assert re.match(r"faces +128 +faces +15 MB +yes +research", lines[1])
    pattern = rf"{NAME} +256 +faces +about 300 MB +no +NVIDIA .*non-commercial"
    assert re.search(pattern, done.stdout)
    assert re.search("stylegan1-ffhq-1024: .* often over its quota", done.stdout)
    listed = json.loads(pulse("models", "list", "--json", cwd=tmp_path).stdout)
    assert [line.split()[0] for line in lines[1:17]] == [model["name"] for model in listed]
    assert {model["name"] for model in listed if model["here"]} == {"faces"}


def test_fetch_and_info(server: FileServer, tmp_path: Path) -> None:
    before = json.loads(pulse("models", "info", NAME, "--json", cwd=tmp_path).stdout)
    assert before["here"] is False
    assert before["addresses"] == [
        f"https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/{FILE}"
    ]
    done = pulse("models", "fetch", NAME, cwd=tmp_path, server=server)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "home" / "models" / NAME / FILE
    assert done.stdout == f"{path}\n"
    assert done.stderr.startswith(f"Fetching {NAME}, about 300 MB. Licence: NVIDIA Source Code")
    size = len(server.files[FILE]) / 1e6
    assert done.stderr.endswith(f"{FILE}: {size:.1f} MB of {size:.1f} MB\n")

    again = pulse("models", "fetch", NAME, "--json", cwd=tmp_path, server=server)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(again.stdout) == [{"name": NAME, "path": str(path), "sha256": digest}]
    assert again.stderr == ""
    assert len(server.asked) == 1

    known, file = (
        json.loads(pulse("models", "info", name, "--json", cwd=tmp_path).stdout)
        for name in (NAME, path)
    )
    assert known["here"] is True
    assert file == {
        "path": str(path),
        "bytes": len(server.files[FILE]),
        "sha256": digest,
        "family": "StyleGAN2",
        "resolution": 32,
        "z_dim": 32,
        "w_dim": 32,
        "num_layers": 8,
        "parameters": file["parameters"],
    }
    # Mapping: two layers of 32 to 32.
    assert file["parameters"] > 2 * (32 * 32 + 32)
    assert all(known[key] == value for key, value in file.items())


def test_info_of_the_embedded(tmp_path: Path) -> None:
    done = pulse("models", "info", "faces", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^family +StyleGAN2$", done.stdout, re.M)
    assert re.search(r"^parameters +7265661$", done.stdout, re.M)  # The model card: 7.3 million.
    assert re.search(r"^here +yes$", done.stdout, re.M)


def test_run_fetches_on_first_use(server: FileServer, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    arguments = ["run", "face.png", "-n", "1", "--steps", "1", "--generator", NAME, "--json"]
    done = pulse(*arguments, cwd=tmp_path, server=server)
    assert done.returncode == 1, done.stderr  # Nothing matches noise in one step.
    assert f"Fetching {NAME}, about 300 MB. Licence: NVIDIA" in done.stderr
    assert f"{FILE}: " in done.stderr
    digest = hashlib.sha256(server.files[FILE]).hexdigest()
    expected = {"name": NAME, "resolution": 32, "sha256": digest}
    assert json.loads(done.stdout)[0]["generator"] == expected
    server.server_close()  # From here on there is no connection, and none is needed.
    done = pulse(*arguments, cwd=tmp_path, server=server)
    assert done.returncode == 1, done.stderr
    assert "Fetching" not in done.stderr


def test_offline(server: FileServer, tmp_path: Path) -> None:
    server.server_close()
    Image.new("RGB", (16, 16)).save(tmp_path / "face.png")
    for arguments in (["models", "fetch", NAME], ["run", "face.png", "--generator", NAME]):
        done = pulse(*arguments, cwd=tmp_path, server=server)
        assert done.returncode == 2
        said = done.stderr.splitlines()[-1]
        folder = tmp_path / "home" / "models" / NAME
        assert said.startswith(f"pulse: {NAME} was not fetched: there is no connection to ")
        assert f"{server.url}/{FILE};" in said
        assert said.endswith(f"put the file into {folder} by hand, named {FILE}.")


def test_a_cut_connection_goes_on(server: FileServer, tmp_path: Path) -> None:
    half = 2**15
    server.cuts = [half, 0]
    done = pulse("models", "fetch", NAME, cwd=tmp_path, server=server)
    assert done.returncode == 2
    assert "was lost after 0.0 MB; try again later, which goes on where it stopped" in done.stderr
    done = pulse("models", "fetch", NAME, cwd=tmp_path, server=server)
    assert done.returncode == 0, done.stderr
    assert server.asked == ["", f"bytes={half}-", f"bytes={half}-"]
    assert Path(done.stdout.strip()).read_bytes() == server.files[FILE]


def test_two_processes_fetch_it_once(server: FileServer, tmp_path: Path) -> None:
    server.wait.clear()
    words, env = ["models", "fetch", NAME], environment(server, tmp_path)
    both = [command.Started(words, cwd=tmp_path, env=env) for _ in range(2)]
    deadline = time.monotonic() + 60
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    server.wait.set()
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert Path(out.strip()).read_bytes() == server.files[FILE]
    assert server.asked == [""]


@LINUX
def test_a_bar_on_a_terminal(server: FileServer, tmp_path: Path) -> None:
    import pty  # Here, since Windows has none.

    ours, theirs = pty.openpty()
    process = command.Started(
        ["models", "fetch", NAME],
        cwd=tmp_path,
        env=environment(server, tmp_path) | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=command.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:  # Linux's way to say that the other side was closed.
        pass
    os.close(ours)
    assert process.wait() == 0
    assert FILE.encode() in shown
    assert "━".encode() in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fetch", "ffhq-1024"], "No generator is named ffhq-1024.*nearest: stylegan2-ffhq-1024"),
        (["fetch", NAME, "nobody"], "No generator is named nobody"),
        (["fetch"], "NAME"),
        (["info", "nothing.pkl"], "No generator is named nothing.pkl, nor is there such a file"),
        (["info", "."], "is a folder"),
        (["info", "text.txt"], "text.txt"),
        (["--json", "fetch", NAME], "--json after the command"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.txt").write_text("text", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PULSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["pulse", "models", *arguments])
    assert main() == 2
    printed = capsys.readouterr()
    assert re.search(said, printed.err)
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (tmp_path / "home").exists()
