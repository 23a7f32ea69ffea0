"""Nothing in a file is run, and no file keeps the reader busy or takes its memory."""

import io
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stylegan import CheckpointError
from stylegan.checkpoints import open_checkpoint, save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from stylegan.unpickle import Record, UnpickleError, unpickle

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
        (tmp_path / "x").write_text("")
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


def call(module: str, name: str, *args: str) -> bytes:
    """Instructions to call a function with strings."""
    pushed = b"".join(b"X" + struct.pack("<I", len(a)) + a.encode() for a in args)
    return f"c{module}\n{name}\n".encode() + b"(" + pushed + b"tR"


def nested_load(module: str, name: str) -> bytes:
    """Instructions to call a function with a pickle that would do harm if it were read."""
    inner = call("os", "system", "touch EXECUTED") + b"."
    return f"c{module}\n{name}\n(".encode() + b"B" + struct.pack("<I", len(inner)) + inner + b"tR"


HARMFUL = {
    "os.system": call("os", "system", "touch EXECUTED"),
    "posix.system": call("posix", "system", "touch EXECUTED"),
    "eval": call("builtins", "eval", "open('EXECUTED', 'w')"),
    "exec in Python 2": call("__builtin__", "eval", "open('EXECUTED', 'w')"),
    "getattr": call("builtins", "getattr", "x", "y"),
    "instance": b"(X\x0e\x00\x00\x00touch EXECUTEDios\nsystem\n",
    "object": b"(cos\nsystem\nX\x0e\x00\x00\x00touch EXECUTEDo",
    "newobj": b"\x80\x02csubprocess\nPopen\nX\x08\x00\x00\x00EXECUTED\x85\x81",
    "newobj_ex": b"\x80\x04csubprocess\nPopen\nX\x08\x00\x00\x00EXECUTED\x85}\x92",
    "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch EXECUTED\x85R",
    "build": call("types", "SimpleNamespace") + b"}X\x09\x00\x00\x00__class__cos\nsystem\nsb",
    "torch.load": nested_load("torch", "load"),
    "pickle.loads": nested_load("pickle", "loads"),
    "nested storage": nested_load("torch.storage", "_load_from_bytes"),
    "extension": b"\x80\x02\x82\x01",
    "persistent": b"Pos.system\n",
    "binary persistent": b"X\x02\x00\x00\x00idQ",
}


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


def test_records_are_inert() -> None:
    record = unpickle(io.BytesIO(HARMFUL["os.system"] + b"."))
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
    assert unpickle(io.BytesIO(pickle.dumps(value, protocol))) == value


