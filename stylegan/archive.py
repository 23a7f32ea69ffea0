"""Reads torch archives and the tensors in them, and numpy's arrays, without running anything."""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan.unpickle import Record, Stream, UnpickleError, shown, unpickle

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
REBUILD_TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
REBUILD_PARAMETER = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)
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


def read(path: Path) -> Any:
    """What a pickle or a torch archive (zip or older) holds, with records in the place of objects.

    Raises:
        UnpickleError: it is not one, it is damaged, or it needs what is refused.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if not start:
            raise UnpickleError("it is empty")
        if start == b"PK\x03\x04":
            return _read_zip(path)
        if start[0] != 0x80:  # How all pickles begin but those of a protocol from before 2003.
            raise UnpickleError("it is none of safetensors, torch archive and pickle")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _read_stream(data, memoryview(data), nested=False)


def _read_stream(stream: Stream, data: memoryview, nested: bool) -> Any:
    """A plain pickle, or the several that torch wrote one after the other before its zip files."""
    first = unpickle(stream)
    if first != TORCH_MAGIC:
        if nested:
            raise UnpickleError("a tensor in it is not in torch's format")
        return first
    if unpickle(stream) != TORCH_VERSION:
        raise UnpickleError("it was written by a version of torch that is not known")
    system = unpickle(stream)
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

    content = unpickle(stream, storage)
    keys = unpickle(stream)
    if not isinstance(keys, list):
        raise UnpickleError("its list of storages is missing")
    position = stream.tell()
    for key in keys:
        if not isinstance(key, str) or key not in storages:
            raise UnpickleError("its list of storages names one that is not used")
        count = int.from_bytes(data[position : position + 8], "little")
        end = position + 8 + count * storages[key].dtype.itemsize
        if count != storages[key].count or end > len(data):
            raise UnpickleError("it is truncated")
        places[key] = data[position + 8 : end]
        position = end
    if places.keys() != storages.keys():
        raise UnpickleError("it is truncated")
    return content


def _read_zip(path: Path) -> Any:
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
        names = [name for name in archive.namelist() if name.count("/") == 1]
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise UnpickleError("it is truncated or damaged") from error
    except StopIteration as error:
        raise UnpickleError("it is a zip file but not one of torch's") from error

    def member(name: str) -> bytes:
        try:
            info = archive.getinfo(root + name)
            # torch never compresses, so nothing grows on being read.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise UnpickleError("it is compressed, which torch's files are not")
            return archive.read(info)
        except KeyError as error:
            raise UnpickleError(f"{name} is missing in it") from error
        except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError) as error:
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
    return unpickle(io.BytesIO(member("data.pkl")), storage)


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

    Attributes:
        left: bytes that may still be made.
    """

    def __init__(self, size: int) -> None:
        self.left = size

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
                return self._strided(_storage(storage), offset, _sizes(size), _sizes(stride))
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
        flat = self._flat(_bytes(data), dtype, 0, count, count)
        if fortran:
            return flat.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()
        return flat.reshape(shape)

    def _flat(
        self, data: memoryview | bytes, dtype: torch.dtype, offset: int, count: int, held: int
    ) -> Tensor:
        if len(data) != held * dtype.itemsize:
            raise UnpickleError("a tensor in it is truncated")
        self.left -= count * dtype.itemsize
        if self.left < 0:
            raise UnpickleError("its tensors claim more than the file holds")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        start = offset * dtype.itemsize
        part = bytearray(memoryview(data)[start : start + count * dtype.itemsize])
        return torch.frombuffer(part, dtype=dtype)


def _storage(value: Any) -> Storage:
    if isinstance(value, Record) and value.name == "torch.storage._load_from_bytes" and value.args:
        data = _bytes(value.args[0])
        value = _read_stream(io.BytesIO(data), memoryview(data), nested=True)
    if not isinstance(value, Storage):
        raise UnpickleError("a tensor in it has no storage")
    return value


def _bytes(value: Any) -> bytes:
    """Bytes, which pickle protocols before the third write as text."""
    if isinstance(value, Record) and value.name == "_codecs.encode" and value.args:
        text, encoding = value.args
        if encoding in ("latin1", "latin-1"):
            value = text
    if isinstance(value, str):
        value = value.encode("latin-1")
    if not isinstance(value, bytes | bytearray):
        raise UnpickleError("a tensor in it is damaged")
    return bytes(value)


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
