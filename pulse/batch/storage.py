"""Files in a folder of this machine or in an object storage: the few operations that a batch needs.

A place is a path or an address such as `s3://bucket/folder`, which fsspec opens; local paths work
without it. Names inside a folder are relative, with `/` between their parts.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout

from pulse.batch.owner import is_alive, known_owner, new_owner
from pulse.batch.paths import is_link, is_remote, local_path, not_fetched
from pulse.imaging.pictures import InputError, setting

WORK = ".pulse"
"""The part of an output folder that is the program's own: its lock and files being written."""
OWNER = f"{WORK}/owner"
MOST_BYTES = 2**30
"""Larger files are refused unread: no picture that can be matched is so large."""
# What is wrong with one name, and not with the whole folder.
_OF_THE_NAME = {
    errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ENOTEMPTY,
}  # fmt: skip

Value = TypeVar("Value")


class StorageError(InputError):
    """A folder cannot be used, or not any more, whatever the file."""


class Folder(Protocol):
    """Where outputs go; `place` is its path or address."""

    place: str

    @property
    def path(self) -> Path | None:
        """Of a folder of this machine; None elsewhere."""
        ...

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None if it is not there."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, making the folders that it lies in.

        Raises:
            InputError: it cannot have this name.
            StorageError: nothing can be written.
        """
        ...

    def names(self, folder: str) -> set[str]:
        """Names of the files directly in a folder, none if it is not there."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file that may be there, and the folder it was in if nothing else is."""
        ...

    def owned(self, break_lock: bool = False) -> AbstractContextManager[bytes]:
        """Keeps other runs out, and gives what `OWNER` holds meanwhile.

        On entering, what killed runs left half done is removed.

        Args:
            break_lock: whether to go ahead where it cannot be known that the other has ended.

        Raises:
            StorageError: another run is at work, or the folder cannot be made.
        """
        ...


def open_folder(place: str) -> Folder:
    """The folder of that name, there or not.

    Raises:
        StorageError: no such storage is known.
    """
    if is_link(place):
        raise StorageError(
            f"{place} is a link, to which nothing can be written; give a folder, or an address "
            "such as s3://bucket/folder."
        )
    return _Remote(place) if is_remote(place) else _Local(local_path(place))


def read_file(place: str, name: str) -> bytes:
    """The bytes of one file anywhere.

    Args:
        name: what messages call it.

    Raises:
        InputError: it cannot be read.
    """
    if is_remote(place):
        fs, path = connect(place)
        size = asked(place, lambda: fs.info(path)["size"], missing=None)
        if size is None:
            raise InputError(f"{name} does not exist; check the name.")
        _check_size(size, name)
        return asked(place, lambda: fs.cat_file(path))
    path = local_path(place)
    try:
        if path.is_dir():
            raise InputError(f"{name} is a folder; give a picture file.")
        if path.exists() and not path.is_file():
            raise InputError(f"{name} is not a file; give a picture file.")
        _check_size(path.stat().st_size, name)
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; check the name.") from None
    except PermissionError:
        raise InputError(f"{name} may not be read; check its permissions.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{name} cannot be read ({reason}).") from error


def _check_size(size: int, name: str) -> None:
    if size > MOST_BYTES:
        raise InputError(f"{name} has {size / 2**30:.1f} GiB, too many for a picture: shrink it.")


