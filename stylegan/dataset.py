"""Pictures to train and measure a generator with."""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})

NATURAL = frozenset(
    (
        *("basemax", "varghakh_fake", "junguler_tpdne", "roeishc_fake", "sklinderton_sg3"),
        *("radically", "noahdavison", "sergibot_fake", "u1i", "gecid"),
    )
)
"""Sources whose faces have backgrounds, light, ages and poses like people's own photos; the others
are mostly studio portraits."""
NATURAL_SHARE = 0.5
CAPTIONED = "noahdavison"
"""A source whose pictures have a caption, which would be drawn."""


class DataError(ValueError):
    """The data folder does not hold what training needs; the message says what is wrong."""


@dataclass(frozen=True)
class Pictures:
    """Square pictures held in memory, with how often each is to be drawn.

    Attributes:
        pixels: [N, 3, R, R] bytes, RGB.
        weights: [N], relative frequencies of drawing; 0 is never drawn.
        natural: [N], whether a picture is from one of the sources in `NATURAL`.
    """

    pixels: UInt8[Tensor, "n 3 r r"]
    weights: Float[Tensor, " n"]
    natural: Bool[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device) -> Pictures:
        return Pictures(*(x.to(device) for x in (self.pixels, self.weights, self.natural)))

    def draw(self, count: int, rng: torch.Generator) -> Pictures:
        """Different ones of them at random, according to their weights."""
        index = torch.multinomial(self.weights, count, generator=rng)
        return Pictures(self.pixels[index], self.weights[index], self.natural[index])

    def with_share(self, numbers: Int[Tensor, " r"], share: float) -> Pictures:
        """The same, where those of these numbers are together this share of what is drawn."""
        chosen = torch.zeros_like(self.natural)
        chosen[numbers] = True
        weights = self.weights / self.weights[~chosen].sum() * (1 - share)
        weights[chosen] = self.weights[chosen] / self.weights[chosen].sum() * share
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Listing:
    """Pictures that are there, in their order, none of them opened yet.

    Attributes:
        names: file names below the folder, or in a zip file.
        sources: where each lies.
        weights, natural: [N] each, as in `Pictures`.
    """

    names: list[str]
    sources: list[Path | zipfile.Path]
    weights: Float[Tensor, " n"]
    natural: Bool[Tensor, " n"]


def load_pictures(
    folder: Path, resolution: int, held_out: int = 0, natural_share: float = NATURAL_SHARE
) -> tuple[Pictures, Pictures]:
    """Read all pictures below a folder, also inside its zip files, as squares of one size.

    Their order and weights are those of `list_pictures`.

    Args:
        folder: where to look, recursively.
        resolution: side in pixels to which the centred square of each picture is resized.
        held_out: how many pictures at the end of the order to keep apart.
        natural_share: least share of natural pictures among those drawn, from 0 to 1.

    Returns:
        The pictures to train on, and those held out.
    """
    listing = list_pictures(folder, natural_share)
    names, weights, natural = listing.names, listing.weights, listing.natural
    if len(names) <= held_out + 1:
        raise DataError(
            f"{folder} holds {len(names)} pictures; more than {held_out + 1} are needed."
        )
    pixels = torch.empty(len(names), 3, resolution, resolution, dtype=torch.uint8)

    def read(index: int) -> None:
        pixels[index] = _decode(listing.sources[index], resolution)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(read, range(len(names))):
            pass
    last = len(names) - held_out
    first, rest = slice(last), slice(last, None)
    return (
        Pictures(pixels[first], weights[first], natural[first]),
        Pictures(pixels[rest], weights[rest], natural[rest]),
    )


def list_pictures(folder: Path, natural_share: float = NATURAL_SHARE) -> Listing:
    """All pictures below a folder, also inside its zip files; or those of one zip file.

    Where a table with columns `file` and `source` lies beside the zip files (as `train.csv`), its
    order counts and its rarer sources are drawn more often than their number says: a source's share
    goes with the square root of its size, and the same holds for groups inside a source, told by
    the part of the column `original` before the last "__", digits aside. Then the sources in
    `NATURAL`, if there are any, get at least `natural_share` of what is drawn.

    Raises:
        DataError: there is no such folder, a zip file is none, or a name is there twice.
    """
    if not (folder.is_dir() or folder.suffix.lower() == ".zip"):
        raise DataError(f"{folder} is not a folder; give one that holds pictures or zip files.")
    strata = _strata(folder)
    sources: dict[str, Path | zipfile.Path] = {}
    for name, source in _files(folder):
        if name in sources:
            raise DataError(f"{sources[name]} and {source} have the same name; rename one.")
        sources[name] = source
    names = [name for name in strata if name in sources] or sorted(sources)
    counts = Counter(strata.get(name, "") for name in names)
    weights = torch.tensor([1 / math.sqrt(counts[strata.get(name, "")]) for name in names])
    natural = torch.tensor(
        [strata.get(name, "").partition("/")[0] in NATURAL for name in names], dtype=torch.bool
    )
    share = float(weights[natural].sum() / weights.sum()) if names else 0.0
    if 0 < share < natural_share and not natural.all():
        weights[natural] *= natural_share / share
        weights[~natural] *= (1 - natural_share) / (1 - share)
    return Listing(names, [sources[name] for name in names], weights, natural)


def uncaptioned(pictures: Pictures, folder: Path) -> Pictures:
    """The folder's first pictures, those that have a caption never to be drawn."""
    strata = _strata(folder)
    sources = [strata.get(name, "").partition("/")[0] for name in list_pictures(folder).names]
    wanted = torch.tensor([source != CAPTIONED for source in sources[: len(pictures)]])
    return replace(pictures, weights=pictures.weights * wanted)


def _strata(folder: Path) -> dict[str, str]:
    """File name -> stratum, in the order of the tables; empty where there is no table."""
    strata: dict[str, str] = {}
    for table in sorted(folder.glob("*.csv")):
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if "file" in row and "source" in row:
                    # Digits only number folders and say nothing of the kind.
                    group = re.sub(r"\d+", "", row.get("original", "").rpartition("__")[0])
                    strata[row["file"]] = f"{row['source']}/{group}"
    return strata


def _files(folder: Path) -> Iterator[tuple[str, Path | zipfile.Path]]:
    """Name of each picture with where it lies, in the folder or in one of its zip files."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.suffix.lower() in SUFFIXES:
            yield path.relative_to(folder).as_posix(), path
        elif path.suffix.lower() == ".zip":
            try:
                archive = zipfile.Path(path)
            except zipfile.BadZipFile as error:
                raise DataError(f"{path} is not a zip file that can be read.") from error
            for member in archive.root.namelist():
                if Path(member).suffix.lower() in SUFFIXES:
                    yield member, archive / member


def _decode(source: Path | zipfile.Path, resolution: int) -> UInt8[Tensor, "3 r r"]:
    try:
        image = Image.open(io.BytesIO(source.read_bytes())).convert("RGB")
    except Exception as error:  # Each decoder has errors of its own.
        raise DataError(f"{source} is not a picture that can be read.") from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=box)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
