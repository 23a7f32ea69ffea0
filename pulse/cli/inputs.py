"""What a person named on the command line: files, and patterns that the shell did not expand."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from pulse.batch.listing import matching
from pulse.batch.paths import not_fetched
from pulse.cli.outputs import complain
from pulse.imaging.pictures import InputError

_LINK = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:/{1,2}[^/]", re.IGNORECASE)


def check_no_link(text: str, what: str = "picture") -> None:
    """
    Args:
        what: that a file was asked for.

    Raises:
        InputError: it is a link.
    """
    if _LINK.match(text):
        raise not_fetched(text, what)


def picture_files(text: str) -> list[Path]:
    """The file of that name, there or not, or those that a pattern names.

    Raises:
        InputError: it is a link, or nothing is called like the pattern.
    """
    check_no_link(text)
    path = Path(text)
    if not glob.has_magic(text) or _may_be_there(path):
        return [path]
    matched = matching(text)
    if not matched:
        raise InputError(f"Nothing is called like {text}; check the pattern.")
    return [Path(name) for name in matched]


def usable(texts: Iterable[str]) -> tuple[list[Path], bool]:
    """The files of all that can be used, each once, and whether something could not.

    What is wrong with the others is said.
    """
    files: dict[Path, None] = {}
    refused = False
    for text in texts:
        try:
            files |= dict.fromkeys(picture_files(text))
        except InputError as error:
            complain(error)
            refused = True
    return list(files), refused


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # Whoever reads it will say what is wrong.
