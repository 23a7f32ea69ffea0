"""What a picture file may cost to decode, found out from what it says before it is decoded."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "TGA")
"""What is read, Pillow's names. Its other readers start programs (EPS), hold further pictures of
any size (ICO), or are little used."""
MOST_OF = {"WEBP": 40_000_000, "AVIF": 40_000_000, "JPEG2000": 16_000_000}
"""Pixels of formats whose decoders need up to 16 bytes for each of them."""
MOST_SLOW = 4_000_000
"""Bytes of a file that Pillow decodes in Python, such as numbers in writing (plain PPM)."""
MOST_SCANS = 100
"""Passes of a JPEG over its pixels. Progressive ones usually have ten; one costs time though it may
be empty."""
LARGER = 2
"""How many times the pixels that are allowed a JPEG may have that is read at half its size: the
decoder may have to keep all of its coefficients."""


class TooCostlyError(ValueError):
    """The file is not read; the message goes on after its name."""


def too_many(most: int, size: tuple[int, int] | None = None) -> TooCostlyError:
    has = "is too large" if size is None else f"has {size[0]}x{size[1]} pixels"
    return TooCostlyError(f"{has}; at most {most / 1e6:.3g} megapixels can be read: shrink it.")


def bound(image: ImageFile.ImageFile, source: Path | io.BytesIO, most: int) -> list[str]:
    """Refuse what would cost too much, or have it decoded at a fraction of its size.

    Args:
        image: opened, not loaded.
        source: that it was opened from.
        most: pixels that are allowed.

    Returns:
        What there is to say of it, one sentence each.

    Raises:
        TooCostlyError: it has too many pixels, or takes too long for what it shows.
    """
    size, format = image.size, image.format or ""
    most = min(most, MOST_OF.get(format, most))
    times = next((t for t in (1, 2, 4, 8) if size[0] * size[1] <= most * t * t), 16)
    if format in ("JPEG", "MPO"):
        scans = _bytes(source).count(b"\xff\xda")
        if scans > MOST_SCANS:
            raise _too_slow(f"{scans} passes over its pixels")
        if size[0] * size[1] > most * (1 if "progressive" in image.info else LARGER):
            raise too_many(most, size)
        if times > 1:
            image.draft(None, (size[0] // times, size[1] // times))
    elif isinstance(image, Jpeg2KImageFile) and times <= 8:
        image.reduce = times.bit_length() - 1  # type: ignore[method-assign]
    elif times > 1:
        raise too_many(most, size)
    slow = any(tile.codec_name in Image.DECODERS for tile in image.tile)
    if slow and len(_bytes(source)) > MOST_SLOW:
        raise _too_slow(f"{len(_bytes(source)) / 1e6:.1f} MB of a kind that is decoded slowly")
    smaller = f"It has {size[0]}x{size[1]} pixels and was read at 1/{times} of that."
    return [smaller] if times > 1 else []


def _too_slow(why: str) -> TooCostlyError:
    return TooCostlyError(f"would take very long to read ({why}); save it anew, as PNG.")


def _bytes(source: Path | io.BytesIO) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source.getvalue()
