"""What a batch is to work on: the pictures of a folder, of a pattern or of a list."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import Image

from pulse.batch.listing import files_in, kind_of, matching
from pulse.batch.paths import (
    is_absolute,
    is_remote,
    is_text,
    local_path,
    may_be_called,
    slashed,
    trimmed,
)  # fmt: skip
from pulse.batch.storage import read_file
from pulse.imaging.bounds import FORMATS
from pulse.imaging.pictures import InputError
from pulse.results import folder_name
from pulse.settings import Settings

WRONG = "line "
"""How the records call lines of a list that are wrong, with their number behind it."""
UNLISTED = "/"
"""What the records have behind the name of a folder that cannot be listed; no picture's has it."""
TOO_DEEP = "It holds too much in each other, or too large a number."
LONGEST_NAME, LONGEST_PATH = 240, 2000
"""Bytes of a folder's name, and of a path inside the output folder, that disks take."""
LISTS = (".txt", ".jsonl", ".ndjson")
# Names at the top of an output folder that are not for pictures' results.
_RESERVED = re.compile(r"manifest(\.jsonl)?|summary\.json|index(-\d+)?\.html|\.pulse", re.I)
# What further faces of a picture have after its name.
_FURTHER = re.compile(r"(.+)-[1-9]\d*")


@dataclass(frozen=True)
class Item:
    """One picture to work on.

    Attributes:
        source: as messages and records call it.
        place: where it is read from.
        output: folder of its first face's results, relative to the output folder; no other item
            has the same, nor one that a further face of it would take.
        wrong: why it cannot be worked on, where its line in a list is wrong, or it stands for a
            folder that cannot be listed.
    """

    source: str
    place: str
    output: str
    settings: Settings
    wrong: str | None = None


class Inputs:
    """The pictures of a folder, of a pattern like `in/*.png`, of a list, or a single one.

    It can be iterated any number of times and holds no more than names. Attributes:

    place: the folder, pattern, list or file.
    skipped: files of a folder that were left out in the last iteration, as their names' endings are
        none that Pillow reads.
    """

    def __init__(
        self, place: str, settings: Settings, recursive: bool = False, without: str | None = None
    ) -> None:
        """
        Args:
            settings: of every picture, but for what its line in a list says.
            recursive: whether folders in a folder count.
            without: the output folder, which may lie in the folder of the inputs.

        Raises:
            InputError: there is no such input.
        """
        place = slashed(place)
        self.place, self.settings, self.recursive = trimmed(place), settings, recursive
        self.skipped = 0
        kind = kind_of(place)
        if kind is None and not glob.has_magic(place):
            raise InputError(f"{place} does not exist; check the name.")
        self._without = _inside(without, _base(place) if kind is None else place)
        if kind == "folder" and self._without == "":
            raise InputError(f"{place} is the folder of the inputs; give another for the outputs.")
        if kind == "folder":
            self._walk = self._folder
        elif kind is None:
            self._walk = self._pattern
        elif PurePosixPath(place).suffix.lower() in LISTS:
            self._walk = self._list
        else:
            self._walk = self._single

    def __iter__(self) -> Iterator[Item]:
        """The items, in an order that does not change.

        Raises:
            InputError: the folder or list cannot be read.
        """
        self.skipped = 0
        return self._walk()

    def _folder(self) -> Iterator[Item]:
        names, parent = Names(), ""
        for found in files_in(self.place, self.recursive, self._without):
            name = found.name
            if found.wrong is not None:
                yield Item(name, self.place, f"{name}{UNLISTED}", self.settings, found.wrong)
                continue
            if PurePosixPath(name).suffix.lower() not in readable():
                self.skipped += 1
                continue
            if str(PurePosixPath(name).parent) != parent:
                # All files of a folder come in one go, so its names need not be kept any longer.
                names, parent = Names(), str(PurePosixPath(name).parent)
            yield self._item(name, f"{self.place.rstrip('/')}/{name}", names)

    def _pattern(self) -> Iterator[Item]:
        base, names = _base(self.place), Names()
        for place in matching(self.place):
            name = place[len(base) :].lstrip("/")
            if self._without is None or not name.startswith(f"{self._without}/"):
                yield self._item(name, place, names)

    def _single(self) -> Iterator[Item]:
        yield self._item(PurePosixPath(self.place).name, self.place, Names())

    def _list(self) -> Iterator[Item]:
        folder = self.place.rpartition("/")[0] if "/" in self.place else "."
        names = Names()
        text = read_file(self.place, self.place).decode(errors="surrogateescape")
        in_json = not self.place.lower().endswith(".txt")
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            line = line.removesuffix("\r")
            if not line.strip() or (not in_json and line.startswith("#")):
                continue
            try:
                wishes: dict[str, object] = _parse(line) if in_json else {"input": line}
                item = self._listed(wishes, folder, names)
            except (InputError, ValueError, ArithmeticError, RecursionError) as error:
                where = f"{PurePosixPath(self.place).name}, line {number}"
                reason = f"{where}: {error if isinstance(error, ValueError) else TOO_DEEP}"
                output = names.find(PurePosixPath(f"{WRONG}{number}"), False)
                item = Item(where, self.place, output, self.settings, reason)
            yield item

    def _listed(self, wishes: dict[str, object], folder: str, names: Names) -> Item:
        wishes = dict(wishes)
        source, output = wishes.pop("input", None), wishes.pop("output", None)
        if not isinstance(source, str) or not source:
            raise InputError('It does not say which picture; it needs "input": "FILE".')
        written = slashed(source)
        if not is_text(written):
            raise InputError("Its input has characters that no file's name can have.")
        settings = _with_masks(self.settings.changed(wishes), folder, "degrade" in wishes)
        absolute = is_absolute(written)
        place = written if absolute else f"{folder}/{written}"
        parts = PurePosixPath(written).parts
        name = parts[-1] if absolute or ".." in parts else str(PurePosixPath(written))
        item = self._item(name, place, names, settings, output)
        return replace(item, source=source)

    def _item(
        self,
        name: str,
        place: str,
        names: Names,
        settings: Settings | None = None,
        output: object = None,
    ) -> Item:
        settings = settings or self.settings
        several = settings.face != "largest"
        if output is None:
            output = names.find(PurePosixPath(name), several)
        else:
            output = names.take(output, several)
        return Item(name, place, output, settings)


