"""A batch on a local Ray, which is started for each test and takes seconds."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pulse.batch import ray_engine
from pulse.batch.foreman import TIMES, Foreman
from pulse.batch.inputs import Item
from pulse.batch.manifest import Entry
from pulse.batch.worker import Order, Report
from pulse.imaging.pictures import InputError
from pulse.settings import Settings
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2
from tests.systems import LINUX

ROOT = Path(__file__).parents[3]
# Ray makes its workers nice to others, so that a busy machine never gets to them.
ENV = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
OPTIONS = ["--generator", "tiny.safetensors", "-n", "2", "-r"]
RAY = ["--engine", "ray", "--workers", "2"]


@pytest.fixture
def folder(tiny: StyleGAN2, tmp_path: Path) -> Path:
    save(tiny, tmp_path / "tiny.safetensors")
    rng = np.random.default_rng(0)
    for number in range(16):
        path = tmp_path / "in" / f"x{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (tmp_path / "in" / "bad.png").write_text("bad", "utf-8")
    return tmp_path


def begin(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "pulse", "batch", *arguments], cwd=cwd, env=ENV, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def manifest(output: Path) -> list[Entry]:
    lines = (output / "manifest.jsonl").read_bytes().splitlines()
    return [replace(Entry.parse(line), seconds=0) for line in lines]


@LINUX
@pytest.mark.slow
def test_two_workers_one_of_them_killed(folder: Path) -> None:
    """It makes what one process makes, and takes over from it and back."""
    steps = ["--steps", "40", "--tolerance", "1e-9"]
    process = begin("in", "ray", *OPTIONS, *steps, *RAY, cwd=folder)
    assert process.stderr is not None
    workers: list[int] = []
    said = ""
    for line in process.stderr:
        said += line
        workers += map(int, re.findall(r"worker has started: process (\d+)", line))
        if len(workers) == 2:
            break
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()))
    reader.start()
    while not list((folder / "ray").glob("*/*/result.json")):
        assert process.poll() is None, said
    os.kill(workers[0], signal.SIGKILL)
    assert process.stdout is not None
    output = process.stdout.read()
    reader.join()
    assert process.wait(timeout=120) == 1
    said = "".join(errors)
    assert "A worker has died; others do what it had in work." in said
    assert "worker has started" in said, "Nobody took its place."
    assert "Traceback" not in said
    assert "17 pictures, 16 faces: 0 found (0%), 16 not found, 1 failed" in output
    process.stdout.close()
    process.stderr.close()

    local = begin("in", "local", *OPTIONS, *steps, cwd=folder)
    assert "16 not found, 1 failed" in local.communicate()[0]
    assert manifest(folder / "ray") == manifest(folder / "local")
    for path in (folder / "local").rglob("*.png"):
        other = folder / "ray" / path.relative_to(folder / "local")
        if path.is_file():
            assert path.read_bytes() == other.read_bytes()
    again = begin("in", "ray", *OPTIONS, *steps, cwd=folder)
    assert "16 of them done before" in again.communicate()[0]
    again = begin("in", "local", *OPTIONS, *steps, *RAY, cwd=folder)
    assert "16 of them done before" in again.communicate()[0]


@pytest.mark.slow
def test_a_folder_that_vanishes_while_workers_write(folder: Path) -> None:
    process = begin("in", "out", *OPTIONS, *RAY, "--steps", "40", cwd=folder)
    while not list((folder / "out").glob("*/*/result.json")):
        assert process.poll() is None
    (folder / "out").rename(folder / "away")
    output, said = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "out has vanished" in said or "cannot be written" in said
    assert "Traceback" not in said
    assert not (folder / "out").exists()
    (folder / "away").rename(folder / "out")
    again = begin("in", "out", *OPTIONS, "--steps", "40", cwd=folder)
    assert "17 pictures, 16 faces, " in again.communicate()[0]
    for path in (folder / "out").rglob("result.json"):
        json.loads(path.read_text("utf-8"))


def test_wrong_calls(folder: Path) -> None:
    for arguments, message in (
        (["--address", "127.0.0.1:1"], "There is no Ray cluster at 127.0.0.1:1"),
        (["--device", "cuda"], "The Ray cluster has no GPU"),
        (["--cpus-per-worker", "100000"], "give a smaller --cpus-per-worker"),
    ):
        process = begin("in", "out", *OPTIONS, "--engine", "ray", *arguments, cwd=folder)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2, said
        assert message in said
        assert "Traceback" not in said


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="pip install ray"):
        ray_engine.check(("in", "out"), "auto")


# The foreman, with actors that are no processes.


class _ActorError(Exception):
    pass


class _TaskError(Exception):
    cause = None


class Pretence:
    """What of Ray a foreman needs: calls are answered at once. Some pictures kill."""

    class exceptions:  # noqa: N801
        RayActorError, RayTaskError = _ActorError, _TaskError

    def __init__(self, killers: set[str]) -> None:
        self.killers, self.killed, self.most = killers, 0, 0

    def wait(
        self, calls: list[object], num_returns: int, timeout: float
    ) -> tuple[list[object], list[object]]:
        return calls[:1], calls[1:]

    def get(self, call: object) -> object:
        assert isinstance(call, Call)
        return call.answer()

    def kill(self, actor: object) -> None:
        pass

    def hire(self) -> "Actor":
        return Actor(self)


class Call:
    def __init__(self, answer: Callable[..., object]) -> None:
        self.answer = answer

    def remote(self, *arguments: object) -> "Call":
        return Call(lambda: self.answer(*arguments))


class Actor:
    def __init__(self, ray: Pretence) -> None:
        self.ray, self.orders = ray, list[Order]()
        self.start, self.exchange = Call(lambda: ("host", 1)), Call(self._exchange)

    def _exchange(self, orders: list[Order]) -> tuple[list[Report], None]:
        self.orders += orders
        self.ray.most = max(self.ray.most, len(self.orders))
        order = self.orders.pop(0)
        if order.item.source in self.ray.killers:
            self.ray.killed += 1
            raise _ActorError
        return [Report(order.number, (entry(order),))], None


def entry(order: Order) -> Entry:
    name = order.item.source
    return Entry(name, name, name, "0", "0", 0, 1, "found")


def orders(count: int) -> Iterator[Order]:
    for number in range(count):
        yield Order(number, Item(f"{number}", f"{number}", f"{number}", Settings()))


def test_a_picture_that_kills_is_given_up_and_no_other() -> None:
    ray = Pretence({"5", "17"})
    source = orders(50)
    first = [next(source), next(source)]
    reports = list(Foreman(ray, ray.hire, 2, 4).work(first, source))
    failed = [e.input for report in reports for e in report.entries if e.failed]
    assert sorted(failed) == ["17", "5"]
    assert sorted(report.number for report in reports) == list(range(50))
    assert ray.killed == 2 * TIMES
    assert ray.most == 4


def test_a_million_orders_are_not_taken_ahead() -> None:
    ray = Pretence(set())
    taken = 0

    def counted() -> Iterator[Order]:
        nonlocal taken
        for order in orders(1000):
            taken += 1
            yield order

    source = counted()
    foreman = Foreman(ray, ray.hire, 3, 4)
    for done, _ in enumerate(foreman.work([next(source)], source)):
        assert taken - done <= 3 * 4


@pytest.mark.slow
def test_workers_compute_in_the_precision_that_is_asked_for(folder: Path) -> None:
    """And what was made in another is not taken for the same."""
    arguments = ["in/x0", "out", *OPTIONS, "--steps", "1", "--precision"]
    for engine, precision in ((RAY, "bfloat16"), (RAY, "float32"), ([], "bfloat16")):
        process = begin(*arguments, precision, *engine, cwd=folder)
        output, said = process.communicate(timeout=120)
        assert "8 pictures, 8 faces: 0 found" in output, said
        records = [
            json.loads(path.read_text("utf-8")) for path in (folder / "out").glob("*/result.json")
        ]
        assert [record["config"]["precision"] for record in records] == [precision] * 8
    again = begin(*arguments, "bfloat16", *RAY, cwd=folder)
    assert "8 of them done before" in again.communicate(timeout=120)[0]
