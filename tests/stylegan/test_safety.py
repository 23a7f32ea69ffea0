"""Nothing in a file is run, and no file keeps the reader busy or takes its memory."""

import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylegan import CheckpointError
from stylegan.checkpoints import open_checkpoint, save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from stylegan.unpickle import Budget, Program, Record, UnpickleError, unpickle
from tests.crafted import HARMFUL, bombs, mutate, rosinality, text, wide_z
from tests.systems import LINUX

SECONDS = 10.0  # Far more than any small file needs, on a busy machine too.

# What a pickle could do, as Python's own audit events. Opening a file to read is not among them.
FORBIDDEN = (
    "os.", "subprocess.", "pickle.find_class", "ctypes.", "socket.", "shutil.",
    "code.", "builtins.input",
)  # fmt: skip
ALLOWED = ("os.listdir", "os.scandir", "os.add_dll_directory")
_watching: list[str] | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching is None:
        return
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or (event.startswith(FORBIDDEN) and event not in ALLOWED):
        _watching.append(f"{event} {args}")


sys.addaudithook(_hook)  # For the rest of the process, but it acts only while watching.


def opened(path: Path) -> StyleGAN2 | None:
    """Open a file while watching; None if it was refused in a sentence."""
    global _watching
    _watching = events = []
    start = time.monotonic()
    generator, message = None, ""
    try:
        generator = open_checkpoint(path)
    except CheckpointError as error:
        message = str(error)
    finally:
        _watching = None
    assert events == []
    assert time.monotonic() - start < SECONDS
    assert message.isprintable()
    assert len(message) < 500 + len(str(path))
    return generator  # type: ignore[return-value]


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    global _watching
    _watching = events = []
    try:
        pickle.loads(pickle.dumps(Path))
        (tmp_path / "x").write_text("", "utf-8")
    finally:
        _watching = None
    assert len(events) == 2


