"""Pictures made to keep a reader busy or to take its memory, and sound ones to be damaged."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

KINDS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "PPM", "TGA")


def face(side: int = 48) -> Image.Image:
    """A picture with something in it everywhere."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(9 * x + k) * np.cos(7 * y - k) for k in range(3)]
    return Image.fromarray((127 + 120 * np.stack(waves, -1)).astype(np.uint8))


def sound_pictures() -> Iterator[tuple[str, bytes]]:
    """Small files of ten formats with all that readers look at: EXIF, profile, frames, alpha."""
    image = face()
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "A picture"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgba, other = image.convert("RGBA"), image.rotate(90)
    rgba.putalpha(image.convert("L"))
    yield "PNG", saved(rgba, "PNG", exif=exif, icc_profile=icc)
    yield "PNG 16", saved(Image.fromarray(np.arange(2304, dtype=np.uint16).reshape(48, 48)), "PNG")
    yield "PNG P", saved(image.quantize(16), "PNG", transparency=3)
    yield "JPEG", saved(image, "JPEG", exif=exif, icc_profile=icc)
    yield "JPEG progressive", saved(image.convert("CMYK"), "JPEG", progressive=True)
    yield "WEBP", saved(rgba, "WEBP", save_all=True, append_images=[other], exif=exif)
    yield "WEBP lossless", saved(image, "WEBP", lossless=True)
    yield "AVIF", saved(image, "AVIF", exif=exif, speed=10)
    yield "GIF", saved(image, "GIF", save_all=True, append_images=[other])
    yield "TIFF", saved(image, "TIFF", exif=exif)
    yield "TIFF deflate", saved(rgba, "TIFF", compression="tiff_deflate")
    yield "TIFF jpeg", saved(image, "TIFF", compression="jpeg")
    yield "BMP", saved(image, "BMP")
    yield "JPEG2000", saved(image, "JPEG2000")
    yield "PPM", saved(image, "PPM")
    yield "TGA", saved(rgba, "TGA", compression="tga_rle")


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def costly_pictures(folder: Path) -> Iterator[Path]:
    """Small files that took 15 seconds and more, or over a gigabyte, or could."""
    contents = {
        "grey16.png": _flat_png(8000, 8000, 16, 0),
        "rgba.png": _flat_png(8000, 8000, 8, 6),
        "rgba16.png": _flat_png(8000, 8000, 16, 6),
        "frames.gif": _many_frames(400_000),
        "plain.ppm": b"P3\n1000 1800 255\n" + b"10 20 30\n" * 1_800_000,
        "scans.jpg": _many_scans(5000),
        "icon.ico": _icon(_flat_png(8000, 8000, 8, 6)),
        "claims.qoi": b"qoif" + struct.pack(">II2B", 8000, 8000, 3, 0) + b"\xfd" * 1_033_000,
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n" + b"{} loop\n" * 99,
        "wide.jp2": _wide_jp2(),
        "claims.tiff": _claims_tiff(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name


def _flat_png(width: int, height: int, bits: int, colour: int) -> bytes:
    """One colour in kilobytes; `colour` is PNG's number: 0 grey, 6 RGBA."""
    row = bytes(1 + width * bits // 8 * (4 if colour == 6 else 1))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def _many_frames(count: int) -> bytes:
    sound = saved(Image.new("P", (8, 8)), "GIF")
    start = sound.index(b"\x2c", 13 + 3)  # Of the first frame, before which is the palette.
    frame, end = sound[start:-1], sound[-1:]
    return sound[:start] + frame * count + end


def _many_scans(count: int) -> bytes:
    """A progressive JPEG of 60 megapixels whose later passes hold nothing."""
    sound = saved(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    size = sound.index(b"\xff\xc2") + 5
    sound = sound[:size] + struct.pack(">HH", 7744, 7744) + sound[size + 4 :]
    last = sound.rindex(b"\xff\xda")
    return sound[:last] + sound[last:-2] * count + sound[-2:]


def _icon(png: bytes) -> bytes:
    """Says 16x16 and holds something else."""
    return struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(png), 22) + png


def _wide_jp2() -> bytes:
    sound = saved(Image.new("RGB", (64, 64)), "JPEG2000", no_jp2=True)
    size = sound.index(b"\xff\x51") + 6
    return sound[:size] + struct.pack(">II", 8000, 8000) + sound[size + 8 :]


def _claims_tiff() -> bytes:
    """Strips of which one is said to be everything, and tags of four gigabytes."""
    tags = (
        (256, 4, 1, 8000), (257, 4, 1, 8000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (270, 2, 2**32 - 1, 8), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 8000),
        (279, 4, 1, 64_000_000),
    )  # fmt: skip
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4)
