import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from align import Face, Frame, crop, crop_face, find_faces, paste_back


@pytest.fixture
def photo(drawn: list[Image.Image]) -> Image.Image:
    """A face on a smooth background, with the grain of a photo."""
    x = np.linspace(60, 200, 480)[None, :, None]
    y = np.linspace(0, 40, 360)[:, None, None]
    values = np.broadcast_to(x + y, (360, 480, 3)).copy()
    small = drawn[1].resize((160, 160), Image.Resampling.BICUBIC)
    values[100:260, 150:310] = np.asarray(small)
    values += np.random.default_rng(0).normal(0, 3, values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


def moved(face: Face, matrix: np.ndarray, shift: tuple[float, float]) -> Face:
    points = (face.landmarks + 0.5) @ matrix.T + shift - 0.5
    return Face(points, face.box, face.score)


def test_the_frame_is_a_square_around_eyes_and_mouth() -> None:
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48] = (40, 50), (60, 50)
    landmarks[48], landmarks[54] = (42, 80), (58, 80)
    frame = Frame.of(Face(landmarks, (0, 0, 1, 1), 0.0))
    # Twice the eyes' distance or 1.8 times that to the mouth, to either side; a tenth lower.
    assert frame.size == pytest.approx(2 * max(2.0 * 20, 1.8 * 30))
    assert frame.centre == pytest.approx((50.5, 53.5))
    assert frame.quad[2] == pytest.approx([50.5 + 54, 53.5 + 54])
    assert frame.quad[1] == pytest.approx([50.5 - 54, 53.5 + 54])


def test_a_drawn_face_is_cut_out_as_it_was_drawn(
    photo: Image.Image, drawn: list[Image.Image]
) -> None:
    (face,) = find_faces(photo)
    (own,) = find_faces(drawn[1])
    cut = crop_face(photo, face, 32)
    assert cut.size == (32, 32)
    assert difference(cut, crop_face(drawn[1], own, 32)) < 5


@pytest.mark.parametrize("degrees", [30, 90, 180])
def test_a_crop_does_not_depend_on_how_the_photo_lies(photo: Image.Image, degrees: int) -> None:
    (face,) = find_faces(photo)
    turned = photo.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.array([[cos, sin], [-sin, cos]])
    shift = np.array(turned.size) / 2 - matrix @ (np.array(photo.size) / 2)
    straight = crop_face(turned, moved(face, matrix, (shift[0], shift[1])), 64)
    assert difference(straight, crop_face(photo, face, 64)) < (1.5 if degrees % 90 else 0.05)


def test_a_shrunk_crop_is_antialiased_and_in_place(drawn: list[Image.Image]) -> None:
    """Shrinking the crop of a large photo is the crop of the shrunk photo."""
    photo = Image.new("RGB", (1600, 1600), "grey")
    photo.paste(drawn[0].resize((1400, 1400), Image.Resampling.BICUBIC), (100, 100))
    (face,) = find_faces(photo)
    small = crop_face(photo, face, 32)
    big = crop_face(photo, face, 1400).resize((32, 32), Image.Resampling.LANCZOS)
    assert difference(small, big) < 1
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (1600, 800))).convert("RGB")
    assert np.ptp(np.asarray(crop_face(stripes, face, 32), float)) < 12


def test_what_lies_outside_is_mirrored_and_blurred(drawn: list[Image.Image]) -> None:
    photo = Image.new("RGB", (300, 300), (30, 60, 90))
    photo.paste(drawn[2].resize((200, 200), Image.Resampling.BICUBIC), (-50, 60))
    (face,) = find_faces(photo)
    frame = Frame.of(face)
    inside = frame.in_photo(photo.size).mean()
    assert inside == pytest.approx(0.75, abs=0.04)
    cut = np.asarray(crop_face(photo, face, 128), float)
    outside = cut[:, :16]
    assert outside.min() > 0
    assert outside.std() > 5  # Not one colour.
    rough = np.abs(np.diff(cut, axis=0)).mean((0, 2))
    assert rough[:16].mean() < 0.5 * rough[48:80].mean()
    # No edge where the photo ends: not more change there than further inside.
    change = np.abs(np.diff(cut, axis=1)).mean((0, 2))
    end = round((1 - inside) * 128)
    assert change[end - 6 : end + 6].max() < 2 * change[end + 6 :].max()


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_pasting_the_crop_returns_the_photo(photo: Image.Image, side: int) -> None:
    (face,) = find_faces(photo)
    before = photo.copy()
    back = paste_back(photo, face, crop_face(photo, face, side))
    assert difference(photo, before) == 0  # The photo itself is left alone.
    left, top, right, bottom = map(int, face.box)
    box = (left, top, right, bottom)
    assert difference(back.crop(box), photo.crop(box)) < 0.7
    assert difference(back.crop((0, 0, 140, 360)), photo.crop((0, 0, 140, 360))) == 0


