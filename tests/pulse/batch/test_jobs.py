"""Batches in this process, and at the command line as a person meets them: killed, gone on with."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.batch.inputs import Inputs, Item
from pulse.batch.jobs import Batch, Local
from pulse.batch.manifest import Entry
from pulse.batch.storage import StorageError, open_folder
from pulse.batch.worker import Order, Report, Worker
from pulse.cli.app import main
from pulse.settings import Settings
from pulse.upscale import Upscaler
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2
from tests.command import PIPE, Started, pulse
from tests.systems import LINUX, UNIX

ROOT = Path(__file__).parents[3]
QUICK = Settings(candidates=2, steps=2)
Tree = dict[str, bytes]


@pytest.fixture
def upscaler(tiny: StyleGAN2) -> Upscaler:
    return Upscaler(tiny, "tiny", "abc123")


def paint(path: Path, seed: int = 0, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def batch(
    upscaler: Upscaler, place: str | Path, output: str | Path, settings: Settings = QUICK,
    recursive: bool = True, force: bool = False,
) -> Batch:  # fmt: skip
    inputs = Inputs(str(place), settings, recursive, str(output))
    return Batch(inputs, str(output), Local(upscaler), force)


def manifest(output: Path) -> list[Entry]:
    lines = (output / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    return [Entry.parse(line) for line in lines if line.endswith(b"\n")]


def tree(output: Path) -> Tree:
    """What was made: names, with the pixels of pictures and without what tells of time."""
    found: Tree = {}
    for path in output.rglob("*"):
        name = path.relative_to(output).as_posix()
        if not path.is_file() or name.startswith(".pulse/"):
            continue
        if path.suffix == ".png":
            with Image.open(path) as image:
                found[name] = image.tobytes()
        elif path.name == "result.json":
            record = json.loads(path.read_text("utf-8"))
            found[name] = json.dumps({**record, "seconds": 0}).encode()
        elif path.name == "manifest.jsonl":
            found[name] = b"".join(replace(entry, seconds=0).line() for entry in manifest(output))
        else:
            found[name] = b""
    return found


@pytest.mark.parametrize(
    ("odd", "link", "shown"),
    [
        ("ü'&", "%C3%BC%27%26", "ü&#39;&amp;"),
        pytest.param('<b>"', "%3Cb%3E%22", "&lt;b&gt;&#34;", marks=UNIX),  # Not for Windows' files.
    ],
)
def test_the_output_mirrors_the_input(
    upscaler: Upscaler, tmp_path: Path, odd: str, link: str, shown: str
) -> None:
    names = ["a.png", "x/b c.png", f"x/y/{odd}.png"]
    for seed, name in enumerate(names):
        paint(tmp_path / "in" / name, seed)
    (tmp_path / "in" / "bad.png").write_text("hello", "utf-8")
    (tmp_path / "in" / "notes.md").write_text("hello", "utf-8")
    work = batch(upscaler, tmp_path / "in", tmp_path / "in" / "out")
    outcomes = {outcome.entry.input: outcome for outcome in work}
    assert set(outcomes) == {*names, "bad.png"}
    assert outcomes["bad.png"].entry.reason is not None
    assert "not a picture of a known format" in outcomes["bad.png"].entry.reason
    output = tmp_path / "in" / "out"
    for name in names:
        folder = output / Path(name).with_suffix("")
        record = json.loads((folder / "result.json").read_text("utf-8"))
        entry = outcomes[name].entry
        assert {path.name for path in folder.iterdir() if path.is_file()} == set(entry.files)
        assert record["input"] == name
        assert [c["mse"] for c in record["candidates"]] == list(entry.mse)
        assert entry.status == "not_converged"
    assert [entry.input for entry in manifest(output)] == sorted(outcomes, key=str)
    summary = json.loads((output / "summary.json").read_text("utf-8"))
    assert (summary["inputs"], summary["faces"], summary["errors"]) == (4, 3, 1)
    assert (summary["found"], summary["not_found"], summary["found_rate"]) == (0, 3, 0.0)
    assert summary["faces_a_minute"] == pytest.approx(180 / work.summary.seconds, rel=0.01)
    page = (output / "index.html").read_text("utf-8")
    assert page.count("<figure") == 4
    assert f'src="x/y/{link}/candidate-01.png"' in page
    assert f"x/y/{shown}.png" in page


def test_what_is_complete_is_not_done_again(upscaler: Upscaler, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for seed in range(4):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    assert all(outcome.fresh for outcome in batch(upscaler, tmp_path / "in", output))
    before = tree(output)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("candidate-*")}

    def redone(settings: Settings = QUICK, force: bool = False) -> set[str]:
        work = batch(upscaler, tmp_path / "in", output, settings, force=force)
        return {outcome.entry.input for outcome in work if outcome.fresh}

    assert redone() == set()
    assert {path: path.stat().st_mtime_ns for path in output.rglob("candidate-*")} == times
    (output / "1" / "candidate-01.png").unlink()
    shutil.rmtree(output / "2")
    assert redone() == {"1.png", "2.png"}
    assert tree(output) == before
    assert redone(force=True) == {f"{seed}.png" for seed in range(4)}
    assert tree(output) == before

    paint(tmp_path / "in" / "3.png", 9)
    assert redone() == {"3.png"}
    # Other settings: what is not written again goes.
    assert len(redone(replace(QUICK, candidates=1, format="jpg"))) == 4
    names = {path.name for path in (output / "0").iterdir()}
    assert names == {"candidate-00.jpg", "input.png", "comparison.png", "result.json"}
    other = Upscaler(upscaler.generator, "tiny", "def456")
    work = batch(other, tmp_path / "in", output, replace(QUICK, candidates=1, format="jpg"))
    assert all(outcome.fresh for outcome in work)
    assert len(manifest(output)) == 4


def test_a_wrong_line_is_its_own_error(upscaler: Upscaler, tmp_path: Path) -> None:
    """Each of these ended the batch, some of them after hours."""
    wrong = [
        '{"input": "\\ud800.png"}', "[" * 200_000, '{"input": "' + 300 * "n" + '.png"}',
        '{"input": "a.png", "output": "index.html/x"}',
        '{"input": "a.png", "output": "' + 300 * "x" + '"}', '{"input": "https://h/d.png"}',
    ]  # fmt: skip
    for name in ("a", "b"):
        paint(tmp_path / f"{name}.png")
    place, output = tmp_path / "list.jsonl", tmp_path / "out"
    place.write_text("\n".join(['{"input": "a.png"}', *wrong, '{"input": "b.png"}']), "utf-8")
    outcomes = list(batch(upscaler, place, output))
    failed = {outcome.entry.input for outcome in outcomes if outcome.entry.failed}
    assert {outcome.entry.input for outcome in outcomes} - failed == {"a.png", "b.png"}
    assert failed == {
        "list.jsonl, line 2", "list.jsonl, line 3", 300 * "n" + ".png",
        "list.jsonl, line 5", "list.jsonl, line 6", "https://h/d.png",
    }  # fmt: skip
    assert (output / "index.html").read_text("utf-8").count('class="error"') == 6
    # What was put right is not an error any more.
    place.write_text(
        "\n".join(['{"input": "a.png"}', '{"input": "b.png", "output": "c"}']), "utf-8"
    )
    again = list(batch(upscaler, place, output))
    assert {outcome.entry.output for outcome in again} == {"a", "c"}
    left = {entry.input for entry in manifest(output) if entry.failed}
    # They are not in the list any more, and are kept like others.
    assert left == {300 * "n" + ".png", "https://h/d.png"}


@UNIX
def test_a_link_to_itself_is_its_own_error(upscaler: Upscaler, tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").symlink_to("b.png")
    outcomes = {outcome.entry.input: outcome.entry for outcome in batch(
        upscaler, tmp_path / "in", tmp_path / "out"
    )}  # fmt: skip
    assert not outcomes["a.png"].failed
    assert "symbolic links" in str(outcomes["b.png"].reason)


def test_what_may_not_be_read_is_its_own_error(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, and a folder among others; what was made of what is in it stays, and holds."""
    for seed, name in enumerate(("a.png", "x/b.png", "x/c.png", "y/d.png")):
        paint(tmp_path / "in" / name, seed)
    output = tmp_path / "out"
    assert len(list(batch(upscaler, tmp_path / "in", output))) == 4
    shut = {tmp_path / "in" / "x", tmp_path / "in" / "y" / "d.png"}
    scandir, read_bytes = os.scandir, Path.read_bytes

    def check(path: Path) -> None:  # Permissions would not keep root out.
        if path in shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", lambda path: check(path) or scandir(path))
    monkeypatch.setattr(Path, "read_bytes", lambda path: check(path) or read_bytes(path))
    work = batch(upscaler, tmp_path / "in", output)
    outcomes = {outcome.entry.input: outcome for outcome in work}
    assert {name for name, outcome in outcomes.items() if outcome.entry.failed} == {"x", "y/d.png"}
    assert not outcomes["a.png"].fresh
    folder = tmp_path / "in" / "x"
    assert outcomes["x"].entry.reason == f"{folder} cannot be listed (Permission denied)."
    assert outcomes["y/d.png"].entry.reason == "y/d.png may not be read; check its permissions."
    assert (work.summary.faces, work.summary.errors) == (1, 2)
    assert (output / "index.html").read_text("utf-8").count('class="error"') == 2
    assert {entry.folder for entry in manifest(output)} == {"a", "x/b", "x/c", "y/d", None}
    shut.clear()
    again = list(batch(upscaler, tmp_path / "in", output))
    assert not any(outcome.fresh for outcome in again)
    assert not any(entry.failed for entry in manifest(output))


