"""Reads torch archives and the tensors in them, and numpy's arrays, without running anything."""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan.unpickle import LONGEST_NAME, Budget, Program, Record, UnpickleError, shown, unpickle

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
TORCH_VERSION = 1001
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NUMPY_TYPES = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}
LOAD_FROM_BYTES = "torch.storage._load_from_bytes"
REBUILD_TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
REBUILD_PARAMETER = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)
# What `zipfile` raises over damaged files.
ZIP_DAMAGE = (
    zipfile.BadZipFile, RuntimeError, ValueError, ArithmeticError, EOFError, OSError, struct.error,
)  # fmt: skip
MOST_MEMBERS = 20_000
"""Files in a torch archive; each tensor is one."""
COPIES = 4
"""How often the bytes of a file may be read or copied: to read a tensor takes up to two, and those
that share a storage read all of it again, which few do."""
NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric")


@dataclass(eq=False)
class Storage:
    """The numbers behind a tensor.

    Attributes:
        count: how many there are.
        read: gives their bytes.
    """

    dtype: torch.dtype
    count: int
    read: Callable[[], memoryview | bytes]


def budget_of(*paths: Path) -> Budget:
    """What it may cost to read those files as one checkpoint."""
    size = sum(path.stat().st_size for path in paths)
    return Budget(size, COPIES * size)


def read(path: Path, budget: Budget) -> Any:
    """What a pickle or a torch archive (zip or older) holds, with records in the place of objects.

    Raises:
        UnpickleError: it is not one, it is damaged, or it needs what is refused.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if not start:
            raise UnpickleError("it is empty")
        # How all pickles begin but those of a protocol from before 2003.
        if start != b"PK\x03\x04" and start[0] != 0x80:
            raise UnpickleError("it is none of safetensors, torch archive and pickle")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if start[0] == 0x80:
        return _read_stream(data, budget, nested=False)
    _check_members(data)
    return _read_zip(path, budget)


def _read_stream(data: bytes | mmap.mmap, budget: Budget, nested: bool) -> Any:
    """A plain pickle, or the several that torch wrote one after the other before its zip files."""
    program = Program(data, budget)
    first = unpickle(program)
    if first != TORCH_MAGIC:
        if nested:
            raise UnpickleError("a tensor in it is not in torch's format")
        return first
    if unpickle(program) != TORCH_VERSION:
        raise UnpickleError("it was written by a version of torch that is not known")
    system = unpickle(program)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UnpickleError("its numbers are big-endian")
    storages: dict[str, Storage] = {}
    places: dict[str, memoryview] = {}

    def storage(pid: tuple[Any, ...]) -> Storage:
        kind, dtype, key, count = _storage_id(pid)
        if kind != "storage" or (len(pid) > 5 and pid[5] is not None):
            raise UnpickleError(f"it holds a {shown(kind)} that is not a plain storage")
        if key not in storages:
            storages[key] = Storage(dtype, count, lambda: places[key])
        return storages[key]

    content = unpickle(program, storage)
    keys = unpickle(program)
    if not isinstance(keys, list):
        raise UnpickleError("its list of storages is missing")
    position, view = program.place, program.view
    for key in keys:
        if not isinstance(key, str) or key not in storages:
            raise UnpickleError("its list of storages names one that is not used")
        count = int.from_bytes(view[position : position + 8], "little")
        end = position + 8 + count * storages[key].dtype.itemsize
        if count != storages[key].count or end > len(view):
            raise UnpickleError("it is truncated")
        places[key] = view[position + 8 : end]
        position = end
    if places.keys() != storages.keys():
        raise UnpickleError("it is truncated")
    return content


def _check_members(data: mmap.mmap) -> None:
    """Refuse a zip file of very many members, which are listed before the first can be read."""
    count, place = 0, data.find(b"PK\x01\x02")
    while place >= 0 and count <= MOST_MEMBERS:
        count, place = count + 1, data.find(b"PK\x01\x02", place + 4)
    if count > MOST_MEMBERS:
        raise UnpickleError("it is a zip file of more members than a network has weights")


def _read_zip(path: Path, budget: Budget) -> Any:
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if name.count("/") == 1]
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
    except ZIP_DAMAGE as error:
        raise UnpickleError("it is truncated or damaged") from error
    except StopIteration as error:
        raise UnpickleError("it is a zip file but not one of torch's") from error

    def member(name: str) -> bytes:
        try:
            info = archive.getinfo(root + name)
            # torch never compresses, so nothing grows on being read.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise UnpickleError("it is compressed, which torch's files are not")
            budget.spend(info.file_size)
            return archive.read(info)
        except KeyError as error:
            raise UnpickleError(f"{name} is missing in it") from error
        except ZIP_DAMAGE as error:
            if isinstance(error, UnpickleError):
                raise
            raise UnpickleError("it is truncated or damaged") from error

    def storage(pid: tuple[Any, ...]) -> Storage:
        kind, dtype, key, count = _storage_id(pid)
        if kind != "storage":
            raise UnpickleError(f"it holds a {shown(kind)} that is not a plain storage")
        return Storage(dtype, count, lambda: member(f"data/{key}"))

    if root + "byteorder" in archive.namelist() and member("byteorder") != b"little":
        raise UnpickleError("its numbers are big-endian")
    return unpickle(Program(member("data.pkl"), budget), storage)


def read_state(path: Path, containers: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The named weights in a file of torch's, in float32 but for whole numbers.

    Args:
        containers: keys that they may lie under, those to be preferred first.

    Raises:
        UnpickleError: it holds something else, or is damaged.
        OSError: the file cannot be read.
    """
    budget = budget_of(path)
    content = read(path, budget)
    if not isinstance(content, dict):
        raise UnpickleError("it holds no named weights")
    key = next((key for key in containers if isinstance(content.get(key), dict)), None)
    content = content if key is None else content[key]
    if len(content) > MOST_MEMBERS:
        raise UnpickleError("it holds more weights than a network has")
    tensors, state = Tensors(budget), {}
    for name, value in content.items():
        tensor = tensors.tensor(value)
        if tensor is None or not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise UnpickleError("it holds more than weights, or something else")
        state[name] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _storage_id(pid: tuple[Any, ...]) -> tuple[str, torch.dtype, str, int]:
    """Kind, type, key and count of torch's persistent ids."""
    match pid:
        case (str(kind), Record(name=name), str(key), _, int(count), *_) if count >= 0:
            dtype = STORAGES.get(name.rpartition(".")[2])
            if name.startswith("torch") and dtype is not None:
                return kind, dtype, key, count
            raise UnpickleError(f"it holds a storage of type {shown(name)}, which is not known")
    raise UnpickleError("it refers to something outside itself")