def test_a_new_face_takes_the_place_and_the_light_of_the_old(
    photo: Image.Image, drawn: list[Image.Image]
) -> None:
    (face,) = find_faces(photo)
    darker = Image.eval(drawn[3], lambda value: int(value * 0.7))
    result = paste_back(photo, face, darker)
    assert result.size == photo.size
    cut = crop_face(result, face, 64)
    plain = crop_face(photo, face, 64)
    new = darker.resize((64, 64), Image.Resampling.BICUBIC)
    middle = (24, 24, 40, 46)
    # In the middle it is the new face but for its light...
    a, b, c = (np.asarray(im.crop(middle).convert("L"), float) for im in (cut, new, plain))
    like_new, like_old = (np.corrcoef(a.ravel(), x.ravel())[0, 1] for x in (b, c))
    assert like_new > 0.9
    assert like_new > like_old + 0.1
    assert abs(a.mean() - c.mean()) < 0.6 * abs(b.mean() - c.mean())
    # ...and at the frame's edge nothing has changed.
    assert difference(cut.crop((0, 0, 64, 4)), plain.crop((0, 0, 64, 4))) < 0.1


def test_the_last_digit_of_a_landmark_changes_nothing() -> None:
    """Brows on a row of the grid: a film in which nothing moves would flicker there."""
    points = np.zeros((68, 2))
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([np.cos(turn), 0.2 + 1.1 * np.sin(turn)], 1)
    points[17:27] = np.stack([np.linspace(-0.8, 0.8, 10), np.full(10, -0.6)], 1)
    points[36:42], points[42:48] = (-0.45, -0.3), (0.45, -0.3)
    points[48], points[54] = (-0.35, 0.6), (0.35, 0.6)
    points = 5 * points + (30, 24)
    rng = np.random.default_rng(0)
    photo, new = (
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in ((48, 64), (32, 32))
    )
    made = []
    for _ in range(8):
        face = Face(points + rng.normal(0, 1e-13, points.shape), (20, 14, 40, 34), 1.0)
        made.append(np.asarray(paste_back(photo, face, new, largest=18), float))
    assert np.ptp(made, axis=0).max() <= 3


def test_faces_cut_by_the_border_can_be_pasted(drawn: list[Image.Image]) -> None:
    photo = Image.new("RGB", (300, 300), (130, 130, 130))
    photo.paste(drawn[2].resize((200, 200), Image.Resampling.BICUBIC), (-50, 160))
    (face,) = find_faces(photo)
    back = paste_back(photo, face, crop_face(photo, face, 512))
    assert difference(back, photo) < 0.3
    assert paste_back(photo, face, drawn[0]).size == (300, 300)


def test_wrong_calls(photo: Image.Image) -> None:
    (face,) = find_faces(photo)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        crop_face(photo, face, 0)
    with pytest.raises(ValueError, match="must be square, not 20x10"):
        paste_back(photo, face, Image.new("RGB", (20, 10)))
    spot = Face(np.full((68, 2), 5.0), face.box, 0.0)
    with pytest.raises(ValueError, match="on one spot"):
        crop_face(photo, spot, 16)
    with pytest.raises(ValueError, match="on one spot"):
        paste_back(photo, spot, photo.crop((0, 0, 9, 9)))


def test_photos_give_the_crops_of_the_original_recipe(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampled bilinearly as there, crops are the recipe's within 1 of 255; ours are sharper."""
    folder = shared / "fixtures" / "align"
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    ours: list[float] = []
    bilinear: list[float] = []
    returned: list[float] = []

    def sample(image: Image.Image, matrix: np.ndarray, size: tuple[int, int]) -> Image.Image:
        data = tuple(matrix.flatten().tolist())
        return image.transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)

    for name, facts in expected.items():
        with Image.open(shared / "photos" / name) as opened:
            photo = opened.convert("RGB")
        for expected_face in facts["faces"]:
            face = Face(np.array(expected_face["landmarks"], float), (0, 0, 0, 0), 0.0)
            with Image.open(folder / Path(expected_face["crop"]).name) as opened:
                reference = opened.convert("RGB")
            ours.append(difference(crop_face(photo, face, 256), reference))
            with monkeypatch.context() as patch:
                patch.setattr(crop, "_warp", sample)
                bilinear.append(difference(crop_face(photo, face, 256), reference))
            side = max(256, int(1.5 * Frame.of(face).size))
            back = paste_back(photo, face, crop_face(photo, face, side))
            points = face.landmarks[17:]
            box = (*points.min(0).astype(int).tolist(), *points.max(0).astype(int).tolist())
            returned.append(difference(back.crop(box), photo.crop(box)))
    assert len(ours) > 70
    assert np.mean(ours) < 2
    assert max(ours) < 5.5
    assert np.mean(np.array(ours) < 3) > 0.9
    assert max(bilinear) < 1
    assert max(returned) < 1
