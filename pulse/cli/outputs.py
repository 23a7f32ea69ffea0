"""What the commands share: names for results, checks before the work, words on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pulse.imaging.pictures import InputError, write_bytes
from pulse.results import folder_name


def first_names(inputs: list[Path]) -> dict[str, Path]:
    """The folder of each input's first face, and the input."""
    names: dict[str, Path] = {}
    for path in inputs:
        claim(names, path, 0)
    return names


def claim(names: dict[str, Path], path: Path, index: int) -> None:
    """Take the name for a face's results; that of an input's first face is its own already."""
    name = folder_name(path, index)
    if name in names and not (index == 0 and names[name] is path):
        raise InputError(
            f"{names[name]} and {path} would be written to the same folder {name}; "
            "run them apart with different -o."
        )
    names[name] = path


def check_output(folder: Path) -> None:
    """Find out before the work whether its results can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be made ({error.strerror}); give another with -o."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The output folder {folder} may not be written; give another with -o.")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Says of a file or folder that it cannot be written, where that turns out.

    Raises:
        InputError: an OSError came up.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{place} cannot be written ({error.strerror or error}); give another folder with -o."
        ) from error


def write_file(file: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with writing(file):
        write_bytes(file, data)


def say(text: str) -> None:
    """Tell the person at the terminal; stdout is for what was made."""
    print(text, file=sys.stderr)


def complain(error: Exception) -> None:
    """Say what is wrong, with this front end's words for settings."""
    text = error.worded(flag) if isinstance(error, InputError) else str(error)
    say(f"pulse: {text}")


def flag(name: str) -> str:
    """The option for a setting."""
    return "--" + name.replace("_", "-")