def test_the_hostile_checkpoint(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = opened(shared / "fixtures" / "stylegan2-ada-pytorch-hostile.pkl")
    assert generator is not None
    twin = open_checkpoint(shared / "fixtures" / "stylegan2-ada-pytorch.pkl")
    ws = torch.randn(1, 10, 64)
    assert torch.equal(generator.synthesis(ws), twin.synthesis(ws))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_pickles_do_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = HARMFUL[name]
    weight = b"\x80\x02}X\x12\x00\x00\x00synthesis.b4.const" + body + b"s."
    layouts = {
        "bare.pkl": b"\x80\x02" + body + b".",
        "weight.pkl": weight,
        "legacy.pt": pickle.dumps(0x1950A86A20F9469CFC6C) + body + b".",
    }
    for file, content in layouts.items():
        (tmp_path / file).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("x/data.pkl", weight)
    for file in (*layouts, "zip.pt"):
        assert opened(tmp_path / file) is None
    assert {path.name for path in tmp_path.iterdir()} == {*layouts, "zip.pt"}


def program(data: bytes) -> Program:
    return Program(data, Budget(len(data), len(data)))


def test_records_are_inert() -> None:
    record = unpickle(program(HARMFUL["os.system"] + b"."))
    assert isinstance(record, Record)
    assert (record.name, record.args) == ("os.system", ("touch EXECUTED",))


@pytest.mark.parametrize("value", [
    1, -1, 2**70, 1.5, "x", "snow \u2603", b"y", None, True, (), (1,), (1, 2, 3, 4), [1, [2]],
    {"a": {"b": (None, 2)}, 3: 4}, bytearray(b"z"),
])  # fmt: skip
@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_are_what_pickle_makes_of_them(value: Any, protocol: int) -> None:
    if protocol < 3 and isinstance(value, bytes | bytearray):
        pytest.skip("these are written as calls then")
    if protocol < 5 and isinstance(value, bytearray):
        pytest.skip("these are written as calls then")
    assert unpickle(program(pickle.dumps(value, protocol))) == value


MEASURE = """
import resource, sys, time
from pathlib import Path
from stylegan import CheckpointError
from stylegan.checkpoints import open_checkpoint
open_checkpoint(Path(sys.argv[1]))
before, most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
for path in map(Path, sys.argv[2:]):
    start = time.process_time()
    try:
        open_checkpoint(path)
    except CheckpointError as error:
        print(error)
    assert time.process_time() - start < 3, (path, time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    most = max(most, 3 * path.stat().st_size / 2**20 + 200)
    assert grown < most, (path, grown)
assert "torch._dynamo" not in sys.modules, "opening a checkpoint took seconds of imports"
"""


@LINUX
def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    save(StyleGAN2(StyleGAN2Config((8, 8), 8, 8, 1)), tmp_path / "sound")
    paths = list(bombs(tmp_path))
    command = [sys.executable, "-c", MEASURE, *map(str, [tmp_path / "sound", *paths])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == len(paths), ran.stdout


@LINUX
def test_a_wide_z_takes_no_more_memory_than_its_weights(tmp_path: Path) -> None:
    """W's mean is worked out where a file has none: 10,000 latents of 8,000 numbers are 320 MB."""
    save(StyleGAN2(StyleGAN2Config((8, 8), 8, 8, 1)), tmp_path / "sound")
    wide_z(tmp_path / "wide", 8000)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "sound"), str(tmp_path / "wide")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""  # It is a generator.


def test_text_that_python_would_widen_is_bounded() -> None:
    long = text("a" * 10_000 + "\N{GRINNING FACE}")
    assert unpickle(Program(b"\x80\x02" + long + b".", Budget(0, 0, wide=20_000)))[-1] > "a"
    with pytest.raises(UnpickleError, match="too much text"):
        unpickle(Program(b"\x80\x02" + long + b"0" + long + b".", Budget(0, 0, wide=20_000)))


# Fuzzing: files that were sound once.


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A checkpoint of ours, and PULSE's and rosinality's layouts as torch writes them."""
    folder = tmp_path_factory.mktemp("sound")
    save(StyleGAN2(StyleGAN2Config((4, 4), 4, 4, 1)), folder / "ours")
    content = {"g_ema": rosinality(), "latent_avg": torch.zeros(4)}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    (folder / "pickle").write_bytes(pickle.dumps(content))
    files = [folder / name for name in ("ours", "zip", "legacy", "pickle")]
    assert all(opened(file) is not None for file in files)
    return [file.read_bytes() for file in files]


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32), which=st.integers(0, 3))
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_damaged_files(seed: int, which: int, sound: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(mutate(sound[which], random.Random(seed)))
    opened(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=200), protocol=st.booleans())
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_random_bytes(data: bytes, protocol: bool, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x04" * protocol + data)
    assert opened(tmp_path / "x") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "stylegan2-ada-pytorch.pkl", "stylegan2-tf.pkl", "stylegan3-t.pkl", "rosinality.pt",
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_damaged_checkpoints(name: str, shared: Path, tmp_path: Path) -> None:
    data = (shared / "fixtures" / name).read_bytes()
    for seed in range(40):
        (tmp_path / "x").write_bytes(mutate(data, random.Random(seed)))
        opened(tmp_path / "x")


@pytest.mark.parametrize("cut", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_files(cut: float, sound: list[bytes], tmp_path: Path) -> None:
    for data in sound:
        (tmp_path / "x").write_bytes(data[: int(cut * len(data))])
        assert opened(tmp_path / "x") is None


def test_messages_are_fit_to_print(tmp_path: Path) -> None:
    name = "\x1b[2J" + "x" * 10_000
    scalar: Callable[[str], bytes] = lambda text: (  # noqa: E731
        b"\x8c\x12synthesis.b4.const"
        + b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X"
        + struct.pack("<I", len(text))
        + text.encode()
        + b"tRC\x01xtR"
    )
    (tmp_path / "x").write_bytes(b"\x80\x04}" + scalar(name) + b"s.")
    assert opened(tmp_path / "x") is None
    with pytest.raises(UnpickleError):
        unpickle(program(b"\x80\x02"))