def bombs(folder: Path) -> Iterator[Path]:
    """Small files that claim much, or that would take long to read."""
    contents: dict[str, bytes] = {
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "long": b"\x80\x02\x8b" + struct.pack("<I", 2**31 - 1) + b"x.",
        "memo": b"\x80\x02]r\xff\xff\xff\xff.",
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".",
        "text": b"\x80\x02I" + b"9" * 1_000_000 + b"\n.",
        # A tuple of two of the last, and so on: 2 ** 200 parts, to be hashed as a key.
        "tuples": b"\x80\x02})" + b"2\x86" * 200 + b"Ns.",
        "deep": b"\x80\x02" + b"]" * 1 + b"]" * 200_000 + b"a" * 200_000 + b".",
        "parameters": (
            b"\x80\x02}X\x12\x00\x00\x00synthesis.b4.const"
            + b"ctorch._utils\n_rebuild_parameter\n" * 50_000
            + b"N"
            + b"\x85R" * 50_000
            + b"s."
        ),
        "itself": b"\x80\x02}q\x00X\x05\x00\x00\x00G_emah\x00s.",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    storage = (
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x05\x00\x00\x00\x00\x10"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" + storage + b"tQ"
        + b"K\x00(\x8a\x05\x00\x00\x00\x00\x10t(K\x01tNNtR"
    )  # fmt: skip
    key = b"X\x12\x00\x00\x00synthesis.b4.const"
    with zipfile.ZipFile(folder / "claims", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + key + tensor + b"s.")
        archive.writestr("x/data/0", b"few")
    yield folder / "claims"
    with zipfile.ZipFile(folder / "zipped", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(300_000_000))
    yield folder / "zipped"
    # One storage of a megabyte, shown ten thousand times.
    big = {f"dense{index}.weight": None for index in range(10_000)} | {"blocks.4x4.const": None}
    shown = torch.zeros(250_000)
    torch.save(dict.fromkeys(big, shown), folder / "shown")
    yield folder / "shown"
    for name, config in {
        "layers": '{"channels": [8], "mapping_layers": 1000000000}',
        "channels": '{"channels": [1000000000, 1000000000]}',
        "levels": f'{{"channels": {[1] * 50_000}}}',
    }.items():
        metadata = {"format": "pulse-generator-1", "family": "stylegan2", "config": config}
        save_file({"x": torch.zeros(3)}, folder / name, metadata)
        yield folder / name


MEASURE = """
import resource, sys
from pathlib import Path
from stylegan import CheckpointError
from stylegan.checkpoints import open_checkpoint
open_checkpoint(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        open_checkpoint(Path(path))
    except CheckpointError as error:
        print(error)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 200, (path, grown)
assert "torch._dynamo" not in sys.modules, "opening a checkpoint took seconds of imports"
"""


def test_bombs_do_not_go_off(tmp_path: Path) -> None:
    save(StyleGAN2(StyleGAN2Config((8, 8), 8, 8, 1)), tmp_path / "sound")
    paths = list(bombs(tmp_path))
    for path in paths:
        assert opened(path) is None, path
    command = [sys.executable, "-c", MEASURE, *map(str, [tmp_path / "sound", *paths])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == len(paths)


# Fuzzing: files that were sound once.


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A checkpoint of ours, and PULSE's and rosinality's layouts as torch writes them."""
    folder = tmp_path_factory.mktemp("sound")
    save(StyleGAN2(StyleGAN2Config((4, 4), 4, 4, 1)), folder / "ours")
    weights = {
        "input.input": torch.randn(1, 4, 4, 4),
        "style.1.weight": torch.randn(4, 4),
        "style.1.bias": torch.zeros(4),
        "conv1.conv.weight": torch.randn(1, 4, 4, 3, 3),
        "conv1.conv.modulation.weight": torch.randn(4, 4),
        "conv1.conv.modulation.bias": torch.ones(4),
        "conv1.noise.weight": torch.zeros(1),
        "conv1.activate.bias": torch.zeros(4),
        "to_rgb1.bias": torch.zeros(1, 3, 1, 1),
        "to_rgb1.conv.weight": torch.randn(1, 3, 4, 1, 1),
        "to_rgb1.conv.modulation.weight": torch.randn(4, 4),
        "to_rgb1.conv.modulation.bias": torch.ones(4),
    }
    content = {"g_ema": weights, "latent_avg": torch.zeros(4)}
    torch.save(content, folder / "zip")
    torch.save(content, folder / "legacy", _use_new_zipfile_serialization=False)
    (folder / "pickle").write_bytes(pickle.dumps(content))
    files = [folder / name for name in ("ours", "zip", "legacy", "pickle")]
    assert all(opened(file) is not None for file in files)
    return [file.read_bytes() for file in files]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, swap, or put in bytes that mean something to a pickle."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = rng.randrange(len(changed) + 1)
        other = min(len(changed), place + rng.choice([1, 2, 8, 100, 1000]))
        kind = rng.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place:other] = rng.randbytes(other - place)
        elif kind == 2:
            del changed[place:other]
        elif kind == 3:
            changed[place:place] = changed[place:other]
        elif kind == 4:
            changed[place:place] = rng.choice([*HARMFUL.values(), b".", b"R", b"b", b"2", b"\x86"])
        else:
            changed[place:] = b""
        if not changed:
            break
    return bytes(changed)


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
        unpickle(io.BytesIO(b"\x80\x02"))
