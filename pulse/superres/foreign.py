"""Networks in the files of other programs, read off their names and shapes.

`.pth` files of BasicSR, Real-ESRGAN and ESRGAN hold named tensors; `.param` and `.bin` of ncnn
hold a list of layers and their weights in that order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pulse.superres.networks import CompactConfig, MSRResNetConfig, RRDBNetConfig
from pulse.superres.networks.rrdb import DENSE, LAYERS
from stylegan.archive import read_state
from stylegan.unpickle import UnpickleError

Config: TypeAlias = CompactConfig | MSRResNetConfig | RRDBNetConfig
Weights: TypeAlias = tuple[Config, dict[str, Tensor]]

MOST_WEIGHTS = 5_000
"""That a network may have, and lines of a `.param` file; the largest known one has 702."""
MOST_PARAM = 2**22
"""Bytes of a `.param` file; known ones have up to 2**17."""
CONTAINERS = ("params_ema", "params", "state_dict")
"""Keys that the weights lie under, the averaged ones first."""


class ForeignError(ValueError):
    """There is no network of a known kind in a file; the message goes on after a colon."""


def read_torch(path: Path) -> Weights:
    """The network in a `.pth` file. Only tensors and containers are unpickled, nothing is run.

    Raises:
        ForeignError: there is none of a known kind in it.
    """
    try:
        state = read_state(path, CONTAINERS)
    except UnpickleError as error:
        raise ForeignError(str(error)) from error
    if any(not tensor.is_floating_point() for tensor in state.values()):
        raise ForeignError("its weights are not floating-point numbers")
    return translate({name.removeprefix("module."): tensor for name, tensor in state.items()})


def translate(state: Mapping[str, Tensor]) -> Weights:
    """Sizes and weights, under our names, of a network whose weights have another program's.

    Raises:
        ForeignError: the names are not those of a known network.
    """
    if len(state) > MOST_WEIGHTS:
        raise ForeignError("it holds more weights than a network has")
    try:
        if {"body.0.weight", "body.1.weight", "body.2.weight"} <= state.keys():
            return _compact(state)
        new = {_renamed(name): tensor for name, tensor in _named(state).items()}
        if "blocks.0.dense.0.convs.0.weight" in new:
            return _rrdb(new)
        if "blocks.0.convs.0.weight" in new:
            return _msrresnet(new)
    except (LookupError, ValueError, ArithmeticError) as error:
        raise ForeignError("its weights are not those of one network") from error
    raise ForeignError("it is no RRDBNet, SRResNet or compact network that is known here")


# Patterns of names in BasicSR, and before it in ESRGAN -> ours; those that count begin at 1.
_NAMES = (
    (r"^(body|RRDB_trunk|recon_trunk)\.", "blocks."),
    (r"^(conv_body|trunk_conv)\.", "body_last."),
    (r"^(conv_hr|HRconv)\.", "hr."),
    (r"^conv_(first|last)\.", r"\1."),
)
_COUNTED = (
    (r"^(?:conv_up|upconv)(\d+)\.", "ups.{}."),
    (r"\.(?:rdb|RDB)(\d+)\.", ".dense.{}."),
    (r"\.conv(\d+)\.(?:0\.)?", ".convs.{}."),
)


def _renamed(name: str) -> str:
    """Our name for one of BasicSR's or the ones before."""
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    for pattern, ours in _COUNTED:
        name = re.sub(pattern, lambda found, ours=ours: ours.format(int(found[1]) - 1), name)
    return name


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under BasicSR's names where the oldest files give places in a list.

    Those are `model.0.weight` and so on.
    """
    if "model.1.sub.0.RDB1.conv1.0.weight" not in state:
        return dict(state)
    found = (re.fullmatch(r"model\.(\d+)\.weight", name) for name in state)
    places = sorted({int(match[1]) for match in found if match})
    ups = (f"conv_up{number}" for number in range(1, len(places) - 2))
    names = dict(zip(places, ("conv_first", *ups, "conv_hr", "conv_last"), strict=True))
    new: dict[str, Tensor] = {}
    for name, tensor in state.items():
        inside = re.fullmatch(r"model\.1\.sub\.(\d+)\.(.+)", name)
        top = re.fullmatch(r"model\.(\d+)\.(weight|bias)", name)
        if inside:
            number, rest = inside.groups()
            last = rest in ("weight", "bias")
            name = f"conv_body.{rest}" if last else f"body.{number}.{rest}"
        elif top:
            name = f"{names[int(top[1])]}.{top[2]}"
        new[name] = tensor
    return new


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of the names with a number in the place of {} there are, from zero on."""
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _rrdb(state: dict[str, Tensor]) -> Weights:
    channels, inputs = state["first.weight"].shape[:2]
    blocks = _count(state, "blocks.{}.dense.0.convs.0.weight")
    growth = len(state["blocks.0.dense.0.convs.0.weight"])
    inner, unshuffle = 2 ** _count(state, "ups.{}.weight"), math.isqrt(inputs // 3)
    return RRDBNetConfig(inner // unshuffle, blocks, channels, growth, unshuffle), state


def _msrresnet(state: dict[str, Tensor]) -> Weights:
    channels = len(state["first.weight"])
    ups = [state[f"ups.{number}.weight"] for number in range(_count(state, "ups.{}.weight"))]
    scale = math.prod(math.isqrt(len(up) // channels) for up in ups)
    blocks = _count(state, "blocks.{}.convs.0.weight")
    return MSRResNetConfig(scale, blocks, channels), state


def _compact(state: Mapping[str, Tensor]) -> Weights:
    last = max(int(name.split(".")[1]) for name in state if name.startswith("body."))
    channels, outputs = len(state["body.0.weight"]), len(state[f"body.{last}.weight"])
    start = f"body.{last}."
    new = {
        f"last.{name.removeprefix(start)}" if name.startswith(start) else name: tensor
        for name, tensor in state.items()
    }
    return CompactConfig(math.isqrt(outputs // 3), last // 2 - 1, channels), new


class Layer(NamedTuple):
    """A line of a `.param` file; an array's key is its number below -23300."""

    kind: str
    settings: dict[int, str]


NCNN = "7767517"
FLOAT16 = 0x01306B47
"""Tags: the first line of `.param`; before weights of 16 bits in `.bin`."""


def read_ncnn(param: Path, binary: Path) -> Weights:
    """The network in two files of ncnn, of which only RRDBNet and the compact network are known.

    Raises:
        ForeignError: they hold another, or are damaged.
    """
    if param.stat().st_size > MOST_PARAM:
        raise ForeignError("its list of layers is longer than a network's")
    try:
        layers = _layers(param.read_text("ascii"))
        tensors = _tensors(layers, binary.read_bytes())
        kinds = {layer.kind for layer in layers}
        common = {"Input", "Split", "Convolution", "Interp", "BinaryOp"}
        if kinds <= common | {"Concat", "Eltwise"} and "Concat" in kinds:
            return _ncnn_rrdb(layers, tensors)
        if kinds <= common | {"PReLU", "PixelShuffle"} and "PixelShuffle" in kinds:
            return _ncnn_compact(layers, tensors)
    except (LookupError, ValueError, ArithmeticError) as error:
        if isinstance(error, ForeignError):
            raise
        raise ForeignError("its list of layers or their weights are damaged") from error
    raise ForeignError("its layers are not those of an RRDBNet or a compact network")


def _layers(text: str) -> list[Layer]:
    lines = text.split("\n")
    if lines[0].strip() != NCNN:
        raise ForeignError("it does not begin like a .param file of ncnn")
    if len(lines) > MOST_WEIGHTS:
        raise ForeignError("it has more layers than a network")
    layers = []
    for words in (line.split() for line in lines[2:] if line.strip()):
        inputs, outputs = int(words[2]), int(words[3])
        pairs = (word.split("=") for word in words[4 + inputs + outputs :])
        layers.append(Layer(words[0], {int(key): value for key, value in pairs}))
    return layers


def _tensors(layers: list[Layer], data: bytes) -> list[Tensor]:
    """Weight and bias of each convolution and the slopes of each PReLU, in the file's order."""
    found: list[Tensor] = []
    place = 0

    def take(count: int, kind: str) -> Tensor:
        nonlocal place
        size = count * np.dtype(kind).itemsize
        if count < 1 or place + size > len(data):
            raise ForeignError("its .bin is shorter than its .param says")
        values = np.frombuffer(data, kind, count, place).astype(np.float32)
        place += -(-size // 4) * 4
        return torch.from_numpy(values)

    for kind, settings in layers:
        if kind == "Convolution":
            outputs, side = int(settings[0]), int(settings[1])
            tag = int.from_bytes(data[place : place + 4], "little")
            place += 4
            if tag not in (0, FLOAT16):
                raise ForeignError("its weights are neither of 16 nor of 32 bits")
            weight = take(int(settings[6]), "<f2" if tag else "<f4")
            found.append(weight.reshape(outputs, -1, side, side))
            found.append(take(outputs, "<f4") if settings.get(5) == "1" else torch.zeros(outputs))
        elif kind == "PReLU":
            found.append(take(int(settings[0]), "<f4"))
    if place != len(data):
        raise ForeignError("its .bin is longer than its .param says")
    return found


def _factors(layers: list[Layer]) -> list[float]:
    return [float(layer.settings[1]) for layer in layers if layer.kind == "Interp"]


def _ncnn_rrdb(layers: list[Layer], tensors: list[Tensor]) -> Weights:
    convs = list(zip(tensors[::2], tensors[1::2], strict=True))
    doublings = len(_factors(layers))
    inside = DENSE * LAYERS
    blocks, rest = divmod(len(convs) - 4 - doublings, inside)
    if rest or blocks < 1 or set(_factors(layers)) != {2.0}:
        raise ForeignError("it has more or fewer layers than an RRDBNet")
    names = ["first"]
    for number in range(blocks * inside):
        block, dense, layer = number // inside, number // LAYERS % DENSE, number % LAYERS
        names.append(f"blocks.{block}.dense.{dense}.convs.{layer}")
    names += ["body_last", *(f"ups.{n}" for n in range(doublings)), "hr", "last"]
    new: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, convs, strict=True):
        new |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return _rrdb(new)


def _ncnn_compact(layers: list[Layer], tensors: list[Tensor]) -> Weights:
    *body, weight, bias = tensors
    factor, *after = _factors(layers)
    scale = round(factor * math.prod(after))
    new = {"last.weight": weight, "last.bias": bias}
    for number in range(len(body) // 3):
        parts = ("0.weight", "0.bias", "1.weight")
        for part, tensor in zip(parts, body[3 * number : 3 * number + 3], strict=True):
            place, name = part.split(".")
            new[f"body.{2 * number + int(place)}.{name}"] = tensor
    inner = int(factor) if after else None
    return CompactConfig(scale, len(body) // 3 - 1, len(body[0]), inner), new
