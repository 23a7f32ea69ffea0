"""The files of pictures that a network enlarged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from pulse.imaging.pictures import InputError, Photo, setting
from pulse.results import TOOL, Format, encode
from stylegan.marks import COMPOSITE

ENHANCED = "A neural network enlarged this picture; detail in it was drawn by it and may be wrong."
LONGEST: dict[Format, int] = {"png": 2**31 - 1, "jpg": 65535, "webp": 16383}
"""Pixels that a side may have in each format."""
_MOST_EXIF = 65_000  # Bytes; JPEG has two for their number.
_COMPARED = 640  # Side of what the comparison shows of each picture.
FORMATS: dict[str, Format] = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}


def format_of(path: Path, format: Format | Literal["auto"] = "auto") -> Format:
    """The format of a result; "auto" keeps JPEG, PNG and WebP and makes PNG of all others."""
    return FORMATS.get(path.suffix.lower(), "png") if format == "auto" else format


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
    facts = facts_of_photo(photo, network)
    return encode(image, format, facts, COMPOSITE, exif=exif, icc=photo.icc), notes


def facts_of_photo(photo: Photo, network: str) -> dict[str, str]:
    """What a result says of itself, as name and text."""
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
    return encode(sheet, "png", facts_of_photo(photo, network), COMPOSITE)
