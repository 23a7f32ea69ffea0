import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from pulse.imaging.pictures import InputError, read_picture, to_image, to_tensor, write_bytes


@pytest.fixture
def ramp() -> Image.Image:
    """A picture in which no two pixels are alike: red to the right, green downwards."""
    pixels = np.zeros((12, 16, 3), np.uint8)
    pixels[..., 0] = np.arange(16) * 15
    pixels[..., 1] = np.arange(12)[:, None] * 20
    return Image.fromarray(pixels)


def test_tensor_round_trip(ramp: Image.Image) -> None:
    tensor = to_tensor(ramp)
    assert tensor.shape == (3, 12, 16)
    assert tensor.max() <= 1
    assert np.array_equal(np.array(to_image(tensor)), np.array(ramp))
    assert np.array(to_image(torch.full((3, 1, 1), 7.0))).max() == 255


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "ppm"])
def test_formats(ramp: Image.Image, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    ramp.save(path, lossless=True)  # Which only WebP heeds.
    image = read_picture(path).image
    assert image.mode == "RGB"
    limit = 40 if suffix == "gif" else 0
    assert np.abs(np.array(image, int) - np.array(ramp, int)).max() <= limit


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(ramp: Image.Image, orientation: int, tmp_path: Path) -> None:
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # Stored turned left, to be shown turned right.
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = ramp if turn is None else ramp.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.array(read_picture(tmp_path / "x.png").image), np.array(ramp))


def test_grey_16_bit_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 128 * 257, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert np.array(read_picture(tmp_path / "x.png").image)[0, :, 0].tolist() == [0, 128, 255]


def test_grey_becomes_three_equal_channels(ramp: Image.Image, tmp_path: Path) -> None:
    ramp.convert("L").save(tmp_path / "x.png")
    pixels = np.array(read_picture(tmp_path / "x.png").image)
    assert (pixels == pixels[..., :1]).all()


def test_transparency_is_put_on_white_and_said(ramp: Image.Image, tmp_path: Path) -> None:
    image = ramp.convert("RGBA")
    image.putalpha(Image.new("L", ramp.size, 0))
    image.save(tmp_path / "x.png")
    picture = read_picture(tmp_path / "x.png")
    assert np.array(picture.image).min() == 255
    assert picture.notes == ("Its transparent parts were put on white.",)
    image.putalpha(255)
    image.save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").notes == ()


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "x.png", transparency=0)
    pixels = np.array(read_picture(tmp_path / "x.png").image)
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    red, green, blue = np.array(read_picture(tmp_path / "x.jpg").image)[4, 4]
    assert red > 240
    assert green < 15
    assert blue < 15


def test_colour_profiles_become_srgb(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (100, 150, 200))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "same.png", icc_profile=srgb)
    assert np.array(read_picture(tmp_path / "same.png").image)[0, 0].tolist() == [100, 150, 200]
    swapped = srgb.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "swapped.png", icc_profile=swapped)
    assert np.array(read_picture(tmp_path / "swapped.png").image)[0, 0].tolist() == [0, 255, 0]
    image.save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert np.array(read_picture(tmp_path / "broken.png").image)[0, 0].tolist() == [100, 150, 200]


def test_damaged_exif_beside_sound_pixels(ramp: Image.Image, tmp_path: Path) -> None:
    for exif in (b"Exif\x00\x00", b"Exif\x00\x00garbage that is no TIFF", b"II*\x00\xff"):
        ramp.save(tmp_path / "x.png", exif=exif)
        assert np.array_equal(np.array(read_picture(tmp_path / "x.png").image), np.array(ramp))


def test_a_colour_key_with_a_profile(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (0, 0, 255))
    image.save(tmp_path / "x.png", transparency=(9, 9, 9), icc_profile=srgb)
    pixels = np.array(read_picture(tmp_path / "x.png").image)
    assert pixels[0].tolist() == [[255, 255, 255], [0, 0, 255]]


def test_an_animation_gives_its_first_frame_and_says_so(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    picture = read_picture(tmp_path / "x.gif")
    assert picture.image.getpixel((0, 0)) == (255, 0, 0)
    assert picture.notes == ("It has several frames; only the first is used.",)


def test_every_truncation_is_refused_or_read(ramp: Image.Image, tmp_path: Path) -> None:
    """Cut anywhere, a file gives a picture or an `InputError`, nothing else."""
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        buffer = io.BytesIO()
        ramp.save(buffer, kind)
        data = buffer.getvalue()
        for length in range(0, len(data), 7):
            (tmp_path / "x").write_bytes(data[:length])
            try:
                read_picture(tmp_path / "x")
            except InputError:
                continue
            assert length > 0.5 * len(data), kind


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="10000x10000 pixels; at most 64 megapixels"):
        read_picture(tmp_path / "x.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match="at most 64 megapixels"):
        read_picture(tmp_path / "x.png")


def test_missing_empty_folder_and_text(tmp_path: Path) -> None:
    for name, content, message in (
        ("absent.png", None, "does not exist"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello", "not a picture of a known format"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_picture(tmp_path / name)
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)


def test_writing_leaves_no_part_behind(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x", b"one")
    write_bytes(tmp_path / "x", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"two")]
