"""Our own files: safetensors, whose metadata say how to rebuild the network that they fill.

Nothing is read of a file but what the network asks for, so that it costs what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

LONGEST_HEADER = 2**22
"""Bytes of the JSON object that lists the tensors; those of known networks have up to 2**17."""


class NamedTensorsError(ValueError):
    """The file is damaged or does not hold what it should."""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins like safetensors: the length of a JSON object, and the object."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def read_metadata(path: Path) -> dict[str, str]:
    """What a file says of itself.

    Raises:
        NamedTensorsError: it is none that can be read.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > LONGEST_HEADER:
            raise NamedTensorsError("it lists more than a network needs")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise NamedTensorsError("it is damaged") from error


def read_tensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file whose metadata were read, those of floating-point numbers in float32.

    Args:
        expected: the `state_dict` of the network, laid out without memory.

    Raises:
        NamedTensorsError: they are others, or damaged.
        OSError: the file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, "pt") as file:
            if set(file.keys()) != set(expected):
                raise NamedTensorsError("it holds other weights than its network has")
            for name, like in expected.items():
                part = file.get_slice(name)
                if tuple(part.get_shape()) != tuple(like.shape):
                    raise NamedTensorsError(f"its weight {name} has another shape")
                tensor: Tensor = file.get_tensor(name)
                if tensor.is_floating_point() != like.is_floating_point():
                    raise NamedTensorsError(f"its weight {name} is of another type")
                tensors[name] = tensor.to(like.dtype)
    except SafetensorError as error:
        raise NamedTensorsError("it is damaged") from error
    return tensors