def test_a_clock_that_goes_back(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a run and between two; what is complete is known by what it holds, not by its time."""
    for seed in range(3):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    list(batch(upscaler, tmp_path / "in", tmp_path / "whole"))
    clock = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    output = tmp_path / "out"
    work = batch(upscaler, tmp_path / "in", output)
    running = iter(work)
    first = next(running)
    for path in output.rglob("*"):  # As if they had been written in a year to come.
        os.utime(path, (4e9, 4e9))
    assert all(outcome.fresh for outcome in (first, *running))
    assert 0 < work.summary.seconds < 600
    again = batch(upscaler, tmp_path / "in", output)
    assert not any(outcome.fresh for outcome in again)
    assert 0 < again.summary.seconds < 600
    assert again.summary.earlier == pytest.approx(work.summary.seconds, abs=0.01)
    assert tree(output) == tree(tmp_path / "whole")
    paint(tmp_path / "in" / "1.png", 9)
    os.utime(tmp_path / "in" / "1.png", (0, 0))  # A picture that is older than what it replaces.
    fresh = {o.entry.input for o in batch(upscaler, tmp_path / "in", output) if o.fresh}
    assert fresh == {"1.png"}


def test_the_index_says_how_and_keeps_the_time_of_the_first_run(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    paint(tmp_path / "in" / "a.png")
    first = batch(upscaler, tmp_path / "in", tmp_path / "out")
    list(first)
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "Generator tiny, 2 candidates from seed 0, 2 steps, tolerance 0.001, preset def" in page
    assert "earlier runs" not in page
    again = batch(upscaler, tmp_path / "in", tmp_path / "out")
    list(again)
    assert again.summary.earlier == pytest.approx(first.summary.seconds, abs=0.01)
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    whole = first.summary.seconds + again.summary.seconds
    assert (
        f"1 of them done before: 0 found (0%), 1 not found, 0 failed; {again.summary.seconds:.1f} s"
        in page
    )
    said = page.partition(" s with earlier runs")[0].rpartition(" ")[2]
    assert float(said) == pytest.approx(whole, abs=0.11)
    (tmp_path / "out" / "summary.json").write_text('{"seconds": "many"}', "utf-8")
    list(batch(upscaler, tmp_path / "in", tmp_path / "out"))
    paint(tmp_path / "b.png", 3)
    lines = '{"input": "in/a.png"}\n{"input": "b.png", "seed": 7}'
    (tmp_path / "list.jsonl").write_text(lines, "utf-8")
    list(batch(upscaler, tmp_path / "list.jsonl", tmp_path / "out"))
    assert "Settings differ from picture to picture" in (tmp_path / "out/index.html").read_text(
        "utf-8"
    )


def test_a_mask_that_was_painted_over(upscaler: Upscaler, tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "mask.png")
    settings = replace(QUICK, degrade=f"mask:{tmp_path / 'mask.png'}")
    for fresh in (True, False):
        (outcome,) = batch(upscaler, tmp_path / "in", tmp_path / "out", settings)
        assert outcome.fresh is fresh
    Image.new("L", (8, 8), 255).resize((16, 16)).save(tmp_path / "mask.png")
    (outcome,) = batch(upscaler, tmp_path / "in", tmp_path / "out", settings)
    assert outcome.fresh


def test_a_photo_of_two(upscaler: Upscaler, tmp_path: Path) -> None:
    photo = tmp_path / "in" / "two.jpg"
    photo.parent.mkdir()
    shutil.copy(ROOT / "examples" / "two.jpg", photo)
    output, all_faces = tmp_path / "out", replace(QUICK, face="all", paste=True)
    outcomes = list(batch(upscaler, photo.parent, output, all_faces))
    assert [(o.entry.folder, o.entry.face, o.entry.faces) for o in outcomes] == [
        ("two", 0, 2), ("two-1", 1, 2),
    ]  # fmt: skip
    assert (output / "two-1" / "photo-01.png").exists()
    before = tree(output)
    # One of them is lost: it alone is done again.
    shutil.rmtree(output / "two-1")
    fresh = {o.entry.folder: o.fresh for o in batch(upscaler, photo.parent, output, all_faces)}
    assert fresh == {"two": False, "two-1": True}
    assert tree(output) == before
    # The picture shows one face now: the other's results go.
    with Image.open(ROOT / "examples" / "astronaut.jpg") as image:
        image.save(photo)
    (outcome,) = batch(upscaler, photo.parent, output, all_faces)
    assert (outcome.entry.folder, outcome.entry.faces) == ("two", 1)
    assert not (output / "two-1").exists()
    assert len(manifest(output)) == 1


def test_a_picture_that_is_away_for_a_while_loses_nothing(
    upscaler: Upscaler, tmp_path: Path
) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\n", "utf-8")
    output = tmp_path / "out"
    list(batch(upscaler, tmp_path / "list.txt", output))
    before = tree(output)
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    (outcome,) = batch(upscaler, tmp_path / "list.txt", output)
    assert outcome.entry.reason == "a.png does not exist; check the name."
    assert [entry.status for entry in manifest(output)] == ["not_converged", "error"]
    (tmp_path / "b.png").rename(tmp_path / "a.png")
    (outcome,) = batch(upscaler, tmp_path / "list.txt", output)
    assert not outcome.fresh
    assert tree(output) == before


def test_an_object_storage(upscaler: Upscaler, tmp_path: Path) -> None:
    for seed in range(3):
        paint(tmp_path / "in" / f"{seed}.png", seed)
        folder = open_folder("memory://in")
        folder.write(f"x/{seed}.png", (tmp_path / "in" / f"{seed}.png").read_bytes())
    list(batch(upscaler, tmp_path / "in", tmp_path / "out"))
    assert all(o.fresh for o in batch(upscaler, "memory://in", "memory://done"))
    assert not any(o.fresh for o in batch(upscaler, "memory://in", "memory://done"))
    remote = open_folder("memory://done")
    local = tmp_path / "out" / "1"
    assert remote.names("x/1") == {path.name for path in local.iterdir()}
    assert remote.read("x/1/candidate-01.png") == (local / "candidate-01.png").read_bytes()
    assert remote.names("") == {"index.html", "summary.json", "manifest.jsonl"}
    assert remote.names("manifest") == remote.names(".pulse") == set()


def test_stopping_halfway(upscaler: Upscaler, tmp_path: Path) -> None:
    for seed in range(6):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    work = iter(batch(upscaler, tmp_path / "in", tmp_path / "out"))
    one, two = next(work), next(work)
    assert one.fresh
    assert two.fresh
    work.close()  # type: ignore[attr-defined]
    assert len(manifest(tmp_path / "out")) == 2
    assert (tmp_path / "out" / "index.html").read_text("utf-8").count("<figure") == 2
    again = [outcome.fresh for outcome in batch(upscaler, tmp_path / "in", tmp_path / "out")]
    assert Counter(again) == {False: 2, True: 4}


def test_results_may_come_out_of_order(upscaler: Upscaler, tmp_path: Path) -> None:
    """As from a search that has several pictures in work."""

    class Pool(Upscaler):
        most = 0

        def search_many(self, jobs, batch=None):  # type: ignore[no-untyped-def]
            held = []
            for face, config, number in jobs:
                held.append((number, face, config))
                if len(held) == 3:
                    self.most = 3
                    yield self._one(held.pop())
            while held:
                yield self._one(held.pop())

        def _one(self, job):  # type: ignore[no-untyped-def]
            number, face, config = job
            *_, state = self.search(face, config)
            return number, state, 0.1

    for seed in range(6):
        paint(tmp_path / "in" / f"{seed:02}.png", seed)
        (tmp_path / "in" / f"{seed:02}-bad.png").write_text("bad", "utf-8")
    list(batch(upscaler, tmp_path / "in", tmp_path / "a"))
    pool = Pool(upscaler.generator, "tiny", "abc123")
    work = batch(pool, tmp_path / "in", tmp_path / "b")
    order = [outcome.entry.input for outcome in work if not outcome.entry.failed]
    assert pool.most == 3
    assert order != sorted(order)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_worker_without_orders_reports_what_it_has(upscaler: Upscaler, tmp_path: Path) -> None:
    paint(tmp_path / "in.png")
    (tmp_path / "bad.png").write_text("bad", "utf-8")
    output = open_folder(str(tmp_path / "out"))
    reports: list[Report] = []

    def orders() -> Iterator[Order | None]:
        for number, name in enumerate(("in.png", "bad.png", "in.png")):
            yield Order(number, Item(name, str(tmp_path / name), f"{number}", QUICK))
            yield None
            deadline = time.monotonic() + 30
            while len(reports) <= number:
                assert time.monotonic() < deadline, "The worker waits for orders first."
                time.sleep(0.01)

    with output.owned():
        for report in Worker(upscaler, output).work(orders()):
            reports.append(report)
    assert [report.number for report in reports] == [0, 1, 2]


def test_many_that_are_done_do_not_pile_up(upscaler: Upscaler, tmp_path: Path) -> None:
    """Reports come while the inputs are still being read."""
    (tmp_path / "bad.png").write_text("bad", "utf-8")
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for taken in range(1, 501):
            yield Item("bad.png", str(tmp_path / "bad.png"), str(taken), QUICK)

    work = Batch(items(), str(tmp_path / "out"), Local(upscaler))
    for count, _ in enumerate(work):
        assert taken - count < 40
    assert work.summary.errors == 500


def test_a_result_that_is_in_the_way_of_another(upscaler: Upscaler, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        paint(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("mine", "utf-8")
    one, two = batch(upscaler, tmp_path / "in", tmp_path / "out")
    assert "something of another kind is in the way" in str(one.entry.reason)
    assert two.entry.reason is None
    assert (tmp_path / "out" / "a").read_text("utf-8") == "mine"


def test_a_full_disk(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    list(batch(upscaler, tmp_path / "in", tmp_path / "whole"))
    room = 3000
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        nonlocal room
        if path.suffix == ".part":
            if len(data) > room:
                write(path, data[:room])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            room -= len(data)
        return write(path, data)

    output = tmp_path / "out"
    for _ in range(2):
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match=r"No space left.*give the same command again"):
            list(batch(upscaler, tmp_path / "in", output))
        monkeypatch.undo()
        assert not list((output / ".pulse").glob("*.part"))
        for entry in manifest(output):
            for name in entry.files:
                assert (output / str(entry.folder) / name).stat().st_size > 0
        room = 300_000
    assert 0 < len(manifest(output)) < 4
    list(batch(upscaler, tmp_path / "in", output))
    assert tree(output) == tree(tmp_path / "whole")


def test_an_output_folder_that_vanishes(upscaler: Upscaler, tmp_path: Path) -> None:
    for seed in range(4):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    work = iter(batch(upscaler, tmp_path / "in", tmp_path / "out"))
    next(work)
    (tmp_path / "out").rename(tmp_path / "away")
    with pytest.raises(StorageError, match="out has vanished"):
        list(work)
    assert not (tmp_path / "out").exists()
    (tmp_path / "away").rename(tmp_path / "out")
    again = [outcome.fresh for outcome in batch(upscaler, tmp_path / "in", tmp_path / "out")]
    assert Counter(again) == {False: 1, True: 3}


# The command line.


@pytest.fixture
def folder(tiny: StyleGAN2, tmp_path: Path) -> Path:
    save(tiny, tmp_path / "tiny.safetensors")
    for seed in range(3):
        paint(tmp_path / "in" / f"{seed}.png", seed)
    return tmp_path


OPTIONS = ["--generator", "tiny.safetensors", "-n", "2", "--steps", "3"]
ENV = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_the_command(folder: Path) -> None:
    (folder / "in" / "bad.png").write_text("hello", "utf-8")
    (folder / "in" / "notes.md").write_text("hello", "utf-8")
    done = pulse("batch", "in", "out", *OPTIONS, cwd=folder)
    assert done.returncode == 1
    # A machine that has much else to do says how far it is, too.
    assert [line for line in done.stderr.splitlines() if " a minute, " not in line] == [
        "in: 1 left out that are no pictures by their names.",
        "0/4 faces, getting ready",
        "pulse: bad.png is not a picture of a known format; give a PNG, JPEG, WebP or similar "
        "file.",
    ]
    assert done.stdout.startswith("4 pictures, 3 faces: 0 found (0%), 3 not found, 1 failed; ")
    assert "out/index.html  shows them" in done.stdout
    # The same files as `run` writes.
    run = pulse("run", "in/0.png", *OPTIONS, cwd=folder)
    assert run.returncode == 1, run.stderr
    for path in (folder / "results" / "0").glob("*.png"):
        assert path.read_bytes() == (folder / "out" / "0" / path.name).read_bytes()
    (folder / "in" / "bad.png").unlink()
    done = pulse("batch", "in", "out", *OPTIONS, "--tolerance", "1", cwd=folder)
    assert done.returncode == 0
    assert "pulse: " not in done.stderr
    assert "3 found (100%)" in done.stdout
    done = pulse("batch", "in", "out", *OPTIONS, "--tolerance", "1", cwd=folder)
    assert done.returncode == 0
    assert "3 of them done before" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "out"], "none does not exist"),
        (["empty", "out"], "empty holds no pictures; -r looks into"),
        (["*.gif", "out", "-r"], "*.gif holds no pictures."),
        (["in", "in"], "is the folder of the inputs"),
        (["in", "in/0.png"], "cannot be made or written"),
        pytest.param(["in", "/proc/out"], "cannot be made or written", marks=LINUX),
        (["in", "nowhere://out"], "cannot be opened"),
        (["in", "out", "--batch-size", "0"], "--batch-size takes a whole number from 1 on"),
        (["in", "out", "--address", "auto"], "add --engine ray"),
        (["in", "out", "--lr-size", "few"], "or auto; not few"),
        (["in", "out", "--generator", "nobody"], "No generator is named nobody"),
        (["in", "out", "--device", "cuda"], "no device cuda here"),
        (["in"], "Missing argument"),
        (["list.jsonl", "out"], "list.jsonl, line 1: There is no setting sede"),
        (["in", "memory://out", "--engine", "ray"], "which workers cannot see"),
        (
            ["https://example.com/in", "out"],
            "https://example.com/in is a link, and links are not fetched: save the picture and "
            "give its file.",
        ),
        (["in", "https://example.com/out"], "a link, to which nothing can be written"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "list.jsonl").write_text('{"input": "in/0.png", "sede": 1}\n', "utf-8")
    done = pulse("batch", *arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("pulse: ")
    assert message in done.stderr
    assert not (folder / "out").exists()


def begun(*arguments: str, cwd: Path, stderr: int = PIPE) -> Started:
    return Started(["batch", *arguments], cwd=cwd, stderr=stderr)


def wait_for(path: Path, process: Started) -> None:
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_at_once_and_ctrl_c(folder: Path) -> None:
    slow = ["--generator", "tiny.safetensors", "--steps", "60", "--tolerance", "1e-9"]
    for number in range(3, 9):  # More than are searched for at once.
        shutil.copy(folder / "in" / "0.png", folder / "in" / f"{number}.png")
    process = begun("in", "out", *slow, cwd=folder)
    wait_for(folder / "out" / "0" / "result.json", process)
    done = pulse("batch", "in", "out", *OPTIONS, cwd=folder)
    assert done.returncode == 2
    assert f"A batch is writing to out already (process {process.pid} on " in done.stderr
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (
        "Stopped; what is finished stays, and the same command goes on from there."
    )
    assert "Traceback" not in errors
    finished = len(manifest(folder / "out"))
    assert 1 <= finished < 9
    assert f"{finished} pictures, {finished} faces" in output
    done = pulse("batch", "in", "out", *slow, cwd=folder)
    assert f"9 pictures, 9 faces, {finished} of them done before" in done.stdout


def test_lines_where_nobody_watches(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pulse.cli.batch.PLAIN_EVERY", -1.0)
    monkeypatch.setattr(sys, "argv", ["pulse", "batch", "in", "out", *OPTIONS])
    monkeypatch.chdir(folder)

    def lines() -> list[str]:
        assert main() == 1
        return capsys.readouterr().err.splitlines()

    ready, *rest = lines()
    assert ready == "0/3 faces, getting ready"
    words = r"\d/3 faces, \d+\.\d a minute, 0 found, \d not, 0 failed, 0 min left"
    assert len(rest) == 3
    assert all(re.fullmatch(words, line) for line in rest)
    # Again nothing is searched for, so nothing is said of how quick that is or how long it takes.
    assert lines() == [ready, *(f"{n}/3 faces, 0 found, {n} not, 0 failed" for n in (1, 2, 3))]


@LINUX
def test_a_bar_for_who_watches(folder: Path) -> None:
    import pty  # Here, since Windows has none.

    master, slave = pty.openpty()
    process = begun("in", "out", *OPTIONS, cwd=folder, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # The other end is closed.
            break
        seen += part
        if not part:
            break
    process.communicate(timeout=60)
    os.close(master)
    text = seen.decode(errors="replace")
    assert "3/3 faces" in text
    assert "a minute, 0 found, 3 not, 0 failed" in text


KILLS, FACES_IN = 50, 44
KILLER = """
import os, signal, sys, time
from pulse.cli.app import main
sys.argv[0] = "pulse"
for line in sys.stdin:
    output, seconds = line.split()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv[3] = output
        os._exit(main())
    if float(seconds) > 0:
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@LINUX
@pytest.mark.slow
def test_killed_at_many_moments(folder: Path) -> None:
    """After each kill nothing is truncated, and in the end it is as if nothing had happened."""
    for seed in range(FACES_IN - 4):
        paint(folder / "in" / f"x{seed % 3}" / f"{seed}.png", seed)
    paint(folder / "in" / "x0" / "0.jpg", 99)
    arguments = ["batch", "in", "out", "-r", "--generator", "tiny.safetensors", "-n", "2"]
    arguments += ["--steps", "6"]
    # It forks what has imported everything, so that moments of the work are met, and not of Python.
    killer = subprocess.Popen(
        [sys.executable, "-c", KILLER, *arguments], cwd=folder, env=ENV, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert killer.stdin is not None
    assert killer.stdout is not None

    def start(output: str, seconds: float = 0.0) -> int:
        """The exit status of a run that is killed after so long, 0 being never."""
        assert killer.stdin is not None
        assert killer.stdout is not None
        print(output, seconds, file=killer.stdin, flush=True)
        return int(killer.stdout.readline())

    def duration() -> float:
        begin = time.monotonic()
        assert os.waitstatus_to_exitcode(start("whole")) == 1
        return time.monotonic() - begin

    all_of_it, nothing = duration(), duration()
    output = folder / "out"
    killed, pace, grown = 0, 1.0, set()
    for step in range(80):
        if killed == KILLS:
            break
        share = 0.06 * (step % 25) / 24  # Of the work; what comes before it is met as well.
        moment = nothing * (0.2 * step if step < 5 else 0.8) + share * (all_of_it - nothing)
        was_killed = start("out", pace * moment + 0.01) == signal.SIGKILL
        killed += was_killed
        if not was_killed:  # The machine has less to do than when it was timed,
            pace *= 0.7
        elif step > 5 and grown <= {0}:  # or more, and no face was done yet.
            pace *= 1.2
        if not output.exists():
            continue
        for path in output.rglob("*"):
            if path.suffix == ".png" and path.is_file():
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
        path = output / "manifest.jsonl"
        entries = manifest(output) if path.exists() else []
        assert len({entry.folder for entry in entries}) == len(entries)
        for entry in entries:
            assert all((output / str(entry.folder) / name).exists() for name in entry.files)
        grown.add(len(entries))
        if len(entries) == FACES_IN:  # Nothing is left to be killed at.
            shutil.rmtree(output)
    assert killed == KILLS
    assert len(grown) >= 3, "The kills missed the work."
    assert os.waitstatus_to_exitcode(start("out")) == 1
    killer.stdin.close()
    killer.wait()
    killer.stdout.close()
    assert tree(output) == tree(folder / "whole")
    assert len(manifest(output)) == FACES_IN
    assert {path.name for path in (output / ".pulse").iterdir()} == {"lock", "owner"}


def test_a_disk_that_is_really_full(folder: Path) -> None:
    (folder / "out").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", "out"], cwd=folder, check=False,
        capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        done = pulse("batch", "in", "out", *OPTIONS, cwd=folder)
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        kept = tree(folder / "out")
        assert kept
        subprocess.run(["mount", "-o", "remount,size=2m", "out"], cwd=folder, check=True)
        done = pulse("batch", "in", "out", *OPTIONS, cwd=folder)
        assert done.returncode == 1
        assert (
            kept.items() - {("manifest.jsonl", kept.get("manifest.jsonl"))}
            <= tree(folder / "out").items()
        )
        assert len(manifest(folder / "out")) == 3
    finally:
        subprocess.run(["umount", "out"], cwd=folder, check=True)


def test_precision_is_part_of_what_a_result_is_known_by(upscaler: Upscaler, tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.png")

    def fresh() -> list[bool]:
        items = Inputs(str(tmp_path / "in"), QUICK, False, str(tmp_path / "out"))
        return [outcome.fresh for outcome in Batch(items, str(tmp_path / "out"), Local(upscaler))]

    assert fresh() == [True]
    assert fresh() == [False]
    upscaler.generator.precision = torch.bfloat16
    assert fresh() == [True]
