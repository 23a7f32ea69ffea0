"""Files made to do harm: to run something, to keep a reader busy, or to take its memory."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file


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


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


KEY = text("blocks.4x4.const")


def put(number: int) -> bytes:
    """The instruction that remembers the top of the stack under a number."""
    return b"p%d\n" % number


def array(name: bytes) -> bytes:
    """Instructions for a numpy array of one number, remembered under `name`, two digits."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01(K\x01tcnumpy"
        b"\ndtype\n(X\x02\x00\x00\x00f4tR\x89C\x04" + bytes(4) + b"tbp" + name + b"\n0"
    )


def costly_pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles of a few megabytes that took a minute, or gigabytes, before there were bounds."""
    collide = 2**61 - 1  # Python's hash of all its multiples is 0.
    numbered = b"".join(
        b"\x8a\x0a" + (k * collide).to_bytes(10, "little") + b"N" for k in range(60_000)
    )
    long, many = "m" * 1_000_000, 60_000
    yield "opcodes", b"\x80\x04" + b"]0" * 4_500_000 + b"N."
    yield "stack", b"\x80\x04" + b"(" * 3_000_000 + b"."
    yield "keys", b"\x80\x02}(" + numbered + b"u."
    yield "colliding memo", b"\x80\x02N" + b"".join(put(k * collide) for k in range(60_000)) + b"."
    yield "far memo", b"\x80\x02N" + put(2**31) + b"."
    yield "names", b"\x80\x04" + text(long) + put(0) + b"h\x00h\x00\x93" * many + b"."
    module = b"ca\nb\n)R}" + text("_parameters") + b"}g10\ng11\nssb"
    modules = b"".join(text(f"m{k}") + module for k in range(1000))
    long_name = text(long) + put(10) + b"0" + array(b"11")
    yield (
        "paths",
        (b"\x80\x03" + long_name + b"ca\nb\n)R}" + text("_modules") + b"}(" + modules + b"usb."),
    )
    layers = b"".join(text(f"dense{k}.weight") + b"g10\n" for k in range(many))
    yield "layers", b"\x80\x03" + array(b"10") + b"}(" + KEY + b"g10\n" + layers + b"u."
    nested = b"\x80\x02" + b"N0" * 100_000 + b"N."
    storage = b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(nested)) + nested
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(g11\nK\x00(K\x01t(K\x01tNNtRp12\n0"
    shown = b"".join(text(f"dense{k}.weight") + b"g12\n" for k in range(100))
    yield (
        "nested",
        (b"\x80\x03" + storage + b"tRp11\n0" + tensor + b"}(" + KEY + b"g12\n" + shown + b"u."),
    )


def wide_z(file: Path, z: int) -> None:
    """A sound network in rosinality's layout without the mean of w and with a z of that width."""
    weights = rosinality()
    weights["style.1.weight"] = torch.randn(4, z)
    torch.save({"g_ema": weights}, file)


def rosinality() -> dict[str, torch.Tensor]:
    """The smallest generator in rosinality's layout."""
    return {
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


def crowded_zip(file: Path, members: int) -> None:
    """A zip file that lists one empty member very often."""
    name = b"x/data.pkl"
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = (
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), *[0] * 6)
        + name
    )
    listed = entry * members
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(listed), len(local), 0)
    file.write_bytes(local + listed + end)


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
    for name, content in (*contents.items(), *costly_pickles()):
        (folder / f"pickle {name}").write_bytes(content)
        yield folder / f"pickle {name}"
    wide_z(folder / "z", 200_000)
    yield folder / "z"
    crowded_zip(folder / "crowded", 300_000)
    yield folder / "crowded"
    # A tensor of one number out of a storage of eight megabytes, many times.
    large = torch.zeros(2_000_000)
    often = {f"dense{index}.weight": large[index : index + 1] for index in range(60)}
    often |= {f"dense{index}.bias": large[index : index + 1] for index in range(60)}
    torch.save({"blocks.4x4.const": large[:1], **often}, folder / "often")
    yield folder / "often"
    listed = {
        str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(400_000)
    }
    header = json.dumps(listed).encode()
    (folder / "header").write_bytes(struct.pack("<Q", len(header)) + header)
    yield folder / "header"
    storage = (
        b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x05\x00\x00\x00\x00\x10"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" + storage + b"tQ"
        + b"K\x00(\x8a\x05\x00\x00\x00\x00\x10t(K\x01tNNtR"
    )  # fmt: skip
    with zipfile.ZipFile(folder / "claims", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}" + KEY + tensor + b"s.")
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
