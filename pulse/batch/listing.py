"""What files there are, in a folder or by a pattern, on this machine or in an object storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pulse.batch.paths import is_remote, local_path, slashed
from pulse.batch.storage import asked, connect
from pulse.imaging.pictures import InputError


@dataclass(frozen=True)
class Listed:
    """A file in a folder, or a folder in it whose files are not known.

    Attributes:
        name: relative to the folder.
        wrong: why what is in it is not known; None of a file.
    """

    name: str
    wrong: str | None = None


def files_in(place: str, recursive: bool, without: str | None = None) -> Iterator[Listed]:
    """The files in a folder, sorted; hidden ones and what lies in `without` left out.

    Files of a folder come before those of the folders in it, so that each is seen in one go.

    Args:
        without: a folder inside, relative.

    Raises:
        InputError: it cannot be listed itself.
    """
    if not is_remote(place):
        yield from _local_files(local_path(place), recursive, without)
        return
    fs, root = connect(place)
    found = asked(place, lambda: fs.find(root, maxdepth=None if recursive else 1))
    names = (path[len(root) :].lstrip("/") for path in found)
    for name in sorted(names, key=lambda name: PurePosixPath(name).parts):
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if not hidden and not _lies_in(name, without):
            yield Listed(name)


def _local_files(root: Path, recursive: bool, without: str | None) -> Iterator[Listed]:
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(root / inside) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            wrong = f"{root / inside} cannot be listed ({error.strerror})."
            if not inside:
                raise InputError(wrong) from error
            yield Listed(inside, wrong)
            continue
        folders = []
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith(".") or _lies_in(name, without):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif _may_be_file(entry):
                yield Listed(name)
        if recursive:
            waiting.extend(reversed(folders))


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or cannot be told, as a link to itself; reading it will tell."""
    try:
        return entry.is_file()
    except OSError:
        return True


def _lies_in(name: str, folder: str | None) -> bool:
    return folder is not None and (name == folder or name.startswith(f"{folder}/"))


def kind_of(place: str) -> str | None:
    """`folder`, `file` or None if there is nothing."""
    if is_remote(place):
        fs, path = connect(place)
        kind = asked(place, lambda: fs.info(path)["type"], missing=None)
        return {"directory": "folder", None: None}.get(kind, "file")
    path = local_path(place)
    try:
        return "folder" if path.is_dir() else "file" if path.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(f"{place} cannot be looked up ({error}).") from error


def matching(pattern: str) -> list[str]:
    """Places of the files that a pattern names, sorted; `**` stands for any folders.

    Raises:
        InputError: they cannot be listed.
    """
    if not is_remote(pattern):
        import glob

        found = glob.glob(str(local_path(pattern)), recursive=True)  # noqa: PTH207
        return sorted(slashed(path) for path in found if Path(path).is_file())
    fs, path = connect(pattern)
    scheme = pattern.partition("://")[0]
    return [f"{scheme}://{name.lstrip('/')}" for name in asked(pattern, lambda: fs.glob(path))]
