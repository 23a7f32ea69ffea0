"""Files <-> tensors: whatever a picture file holds becomes plain RGB, or a clear refusal."""

from __future__ import annotations

import io
import re
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

from pulse.imaging import bounds
from pulse.imaging.bounds import TooCostlyError
from stylegan.files import whole

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: they would not fit beside a search."""
STRIP = 2**22
"""Pixels of 16 bits that are converted at once."""


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
    """Read a picture file of one of `FORMATS`.

    EXIF rotation is applied, colour profiles become sRGB, transparent parts are put on white, 16
    bits become 8, and of an animation the first frame is taken; the notes say which of these
    changed what the picture shows.

    Args:
        name: what messages call the file; None is its path.
        most: pixels that it may have. Larger JPEGs are read at a half, a quarter or an eighth of
            their size, which costs no more; so are JPEG 2000s.

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
    source: Path | io.BytesIO,
    name: str,
    most: int,
    take: Callable[[ImageFile.ImageFile, list[str]], Taken],
) -> Taken:
    try:
        with warnings.catch_warnings():
            # Pillow's own limit warns beside ours, and damaged EXIF is no reason to alarm people.
            warnings.simplefilter("ignore")
            with Image.open(source, formats=bounds.FORMATS) as image:
                return take(image, bounds.bound(image, source, most))
    except InputError:
        raise
    except (TooCostlyError, Image.DecompressionBombError) as error:
        reason = error if isinstance(error, TooCostlyError) else bounds.too_many(most)
        raise InputError(f"{name} {reason}") from None
    except UnidentifiedImageError:
        empty = source.stat().st_size == 0 if isinstance(source, Path) else not source.getvalue()
        kind = "is empty" if empty else "is not a picture of a known format"
        raise InputError(f"{name} {kind}; give a PNG, JPEG, WebP or similar file.") from None
    except PermissionError:
        raise InputError(f"{name} may not be read; check its permissions.") from None
    except MemoryError:
        raise InputError(f"There is too little memory to read {name}: shrink it.") from None
    except Exception as error:  # Each decoder has errors of its own.
        said = "".join(letter if letter.isprintable() else " " for letter in str(error)[:120])
        reason = " ".join(said.split()) or type(error).__name__
        raise InputError(f"{name} is damaged and cannot be read whole ({reason}).") from error


def _plain(file: ImageFile.ImageFile, notes: list[str]) -> Picture:
    notes += _of_frames(file)
    profile = file.info.get("icc_profile")
    image: Image.Image = file
    image.load()
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode == "RGB" and image.has_transparency_data:
        image = image.convert("RGBA")  # A colour key, which would not outlive the next step.
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        image = _to_srgb(image, profile)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("Its transparent parts were put on white.")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        image = white
    # Turned last, when it is smallest.
    image = _upright(image.convert("RGB"), _orientation(file))
    image.info.clear()  # What it says of its orientation would have it turned again.
    return Picture(image, tuple(notes))


def _photo(image: ImageFile.ImageFile, notes: list[str]) -> Photo:
    notes, format = notes + _of_frames(image), image.format or ""
    if image.mode in ("RGB", "RGBA") and any("16" in str(tile.args) for tile in image.tile):
        notes.append("Its colours have 16 bits, of which 8 are read.")
    icc = image.info.get("icc_profile")
    try:
        exif: Image.Exif | None = image.getexif()
    except Exception:  # Damaged in ways that Pillow did not foresee.
        exif = None
        notes.append("Its EXIF data are damaged and left out.")
    image.load()
    upright = _upright(image, _orientation(image))
    if upright.mode in ("CMYK", "LAB", "YCbCr"):
        # No format that is written holds these, and a profile is of its colours alone.
        upright = (_to_srgb(upright, icc) if icc else upright).convert("RGB")
        icc = None
    if exif:
        exif.pop(_ORIENTATION, None)
    return Photo(upright, format, exif or None, icc, tuple(notes))


def _of_frames(image: Image.Image) -> list[str]:
    """Notes on what is not read. To count the frames would be to read them all."""
    several = getattr(image, "is_animated", False)
    return ["It has several frames; only the first is used."] if several else []


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8, which Pillow would clip instead of scaling."""
    grey = np.empty((image.height, image.width), np.uint8)
    rows = max(STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        values = np.asarray(image.crop((0, top, image.width, bottom))).astype(np.int64)
        grey[top:bottom] = (values.clip(0, 65535) + 128) // 257
    return Image.fromarray(grey)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
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


def as_saved(image: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
    """Values in [0, 1] as a file of 8 bits holds them."""
    return (image.clamp(0, 1) * 255).round() / 255


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