class Tensors:
    """Makes tensors of records, no more bytes in all than the file has.

    Args:
        budget: that the file was read with.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def tensor(self, value: Any) -> Tensor | None:
        """The tensor or array that a record stands for, as a copy; None if it is neither.

        Raises:
            UnpickleError: it claims more than is there.
        """
        if not isinstance(value, Record):
            return None
        try:
            if value.name in REBUILD_PARAMETER and value.args:
                value = value.args[0]
                if not isinstance(value, Record):
                    return None
            if value.name in REBUILD_TENSOR and value.args and len(value.args) >= 4:
                storage, offset, size, stride = value.args[:4]
                return self._strided(self._storage(storage), offset, _sizes(size), _sizes(stride))
            if value.name in [f"{module}._reconstruct" for module in NUMPY] and value.state:
                _, shape, dtype, fortran, data = value.state
                return self._array(_sizes(shape), _dtype(dtype), fortran is True, data)
            if value.name in [f"{module}.scalar" for module in NUMPY] and value.args:
                return self._array((), _dtype(value.args[0]), False, value.args[-1])
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError) as error:
            if isinstance(error, UnpickleError):
                raise
            raise UnpickleError("a tensor in it is damaged") from error
        return None

    def _strided(
        self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        if not isinstance(offset, int) or offset < 0 or len(size) != len(stride):
            raise UnpickleError("a tensor in it is damaged")
        extent = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        extent = extent if prod(size) else 0
        if prod(size) > extent or offset + extent > storage.count:
            raise UnpickleError("a tensor in it claims more numbers than its storage has")
        flat = self._flat(storage.read(), storage.dtype, offset, extent, storage.count)
        return flat.as_strided(size, stride).contiguous()

    def _array(
        self, shape: tuple[int, ...], dtype: torch.dtype, fortran: bool, data: Any
    ) -> Tensor:
        count = prod(shape)
        flat = self._flat(self._bytes(data), dtype, 0, count, count)
        if fortran:
            return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()
        return flat.reshape(shape)

    def _flat(
        self, data: memoryview | bytes, dtype: torch.dtype, offset: int, count: int, held: int
    ) -> Tensor:
        if len(data) != held * dtype.itemsize:
            raise UnpickleError("a tensor in it is truncated")
        self._budget.spend(count * dtype.itemsize, count * dtype.itemsize)
        if count == 0:
            return torch.empty(0, dtype=dtype)
        start = offset * dtype.itemsize
        part = bytearray(memoryview(data)[start : start + count * dtype.itemsize])
        return torch.frombuffer(part, dtype=dtype)

    def _storage(self, value: Any) -> Storage:
        if isinstance(value, Record) and value.name == LOAD_FROM_BYTES and value.args:
            value = _read_stream(bytes(self._bytes(value.args[0])), self._budget, nested=True)
        if not isinstance(value, Storage):
            raise UnpickleError("a tensor in it has no storage")
        return value

    def _bytes(self, value: Any) -> bytes | memoryview:
        """Bytes, which pickle protocols before the third write as text."""
        if isinstance(value, Record) and value.name == "_codecs.encode" and value.args:
            text, encoding = value.args
            if encoding in ("latin1", "latin-1"):
                value = text
        if not isinstance(value, str | bytes | memoryview):
            raise UnpickleError("a tensor in it is damaged")
        self._budget.spend(len(value))
        return value.encode("latin-1") if isinstance(value, str) else value


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and value.name == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, tuple | list) or len(value) > 8:
        raise UnpickleError("a tensor in it is damaged")
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in value):
        raise UnpickleError("a tensor in it is damaged")
    return tuple(value)


def _dtype(value: Any) -> torch.dtype:
    """Numpy's type from its record: called with 'f4', say, and told the byte order in its state."""
    if not isinstance(value, Record) or value.name != "numpy.dtype" or not value.args:
        raise UnpickleError("an array in it is damaged")
    name = value.args[0]
    big_endian = isinstance(value.state, tuple) and value.state[1:2] == (">",)
    if not isinstance(name, str) or name not in NUMPY_TYPES or big_endian:
        raise UnpickleError(f"an array in it has the type {shown(name)}, which is not known")
    return NUMPY_TYPES[name]