class Names:
    """Gives every picture a folder of its own, whatever it is called.

    It is the picture's name without suffix, as with `run`. Where that is taken, as by `a.jpg` when
    `a.png` comes, or could be by a further face of another picture, it is the whole name, and then
    that with `~2` and so on. Case does not make names different, as it does not on some disks.
    """

    def __init__(self) -> None:
        self._taken: dict[str, bool] = {}  # Whether further faces of it may come.
        self._like_further: set[str] = set()  # Names whose further faces would be taken ones.

    def find(self, name: PurePosixPath, several: bool) -> str:
        """The folder for the picture of that relative name.

        Args:
            several: whether more than its largest face may be written.
        """
        parent = "" if str(name.parent) == "." else f"{name.parent}/"
        if parent and _RESERVED.fullmatch(name.parts[0]):
            parent = parent.replace("/", "~/", 1)
        stem = folder_name(Path(name.name), 0)
        if self._claim(parent + stem, several):
            return parent + stem
        number = 1
        while True:
            other = f"{parent}{name.name}" + (f"~{number}" if number > 1 else "")
            if self._claim(other, several):
                return other
            number += 1

    def take(self, name: object, several: bool) -> str:
        """A folder that the user chose.

        Raises:
            InputError: it cannot be, or is taken.
        """
        path = PurePosixPath(slashed(name)) if isinstance(name, str) else PurePosixPath()
        inside = path.parts and not path.is_absolute() and ".." not in path.parts
        if not inside or not all(map(may_be_called, path.parts)):
            raise InputError(
                "output takes the name of a folder inside the output folder, not "
                f"{json.dumps(name)[:200]}."
            )
        if len(os.fsencode(path)) > LONGEST_PATH or any(
            len(os.fsencode(part)) > LONGEST_NAME for part in path.parts
        ):
            raise InputError(f"output is too long for a folder's name: {str(path)[:40]}...")
        if _RESERVED.fullmatch(path.parts[0]):
            raise InputError(f"{path.parts[0]} is a file of the batch's own; name another output.")
        if not self._claim(str(path), several):
            raise InputError(f"Another picture is written to {path} already; name another output.")
        return str(path)

    def _claim(self, name: str, several: bool) -> bool:
        key = name.casefold()
        further = _FURTHER.fullmatch(key)
        if (
            key in self._taken
            or _RESERVED.fullmatch(key)
            or (further and self._taken.get(further[1], False))
            or (several and key in self._like_further)
        ):
            return False
        self._taken[key] = several
        if further:
            self._like_further.add(further[1])
        return True


def may_be_right_by_now(output: str) -> bool:
    """Whether a record is of a line or a folder that was wrong, and not of a picture."""
    return output.startswith(WRONG) or output.endswith(UNLISTED)


@cache
def readable() -> frozenset[str]:
    """Endings, like `.png`, of the files that are read."""
    endings = Image.registered_extensions()
    kinds = (*FORMATS, "MPO")  # The second is a JPEG with further pictures behind it.
    return frozenset(ending for ending, format in endings.items() if format in kinds)


def _parse(line: str) -> dict[str, object]:
    try:
        wishes = json.loads(line)
    except ValueError as error:
        raise InputError(f"It is not JSON ({error}).") from error
    if not isinstance(wishes, dict):
        raise InputError('It is not an object like {"input": "face.png", "seed": 7}.')
    return wishes


def _with_masks(settings: Settings, folder: str, own: bool) -> Settings:
    """Settings whose mask, if the list names it, is looked for in the list's folder."""
    degrade = settings.config.degrade
    if not own or degrade is None or degrade.mask is None or is_remote(folder):
        return settings
    return replace(settings, degrade=str(replace(degrade, mask=local_path(folder) / degrade.mask)))


def _base(pattern: str) -> str:
    """The folder that a pattern begins with."""
    parts = pattern.split("/")
    count = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    base = "/".join(parts[:count])
    return trimmed(base) if base or pattern.startswith("/") else ""


def _inside(folder: str | None, base: str) -> str | None:
    """The name of a folder relative to another that it lies in; None if it does not."""
    if folder is None or is_remote(folder) != is_remote(base):
        return None
    if is_remote(base):
        folder, base = folder.rstrip("/"), base.rstrip("/")
        inside = folder == base or folder.startswith(f"{base}/")
        return folder[len(base) + 1 :] if inside else None
    try:
        name = local_path(folder).resolve().relative_to(local_path(base).resolve())
    except (OSError, ValueError):
        return None
    return "" if str(name) == "." else name.as_posix()
