"""What was made and measured, kept so that a run goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pulse import __version__
from pulse.evaluation.faces import Original
from pulse.evaluation.judge import Figures, Judged
from pulse.evaluation.methods import TRUTH, Enlarged, Method, Search
from pulse.imaging.pictures import (
    InputError,
    read_picture,
    to_image,
    to_png,
    to_tensor,
    write_bytes,
)
from pulse.results import COMPOSITE, SOURCE_TYPE, TOOL, encode

FOLDER = "pictures"
MADE = (
    "Made from a tiny picture to measure a method; what is in it and not in the tiny one was made "
    "up, and nobody may look like that."
)


@dataclass(frozen=True)
class Entry:
    """A face that is to be drawn by all methods.

    Attributes:
        name: of its files.
        digest: of its original.
    """

    name: str
    digest: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """What a method made of a face.

    Attributes:
        count: candidates.
        seconds: for all of them; None for the original.
        memory: bytes that the drawing process had grown to; None where that is not told.
    """

    count: int
    seconds: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Store:
    """The files of a run.

    A face that a method made has its pictures as PNG and two records, one written after all
    pictures, one after they were measured. Each holds a key of all that decided it and counts for
    nothing if that is another one now.

    Attributes:
        folder: of the run.
        size, lr_size: sides in pixels of the originals and of what is made of them.
    """

    folder: Path
    size: int
    lr_size: int

    def add(self, face: Original) -> Entry:
        """Keep an original. It is as if a method had drawn it."""
        entry = Entry(face.name, face.digest, face.groups)
        if self.drawn(TRUTH, entry) is None:
            pictures, source = face.pixels[None].float() / 255, SOURCE_TYPE if face.made else None
            self._put(TRUTH, entry, pictures, Drawn(1), source)
        return entry

    def drawn(self, method: Method | str, entry: Entry) -> Drawn | None:
        """What is known of the pictures; None if they are not all there."""
        record = self._read(self._place(method, entry, "drawn.json"), self._key(method, entry))
        if record is None:
            return None
        drawn = Drawn(record["count"], record["seconds"], record["memory"])
        there = all(self.file(method, entry, index).is_file() for index in range(drawn.count))
        return drawn if there else None

    def put_drawn(
        self,
        method: Method,
        entry: Entry,
        pictures: Float[Tensor, "n 3 p p"],
        drawn: Drawn,
    ) -> None:
        self._put(method, entry, pictures, drawn, source_of(method))

    def _put(
        self,
        method: Method | str,
        entry: Entry,
        pictures: Float[Tensor, "n 3 p p"],
        drawn: Drawn,
        source: str | None,
    ) -> None:
        """Write the pictures, marked as of that IPTC source type, and their record."""
        facts = {"Software": TOOL, "Description": MADE, "Method": _name(method)}
        for index, picture in enumerate(pictures):
            image = to_image(picture)
            data = to_png(image) if source is None else encode(image, "png", facts, source)
            write(self.file(method, entry, index), data)
        record = {"key": self._key(method, entry), **asdict(drawn)}
        write(self._place(method, entry, "drawn.json"), json.dumps(record).encode())

    def pictures(self, method: Method | str, entry: Entry) -> UInt8[Tensor, "n 3 p p"]:
        """All candidates; they must have been drawn."""
        drawn = self.drawn(method, entry)
        assert drawn is not None
        files = (self.file(method, entry, index) for index in range(drawn.count))
        pictures = torch.stack([to_tensor(read_picture(file).image) for file in files])
        return (pictures * 255).round().to(torch.uint8)

    def file(self, method: Method | str, entry: Entry, index: int = 0) -> Path:
        """Where a candidate is."""
        return self._place(method, entry, f"{index:02d}.png")

    def judged(self, method: Method | str, entry: Entry) -> Judged | None:
        """What was measured; None if that has not been done, or of other pictures."""
        key = self._key(method, entry)
        record = self._read(self._place(method, entry, "judged.json"), key)
        if record is None:
            return None
        figures = [Figures(**_numbers(values)) for values in record["figures"]]
        (diversity,) = _numbers({"": record["diversity"]}).values()
        return Judged(figures, diversity, np.array(record["pooled"]))

    def put_judged(self, method: Method | str, entry: Entry, judged: Judged) -> None:
        record = {
            "key": self._key(method, entry),
            "figures": [_texts(asdict(figures)) for figures in judged.figures],
            "diversity": _texts({"": judged.diversity})[""],
            "pooled": [round(value, 6) for value in judged.pooled.tolist()],
        }
        write(self._place(method, entry, "judged.json"), json.dumps(record).encode())

    def _place(self, method: Method | str, entry: Entry, ending: str) -> Path:
        return self.folder / FOLDER / Path(_name(method)).name / f"{entry.name}-{ending}"

    def _key(self, method: Method | str, entry: Entry) -> str:
        # A method's `repr` says all that decides what it makes.
        parts = (__version__, repr(method), entry.digest, self.size, self.lr_size)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _read(self, file: Path, key: str) -> dict[str, Any] | None:
        try:
            record = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("key") == key else None


def source_of(method: Method) -> str | None:
    """IPTC's source type of what a method makes; None where nothing in it is made up."""
    match method:
        case Search():
            return SOURCE_TYPE
        case Enlarged():
            return None
        case _:  # What is not known is better marked too often than not at all.
            return COMPOSITE


def _name(method: Method | str) -> str:
    return method if isinstance(method, str) else method.name


def _texts(values: dict[str, float]) -> dict[str, float | str | None]:
    """JSON has neither NaN nor infinity."""
    return {
        name: None if math.isnan(x) else x if math.isfinite(x) else str(x)
        for name, x in values.items()
    }


def _numbers(values: dict[str, float | str | None]) -> dict[str, float]:
    return {name: math.nan if x is None else float(x) for name, x in values.items()}


def write(file: Path, data: bytes) -> None:
    """Write a file of a comparison, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)
    except OSError as error:
        raise InputError(
            f"{file} cannot be written ({error.strerror or error}); make room or give another "
            "folder with -o. What was written goes on to count."
        ) from error
