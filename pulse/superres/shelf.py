"""Many decoded pictures in bounded memory."""

from __future__ import annotations

import tempfile
import weakref

import numpy as np
from jaxtyping import UInt8

from pulse.imaging.pictures import InputError

BUDGET = 2**30
"""Bytes of pictures that are held in memory."""


class Shelf:
    """Pictures as bytes: in memory up to a budget, the others in a nameless file.

    The file is mapped, so a cut out of a picture reads no more than its rows, no film is decoded
    twice, and what is drawn often stays in the system's memory as long as that has room.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._room = budget
        self._kept: list[UInt8[np.ndarray, "h w 3"]] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._kept[index]

    def add(self, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Put a picture after the others.

        Raises:
            InputError: there is no room on the disk.
        """
        if pixels.nbytes <= self._room:
            self._room -= pixels.nbytes
            self._kept.append(np.ascontiguousarray(pixels))
            return
        start = self._file.tell()
        try:
            self._file.write(np.ascontiguousarray(pixels).data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"The pictures do not fit into the folder {tempfile.gettempdir()} "
                f"({error.strerror or error}); set TMPDIR to another one, or take fewer of them."
            ) from error
        self._kept.append(
            np.memmap(self._file, np.uint8, "r", offset=start, shape=pixels.shape)  # type: ignore[arg-type]
        )