class _Local:
    """A folder of this machine. Files are written in `.pulse` inside it and then renamed."""

    def __init__(self, path: Path) -> None:
        self._root, self.place = path, str(path)

    @property
    def path(self) -> Path | None:
        return self._root

    def read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _OF_THE_NAME:
                return None
            raise self._failed(error) from error

    def write(self, name: str, data: bytes) -> None:
        # Not by `stylegan.files.whole`: in `.pulse` what a kill leaves is swept and in nobody's
        # way, and which of the two steps fails tells a wrong name from a full disk.
        temporary = self._root / WORK / f"{secrets.token_hex(8)}.part"
        target = self._root / name
        try:
            temporary.write_bytes(data)
        except OSError as error:
            # The folder `.pulse` was made at the start, so the name is not to blame.
            _forget(temporary)
            raise self._failed(error) from error
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
        except OSError as error:
            _forget(temporary)
            if error.errno in _OF_THE_NAME:
                raise InputError(
                    f"{target} cannot be written ({error.strerror}): something of another kind is "
                    "in the way, or the name is too long."
                ) from error
            raise self._failed(error) from error

    def names(self, folder: str) -> set[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            if error.errno in _OF_THE_NAME:
                return set()
            raise self._failed(error) from error

    def remove(self, name: str) -> None:
        file = self._root / name
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            if error.errno in _OF_THE_NAME:
                return
            raise self._failed(error) from error
        folder = file.parent
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return  # Something else is in it.
            folder = folder.parent

    @contextmanager
    def owned(self, break_lock: bool = False) -> Iterator[bytes]:
        try:
            (self._root / WORK).mkdir(parents=True, exist_ok=True)
            # The system frees it when the process ends, however it ends.
            lock = FileLock(self._root / WORK / "lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise StorageError(_taken(self, "Wait for it, or give another folder.")) from None
        except (OSError, NotImplementedError) as error:
            raise StorageError(
                f"The output folder {self.place} cannot be made or written "
                f"({getattr(error, 'strerror', None) or error}); give another."
            ) from error
        try:
            for leftover in (self._root / WORK).glob("*.part"):
                leftover.unlink(missing_ok=True)
            mine = new_owner()
            self.write(OWNER, mine)
            yield mine
        finally:
            lock.release()

    def _failed(self, error: OSError) -> StorageError:
        if not (self._root / WORK).is_dir():
            return StorageError(
                f"The output folder {self.place} has vanished; bring it back and give the same "
                "command again."
            )
        return StorageError(
            f"The output folder {self.place} cannot be written any more "
            f"({error.strerror or error}); mend that and give the same command again, which goes "
            "on from here."
        )


def _forget(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # The next run removes it.


class _Remote:
    """A folder of an object storage, whose writes are whole or not at all by themselves."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._fs, self._root = connect(place)

    @property
    def path(self) -> Path | None:
        return None

    def read(self, name: str) -> bytes | None:
        return asked(self.place, lambda: self._fs.cat_file(self._path(name)), missing=None)

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)

        def put() -> None:
            if _has_folders(self._fs):
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(path, data)

        asked(self.place, put)

    def names(self, folder: str) -> set[str]:
        path = self._path(folder)
        found = asked(self.place, lambda: self._fs.ls(path, detail=True, refresh=True), missing=[])
        return {
            PurePosixPath(entry["name"]).name for entry in found or [] if entry["type"] == "file"
        }

    def remove(self, name: str) -> None:
        asked(self.place, lambda: self._fs.rm_file(self._path(name)), missing=None)

    @contextmanager
    def owned(self, break_lock: bool = False) -> Iterator[bytes]:
        """There is no lock that a killed process frees, so an object says who is at work.

        It counts until it is removed, unless it names a process of this machine that has ended.
        """
        held = self.read(OWNER)
        if held is not None and not break_lock and is_alive(held):
            raise StorageError(
                _taken(
                    self,
                    f"Wait for it, or add {setting('break_lock')} if you know that it has ended.",
                )
            )
        mine = new_owner()
        self.write(OWNER, mine)
        if self.read(OWNER) != mine:
            raise StorageError(_taken(self, "It began at the same moment."))
        try:
            yield mine
        finally:
            if self.read(OWNER) == mine:
                self.remove(OWNER)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _has_folders(fs: Any) -> bool:
    """Whether files need folders made for them; buckets do not, and making one may be refused."""
    return fs.protocol in ("memory", "file", "local")


def _taken(folder: Folder, advice: str) -> str:
    owner = known_owner(folder.read(OWNER))
    who = "{process} on {host} since {since}".format(**owner) if owner else "another"
    return f"A batch is writing to {folder.place} already (process {who}). {advice}"


def connect(place: str) -> tuple[Any, str]:
    """The file system of an address and the path on it.

    Raises:
        StorageError: there is none.
        InputError: it is a link, which fsspec would fetch where it can.
    """
    if is_link(place):
        raise not_fetched(place)
    try:
        import fsspec
    except ImportError as error:
        raise StorageError(
            f"{place} needs fsspec: pip install fsspec, or give a local path."
        ) from error
    try:
        # Listings are not kept: others write there, too.
        fs, path = fsspec.core.url_to_fs(place, use_listings_cache=False)
    except Exception as error:  # Each storage has errors of its own.
        raise StorageError(f"{place} cannot be opened ({error}).") from error
    return fs, path.rstrip("/")


_MUST = object()


def asked(place: str, do: Callable[[], Value], missing: Any = _MUST) -> Any:
    """What a storage answers; `missing` if the file is not there.

    Raises:
        StorageError: it does not answer, or refuses.
    """
    try:
        return do()
    except FileNotFoundError as error:
        if missing is not _MUST:
            return missing
        raise StorageError(f"{place} does not exist.") from error
    except Exception as error:  # Each storage has errors of its own.
        raise StorageError(
            f"{place} cannot be used ({type(error).__name__}: {error}); what was done stays."
        ) from error
