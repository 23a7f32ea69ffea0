import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from align import Face, Frame, find_faces

EXIF_TURNED = 0x0112


def background(width: int, height: int, noise: float = 0.0) -> Image.Image:
    values = np.random.default_rng(0).normal(128, noise, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def put(photo: Image.Image, face: Image.Image, left: int, top: int, side: int) -> None:
    photo.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left, top))


def is_framed(face: Face, left: float, top: float, side: float, within: float = 0.1) -> bool:
    """Whether a face's frame is where a drawn face was put, up to a share of its side."""
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]]) * side + [left, top]
    return bool(np.abs(Frame.of(face).quad - corners).max() < within * side)


@pytest.mark.parametrize("noise", [0.0, 10.0])
def test_several_faces_largest_first(drawn: list[Image.Image], noise: float) -> None:
    photo = background(640, 480, noise)
    places = [(480, 300, 90), (20, 30, 200), (250, 300, 50), (300, 40, 120)]
    for face, place in zip(drawn, places, strict=True):
        put(photo, face, *place)
    found = find_faces(photo)
    assert len(found) == 4
    for face, place in zip(found, sorted(places, key=lambda p: -p[2]), strict=True):
        assert is_framed(face, *place)
        assert face.landmarks.shape == (68, 2)
        assert face.score > 0.2
    # Eyes before mouth, left before right, as seen.
    landmarks = found[0].landmarks
    assert landmarks[36:42, 0].mean() < landmarks[42:48, 0].mean()
    assert landmarks[36:48, 1].max() < landmarks[48:, 1].min()


@pytest.mark.parametrize(
    ("side", "within"), [(16, 0.25), (20, 0.15), (24, 0.15), (32, 0.1), (40, 0.1), (64, 0.1)]
)
def test_tiny_faces(drawn: list[Image.Image], side: int, within: float) -> None:
    photo = background(300, 240, 5)
    put(photo, drawn[0], 30, 20, side)
    (face,) = find_faces(photo)
    assert is_framed(face, 30, 20, side, within)
    # More than whole pixels are known.
    assert (face.landmarks != face.landmarks.round()).any() or side > 40


def test_a_tiny_face_beside_a_large_one(drawn: list[Image.Image]) -> None:
    photo = background(640, 480, 5)
    put(photo, drawn[0], 20, 20, 400)
    put(photo, drawn[1], 500, 300, 40)
    large, small = find_faces(photo)
    assert is_framed(large, 20, 20, 400)
    assert is_framed(small, 500, 300, 40)


def test_no_face() -> None:
    assert find_faces(background(400, 300, 20)) == []
    assert find_faces(Image.new("RGB", (3, 2))) == []
    assert find_faces(Image.new("RGB", (900, 4))) == []


@pytest.mark.parametrize("place", [(-50, 40), (40, -50), (40, 150), (150, 40)])
def test_faces_cut_by_the_border(drawn: list[Image.Image], place: tuple[int, int]) -> None:
    photo = background(300, 300, 5)
    put(photo, drawn[2], *place, 200)
    (face,) = find_faces(photo)
    assert is_framed(face, *place, 200)


@pytest.mark.parametrize("degrees", [30, -30, 90, 180, -110])
def test_turned_faces(drawn: list[Image.Image], degrees: int) -> None:
    photo = background(400, 400)
    put(photo, drawn[2], 100, 100, 200)
    turned = photo.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    (face,) = find_faces(turned)
    frame = Frame.of(face)
    assert frame.size == pytest.approx(200, rel=0.1)
    assert np.allclose(frame.centre, 200, atol=10)
    angle = np.degrees(np.arctan2(-frame.right[1], frame.right[0]))
    assert abs((angle - degrees + 180) % 360 - 180) < 6


def test_exif_grey_and_32_bits(drawn: list[Image.Image], tmp_path: Path) -> None:
    photo = background(320, 240)
    put(photo, drawn[0], 40, 20, 180)
    expected = find_faces(photo)
    assert len(expected) == 1
    exif = Image.Exif()
    exif[EXIF_TURNED] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    photo.convert("RGBA").save(tmp_path / "deep.png")
    for name in ("turned.png", "deep.png"):
        with Image.open(tmp_path / name) as image:
            (face,) = find_faces(image)
        assert np.array_equal(face.landmarks, expected[0].landmarks), name
    (face,) = find_faces(photo.convert("L"))
    assert np.abs(face.landmarks - expected[0].landmarks).max() < 6


def test_a_large_photo_is_searched_at_a_bounded_size(drawn: list[Image.Image]) -> None:
    photo = Image.new("RGB", (4000, 3000), "grey")
    put(photo, drawn[0], 1000, 500, 1600)
    (face,) = find_faces(photo)
    assert is_framed(face, 1000, 500, 1600)


def test_the_cnn_finds_a_face_that_is_half_covered(drawn: list[Image.Image]) -> None:
    photo = background(300, 300, 5)
    put(photo, drawn[1], 50, 50, 200)
    photo.paste((40, 40, 40), (150, 50, 250, 250))
    assert find_faces(photo) == []
    (face,) = find_faces(photo, "cnn")
    left, top, right, bottom = face.box
    assert left < 150 < right
    assert top < 150 < bottom
    assert is_framed(face, 50, 50, 200, within=0.2)


def test_photos_give_the_landmarks_of_the_original_recipe(shared: Path) -> None:
    expected = json.loads((shared / "fixtures" / "align" / "expected.json").read_text("utf-8"))
    for name, facts in expected.items():
        with Image.open(shared / "photos" / name) as photo:
            found = find_faces(photo)
        ours = [face.landmarks.tolist() for face in found]
        assert len(ours) == len(facts["faces"]), name
        for face in facts["faces"]:
            assert face["landmarks"] in ours, name
        widths = [face.width for face in found]
        assert widths == sorted(widths, reverse=True)
