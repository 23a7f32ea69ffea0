"""Files <-> tensors: whatever a picture file holds becomes plain RGB, or a clear refusal."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from torch import Tensor

from stylegan.files import whole

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: they would not fit beside a search."""


Taken = TypeVar("Taken")
_SETTING = re.compile(r"\[\[([a-z_]+)\]\]")


def setting(name: str) -> str:
    """A setting's name as it stands in the message of an `InputError`."""
    return f"[[{name}]]"


class InputError(ValueError):
    """What the user gave cannot be used; the message says what is wrong and what to do.

    Settings in it are marked by `setting`, so that each front end can say its own words for them.
    """

    def __str__(self) -> str:
        return self.worded(str)

    def worded(self, word: Callable[[str], str]) -> str:
        """The message with the front end's word for each setting in it."""
        return _SETTING.sub(lambda found: word(found[1]), super().__str__())


# What Pillow raises over damaged files, depending on the format.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error)

_ORIENTATION = 0x0112  # EXIF.
# Its values -> what makes it upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A picture as people see it: upright, RGB, 8 bits.

    Attributes:
        image: mode RGB.
        notes: what was changed or left out to get there, one sentence each.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_picture(path: Path, name: str | None = None, most: int = MAX_PIXELS) -> Picture:
    """Read a picture file of any kind that Pillow knows.

    EXIF rotation is applied, colour profiles become sRGB, transparent parts are put on white, 16
    bits become 8, and of an animation the first frame is taken; the notes say which of these
    changed what the picture shows.

    Args:
        name: what messages call the file; None is its path.
        most: pixels that it may have.

    Raises:
        InputError: the file is missing, not a readable picture, or too large.
    """
    name = name or str(path)
    _check(path, name)
    return _read(path, name, most, _plain)


@dataclass(frozen=True)
class Photo:
    """A picture with all that its file holds, as it is but for being upright.

    Attributes:
        image: of any of Pillow's modes.
        format: Pillow's name of the file's format.
        exif: without the orientation, which is applied; None where there is none.
        icc: the colour profile that the numbers are meant by, if one is stored.
        notes: what was left out, one sentence each.
    """

    image: Image.Image
    format: str
    exif: Image.Exif | None
    icc: bytes | None
    notes: tuple[str, ...] = ()


def read_photo(path: Path, most: int = MAX_PIXELS) -> Photo:
    """Read a picture file to work on it and write it again: nothing is converted.

    Raises:
        InputError: the file is missing, not a readable picture, or too large.
    """
    _check(path, str(path))
    return _read(path, str(path), most, _photo)


def _check(path: Path, name: str) -> None:
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"{name} cannot be looked up ({error.strerror}).") from error
    if folder:
        raise InputError(f"{name} is a folder; give a picture file.")
    if not there:
        raise InputError(f"{name} does not exist; check the name.")


def decode_picture(data: bytes, name: str = "The picture", most: int = MAX_PIXELS) -> Picture:
    """The same for the bytes of a picture file.

    Raises:
        InputError: they are not a readable picture, or it is too large.
    """
    return _read(io.BytesIO(data), name, most, _plain)


def _read(
    source: Path | io.BytesIO, name: str, most: int, take: Callable[[Image.Image], Taken]
) -> Taken:
    limit = f"at most {most / 1e6:.3g} megapixels can be read: shrink it."
    try:
        with warnings.catch_warnings():
            # Pillow's own limit warns beside ours, and damaged EXIF is no reason to alarm people.
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                size = image.size
                if size[0] * size[1] <= most:
                    return take(image)
    except Image.DecompressionBombError:
        raise InputError(f"{name} is too large; {limit}") from None
    except UnidentifiedImageError:
        empty = source.stat().st_size == 0 if isinstance(source, Path) else not source.getvalue()
        kind = "is empty" if empty else "is not a picture of a known format"
        raise InputError(f"{name} {kind}; give a PNG, JPEG, WebP or similar file.") from None
    except PermissionError:
        raise InputError(f"{name} may not be read; check its permissions.") from None
    except DAMAGE as error:
        raise InputError(f"{name} is damaged and cannot be read whole ({error}).") from error
    raise InputError(f"{name} has {size[0]}x{size[1]} pixels; {limit}")


def _plain(image: Image.Image) -> Picture:
    notes = _of_frames(image)
    profile = image.info.get("icc_profile")
    image = _upright(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow would clip instead of scaling.
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8))
    if image.mode == "RGB" and image.has_transparency_data:
        image = image.convert("RGBA")  # A colour key, which would not outlive the next step.
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        image = _to_srgb(image, profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("Its transparent parts were put on white.")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    image.info.clear()  # What it says of its orientation would have it turned again.
    return Picture(image, tuple(notes))


def _photo(image: Image.Image) -> Photo:
    notes, format = _of_frames(image), image.format or ""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    if image.mode in ("RGB", "RGBA") and any("16" in str(tile.args) for tile in tiles):
        notes.append("Its colours have 16 bits, of which 8 are read.")
    icc = image.info.get("icc_profile")
    try:
        exif: Image.Exif | None = image.getexif()
    except DAMAGE:
        exif = None
        notes.append("Its EXIF data are damaged and left out.")
    upright = _upright(image)
    if upright.mode in ("CMYK", "LAB", "YCbCr"):
        # No format that is written holds these, and a profile is of its colours alone.
        upright = (_to_srgb(upright, icc) if icc else upright).convert("RGB")
        icc = None
    if exif:
        exif.pop(_ORIENTATION, None)
    return Photo(upright, format, exif or None, icc, tuple(notes))


def _of_frames(image: Image.Image) -> list[str]:
    frames = getattr(image, "n_frames", 1)
    return [f"It has {frames} frames; only the first is used."] if frames > 1 else []


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DAMAGE:
        return 1  # Damaged EXIF beside sound pixels: upright is the best guess.


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image  # A broken or foreign profile: the numbers as they stand are the best guess.
    return converted or image


def to_tensor(image: Image.Image) -> Float[Tensor, "3 h w"]:
    """RGB picture to a tensor in [0, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return pixels.permute(2, 0, 1).float() / 255


def to_image(tensor: Float[Tensor, "3 h w"]) -> Image.Image:
    """Tensor in [0, 1] to an RGB picture, clamped and rounded to 8 bits."""
    pixels = (tensor.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_png(image: Image.Image) -> bytes:
    """The file of a picture, with nothing but its pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole(path) as file:
        file.write_bytes(data)
