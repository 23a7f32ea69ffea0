"""The faces that methods are measured on, and the groups that they belong to."""

from __future__ import annotations

import csv
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pulse.faces.framing import find_framings
from pulse.imaging.degrade import Bicubic
from pulse.imaging.pictures import InputError, as_saved, decode_picture, setting, to_tensor
from stylegan import Generator
from stylegan.dataset import DataError, list_pictures
from stylegan.evaluate import samples

SAMPLES = 2020
"""Seed of the samples; no search begins with that one unless it is asked to."""


@dataclass(frozen=True)
class Original:
    """An original that small pictures are made of.

    Attributes:
        name: what its files are called, different from all others'.
        pixels: [3, R, R] bytes, RGB.
        groups: what it is labelled as.
        made: whether a generator drew it.
    """

    name: str
    pixels: UInt8[Tensor, "3 r r"]
    groups: tuple[str, ...] = ()
    made: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.pixels.numpy().tobytes()).hexdigest()


@dataclass(frozen=True)
class Choice:
    """Which faces of a folder to take, and how.

    Attributes:
        count: how many, spread evenly over all; None takes each.
        held_out: only the last so many are taken, those that training left out; None is all.
        align: whether faces are looked for in photos; else pictures are framed already.
        labels: a table and perhaps a colon and the name of its column, see `read_labels`.
    """

    count: int | None = None
    held_out: int | None = None
    align: bool = False
    labels: str | None = None


def read_faces(
    data: Path, size: int, choice: Choice, refuse: Callable[[str], None]
) -> Iterator[Original]:
    """Faces of a folder, also inside its zip files, or of one zip file, at one size.

    Args:
        size: side in pixels; smaller faces are refused, since their original is not known.
        refuse: told of each picture that cannot be used, while the others go on.

    Raises:
        InputError: there is nothing to choose from.
    """
    try:
        listing = list_pictures(data)
    except DataError as error:
        raise InputError(str(error)) from error
    labels = {} if choice.labels is None else read_labels(choice.labels)
    chosen = list(enumerate(zip(listing.names, listing.sources, strict=True)))
    if choice.held_out is not None:
        chosen = chosen[-choice.held_out :]
    if not chosen:
        raise InputError(f"{data} holds no pictures.")
    if choice.count is not None and choice.count < len(chosen):
        chosen = [chosen[i * len(chosen) // choice.count] for i in range(choice.count)]
    for number, (name, source) in chosen:
        try:
            image = _framed(source.read_bytes(), name, size, choice.align)
        except InputError as error:
            refuse(str(error))
        except (OSError, zipfile.BadZipFile) as error:
            refuse(f"{name} cannot be read ({error}).")
        else:
            stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem)[:40]
            pixels = (to_tensor(image) * 255).round().to(torch.uint8)
            groups = labels.get(name, labels.get(Path(name).name, ()))
            yield Original(f"{number:05d}-{stem}", pixels, groups)


def sampled_faces(generator: Generator, count: int) -> Iterator[Original]:
    """Faces that the generator draws by itself; a search with it has no easier ones."""
    for number, pixels in enumerate(samples(generator, count, SAMPLES)):
        yield Original(f"{number:05d}-sample", pixels, made=True)


def lowered(pixels: UInt8[Tensor, "3 r r"], lr_size: int) -> Float[Tensor, "3 l l"]:
    """The small picture of an original: bicubic, antialiased, in 8 bits; in [0, 1]."""
    low = Bicubic(pixels.shape[-1], lr_size)(pixels.float() / 255)
    return as_saved(low)


def read_labels(text: str) -> dict[str, tuple[str, ...]]:
    """File name -> groups, from a table (CSV) with a column `file`.

    Args:
        text: the table's file, and perhaps a colon and the column with the labels; else that is
            `label`, or `original` where there is none. A label such as
            `images__female__white__0001.jpg`, which is a file name, gives its middle parts as
            groups; any other is a group itself.

    Raises:
        InputError: there is no such table, or no such column in it.
    """
    path, column = Path(text), ""
    if not path.is_file() and ":" in text:
        before, _, column = text.rpartition(":")
        path = Path(before)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            column = column or next((n for n in ("label", "original") if n in names), "label")
            if not {"file", column} <= set(names):
                raise InputError(
                    f"{path} has no columns file and {column}; it has {', '.join(names)}. Name "
                    f"another: {setting('labels')} {path}:COLUMN."
                )
            return {row["file"]: _groups(row[column] or "") for row in reader}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table with commas between its values.") from error


def _groups(label: str) -> tuple[str, ...]:
    if "__" in label:
        return tuple(label.split("__")[1:-1])
    return (label,) if label else ()


def _framed(data: bytes, name: str, size: int, align: bool) -> Image.Image:
    picture = decode_picture(data, name)
    image = picture.image
    if align:
        framing = find_framings(picture, name, "always")[0]
        side, image = framing.side, framing.cut(image, size)
    else:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if side < size:
        raise InputError(
            f"{name} has a face of {side} pixels, of which there is no original at {size}."
        )
    return image.resize((size, size), Image.Resampling.BICUBIC)
