"""The files of `pulse upscale`: which pictures are meant, what is written of each and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from pulse.batch.inputs import readable
from pulse.batch.listing import files_in
from pulse.cli.inputs import picture_files
from pulse.imaging.pictures import InputError, Photo, setting
from pulse.results import TOOL, Format, encode
from stylegan.marks import COMPOSITE

ENHANCED = "A neural network enlarged this picture; detail in it was drawn by it and may be wrong."
LONGEST: dict[Format, int] = {"png": 2**31 - 1, "jpg": 65535, "webp": 16383}
"""Pixels that a side may have in each format."""
_MOST_EXIF = 65_000  # Bytes; JPEG has two for their number.
_COMPARED = 640  # Side of what the comparison shows of each picture.


@dataclass(frozen=True)
class Job:
    """A picture to upscale, and the file to write."""

    source: Path
    target: Path

    @property
    def format(self) -> Format:
        return _FORMATS.get(self.target.suffix.lower(), "png")

    @property
    def comparison(self) -> Path:
        return self.target.with_name(f"{self.target.stem}-comparison.png")


_FORMATS: dict[str, Format] = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


def jobs_of(inputs: list[str], output: Path, format: Format | Literal["auto"]) -> list[Job]:
    """What is to be done, in order.

    Args:
        inputs: files, folders and patterns.
        output: a folder; or a file, where one file is to be upscaled and it has a picture's ending.
        format: "auto" keeps JPEG, PNG and WebP and makes PNG of all others.

    Raises:
        InputError: an input is not there, or two would be written to the same file.
    """
    sources = [path for text in inputs for path in _files(text)]
    single = len(inputs) == len(sources) == 1 and str(sources[0]) == inputs[0]
    if single and output.suffix.lower() in _FORMATS and not output.is_dir():
        jobs = [Job(sources[0], output)]
    else:
        jobs = [Job(path, output / f"{path.stem}.{_ending(path, format)}") for path in sources]
    taken: dict[Path, Path] = {}
    for job in jobs:
        other = taken.setdefault(job.target, job.source)
        if other is not job.source:
            raise InputError(
                f"{other} and {job.source} would both be written to {job.target}; upscale them "
                "apart with different -o."
            )
        if job.target.resolve() == job.source.resolve():
            raise InputError(f"{job.source} would be overwritten; give another folder with -o.")
    return jobs


def _files(text: str) -> Iterator[Path]:
    path = Path(text)
    if path.is_dir():
        found = [name for name in files_in(text, False) if Path(name).suffix.lower() in readable()]
        if not found:
            raise InputError(f"{text} holds no pictures.")
        yield from (path / name for name in found)
    else:
        yield from picture_files(text)


def _ending(path: Path, format: Format | Literal["auto"]) -> Format:
    return _FORMATS.get(path.suffix.lower(), "png") if format == "auto" else format


def check_size(photo: Photo, scale: float, format: Format) -> None:
    """Find out before the work whether the format can hold its result."""
    longest = round(max(photo.image.size) * scale)
    if longest > LONGEST[format]:
        raise InputError(
            f"The result would be {longest} pixels long, and {format} holds {LONGEST[format]}; "
            f"give {setting('format')} png, or a smaller {setting('scale')}."
        )


def enhanced(
    image: Image.Image, photo: Photo, format: Format, network: str
) -> tuple[bytes, list[str]]:
    """The file of a result, which says that a network made it, and what was left out.

    EXIF and colour profile are those of the photo; what else its XMP held is not kept.
    """
    notes = list(photo.notes)
    if format != "png" and image.mode == "I;16":
        notes.append(f"It has 16 bits, and {format} holds 8.")
        image = image.point(lambda value: value / 257).convert("L")
    if format == "jpg" and image.mode in ("LA", "RGBA"):
        notes.append("Its transparent parts were put on white, since JPEG has none.")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    exif = photo.exif
    if exif is not None and format == "jpg" and len(exif.tobytes()) > _MOST_EXIF:
        notes.append("Its EXIF data are too long for JPEG and left out.")
        exif = None
    facts = _facts(photo, network)
    return encode(image, format, facts, COMPOSITE, exif=exif, icc=photo.icc), notes


def _facts(photo: Photo, network: str) -> dict[str, str]:
    return {
        "Software": TOOL,
        "Description": ENHANCED,
        "Network": network.encode(errors="backslashreplace").decode(),
        "From": f"{photo.image.width}x{photo.image.height}",
    }


def comparison(image: Image.Image, photo: Photo, network: str) -> bytes:
    """The middle of the picture, upscaled bicubically and by the network, side by side as PNG."""
    small = photo.image
    after = image.point(lambda value: value / 257).convert("L") if image.mode == "I;16" else image
    before = small.point(lambda value: value / 257) if small.mode.startswith("I") else small
    width, height = (min(side, _COMPARED) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    box = (left, top, left + width, top + height)
    across, down = small.width / image.width, small.height / image.height
    source = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    bicubic = before.convert("RGBA").resize((width, height), Image.Resampling.BICUBIC, source)
    gap, caption = 8, 22
    sheet = Image.new("RGB", (2 * width + 3 * gap, height + 2 * gap + caption), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (one, text) in enumerate(((bicubic, "bicubic"), (after.crop(box), "network"))):
        x = gap + number * (width + gap)
        visible = one.convert("RGBA")
        sheet.paste(visible, (x, gap), visible)
        draw.text((x, gap + height + 2), text, "black", font)
    return encode(sheet, "png", _facts(photo, network), COMPOSITE)
