"""Paths and addresses as people write them; inside, batches know `/` alone, as addresses do."""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath

from pulse.imaging.pictures import InputError

WINDOWS = os.name == "nt"
# What no file of Windows may have in its name; a colon names a hidden part of another file.
_FORBIDDEN = re.compile(r'[<>:"|?*]|[. ]$')
# Of the web, also where fsspec is to reach it through something else, as by `filecache::`.
_LINK = re.compile(r"(.*::)?https?://", re.IGNORECASE)


def is_remote(place: str) -> bool:
    return "://" in place and not place.startswith("file://")


def is_link(place: str) -> bool:
    """Whether it is an address of the web, which is nobody's storage."""
    return _LINK.match(place) is not None


def not_fetched(place: str, what: str = "picture") -> InputError:
    """What is said of a link in the place of a file."""
    return InputError(
        f"{place} is a link, and links are not fetched: save the {what} and give its file."
    )


def local_path(place: str) -> Path:
    path = place.removeprefix("file://")
    return Path(path[1:] if WINDOWS and PureWindowsPath(path[1:]).drive else path)


def slashed(place: str) -> str:
    """The same place with `/` between its parts.

    Only on Windows is a backslash anything but a letter of a name.
    """
    return place.replace("\\", "/") if WINDOWS and not is_remote(place) else place


def trimmed(place: str) -> str:
    """Without slashes at its end, but for the top of a disk, as `/` and `C:/`."""
    short = place.rstrip("/")
    return f"{short}/" if not short or (WINDOWS and short.endswith(":")) else short


def is_absolute(place: str) -> bool:
    """Whether a place stands by itself, whatever the folder of the list that names it."""
    whole = is_remote(place) or place.startswith(("/", "file://"))
    return whole or (WINDOWS and bool(PureWindowsPath(place).drive))


def is_text(place: str) -> bool:
    """Whether the system can be asked for it: texts in JSON may hold halves of characters."""
    try:
        return b"\0" not in os.fsencode(place)
    except UnicodeEncodeError:
        return False


def may_be_called(name: str) -> bool:
    """Whether the system lets a file or folder be called so."""
    return is_text(name) and not (WINDOWS and _FORBIDDEN.search(name))
