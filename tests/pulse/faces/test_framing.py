from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pulse.faces.framing import (
    Align,
    Framing,
    choose,
    describe,
    draw_faces,
    find_framings,
    own_resolution,
)
from pulse.faces.prepare import FaceSettings, prepare
from pulse.imaging.pictures import InputError, Picture, read_picture

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.jpg"
HEAD = (110, 0, 340, 230)  # Around the astronaut's head, not framed like FFHQ.


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return read_picture(ASTRONAUT).image


@pytest.fixture(scope="module")
def framed(astronaut: Image.Image) -> Image.Image:
    """The astronaut's face in its FFHQ frame, 160 pixels."""
    (framing,) = find_framings(Picture(astronaut))
    return framing.cut(astronaut).resize((160, 160), Image.Resampling.BICUBIC)


def nothing(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "grey")


def test_a_square_photo_with_a_small_face_is_cut(astronaut: Image.Image) -> None:
    (framing,) = find_framings(Picture(astronaut))
    assert framing.square is None
    assert framing.side == 172
    assert framing.cut(astronaut).size == (172, 172)
    record = framing.record()
    assert record is not None
    assert framing.found is not None
    assert record == {"detector": "frontal", **describe(framing.found)}
    assert record["box"] == [175, 76, 265, 166]
    assert np.array(record["quad"]).shape == (4, 2)
    (face,) = prepare(Picture(astronaut), FaceSettings(), 128)
    assert face.low.shape == (3, 16, 16)
    assert face.framing is not None
    assert face.framing.record() == record
    # The orange suit is not in the frame, the skin is.
    red, _, blue = face.low.mean((1, 2)).tolist()
    assert 0 < red - blue < 0.2


@pytest.mark.parametrize("align", ["auto", "always", "never"])
def test_a_picture_that_is_framed_is_used_as_it_is(framed: Image.Image, align: Align) -> None:
    (framing,) = find_framings(Picture(framed), "it", align)
    if align == "always":
        assert framing.square is None
        assert np.abs(framing.frame.quad[2] - 160).max() < 10
        return
    assert framing.square == (0, 0, 160)
    assert (framing.found is None) == (align == "never")
    assert framing.notes == ()
    assert framing.record() is None
    assert np.array_equal(np.asarray(framing.cut(framed)), np.asarray(framed))


def test_so_is_one_with_bars_beside_it(framed: Image.Image) -> None:
    wide = nothing(240, 160)
    wide.paste(framed, (40, 0))
    (framing,) = find_framings(Picture(wide))
    assert framing.square == (40, 0, 160)
    assert framing.notes == ("It is not square; the 160x160 pixels in the middle are used.",)


def test_small_squares_are_searched_only_on_demand(framed: Image.Image) -> None:
    low = framed.resize((48, 48), Image.Resampling.BICUBIC)
    (framing,) = find_framings(Picture(low))
    assert framing == Framing(0, None, (0, 0, 48))
    (framing,) = find_framings(Picture(low), align="always")
    assert framing.found is not None


def test_a_small_cut_is_framed_and_matched_at_what_it_holds(astronaut: Image.Image) -> None:
    cut = astronaut.crop((120, 0, 340, 290)).resize((60, 79), Image.Resampling.BICUBIC)
    (face,) = prepare(Picture(cut), FaceSettings(), 128)
    assert face.framing is not None
    assert face.framing.square is None
    assert face.framing.side == pytest.approx(172 * 60 / 220, abs=3)
    assert 0.6 * face.framing.side < face.low.shape[-1] <= face.framing.side
    size = face.low.shape[-1]
    assert face.notes == (f"It is matched at {size}x{size} pixels, its own hold about that.",)
    # The same cut enlarged holds no more.
    large = cut.resize((240, 316), Image.Resampling.BICUBIC)
    (face,) = prepare(Picture(large), FaceSettings("auto"), 128)
    assert face.framing is not None
    assert face.framing.side > 160
    assert 36 <= face.low.shape[-1] <= 48
    (face,) = prepare(Picture(large), FaceSettings(), 128)
    assert face.low.shape[-1] == 16


def test_a_face_whose_frame_is_mostly_mirrored_is_matched_at_16(astronaut: Image.Image) -> None:
    """At the 64 pixels that the rest would hold, no candidate can match what is mirrored."""
    box = (179.0, 53.0, 261.0, 188.0)
    cut = astronaut.resize((40, 60), Image.Resampling.BICUBIC, box)
    (framing,) = find_framings(Picture(cut))
    assert framing.inside(cut) < 0.4
    (face,) = prepare(Picture(cut), FaceSettings(), 128)
    assert face.low.shape[-1] == 16
    assert face.notes[-1] == "It is matched at 16x16 pixels, since most of its frame is made up."
    (face,) = prepare(Picture(cut), FaceSettings("auto"), 128)
    assert face.low.shape[-1] > 40


def test_without_a_face() -> None:
    (framing,) = find_framings(Picture(nothing(200, 200)))
    assert framing.square == (0, 0, 200)
    said = "No face was found in it; it is taken as one face, framed like FFHQ's."
    assert framing.notes == (said,)
    (framing,) = find_framings(Picture(nothing(60, 80)))
    assert framing.square == (0, 10, 60)
    assert framing.notes[0] == said
    assert "the 60x60 pixels in the middle" in framing.notes[1]
    (framing,) = find_framings(Picture(nothing(200, 150)), align="never")
    assert framing.square == (25, 0, 150)
    message = r"No face was found in it \(200x150 pixels\): crop it .* align never"
    with pytest.raises(InputError, match=message):
        find_framings(Picture(nothing(200, 150)), "it")
    with pytest.raises(InputError, match=r"No face was found in it .*detector cnn"):
        find_framings(Picture(nothing(16, 16)), "it", "always")


def test_a_tight_crop_is_said_to_be_one(astronaut: Image.Image) -> None:
    tight = astronaut.crop((170, 70, 275, 175)).resize((300, 300), Image.Resampling.BICUBIC)
    (framing,) = find_framings(Picture(tight))
    assert framing.square is None
    (note,) = framing.notes
    assert "of the frame around the face lies outside the picture" in note
    assert 40 < int(note.split("%")[0]) < 80
    assert framing.cut(tight).size == (framing.side, framing.side)


def test_choosing(astronaut: Image.Image) -> None:
    pair = nothing(640, 300)
    head = astronaut.crop(HEAD)
    pair.paste(head, (20, 20))
    pair.paste(head.resize((150, 150), Image.Resampling.BICUBIC), (400, 60))
    framings = find_framings(Picture(pair))
    assert [framing.index for framing in framings] == [0, 1]
    assert framings[0].side > framings[1].side
    assert choose(framings, "largest") == framings[:1]
    assert choose(framings, "all") == framings
    assert choose(framings, 1) == framings[1:]
    with pytest.raises(InputError, match="it has no face 2, it has faces 0 to 1: show_faces"):
        choose(framings, 2, "it")
    faces = prepare(Picture(pair), FaceSettings(16), 128, "it", framings)
    assert [face.index for face in faces] == [0, 1]
    assert (faces[0].low - faces[1].low).abs().mean() < 0.05
    shown = draw_faces(pair, framings)
    assert shown.size == pair.size
    left, top, right, _ = (round(value) for value in describe_box(framings[1]))
    assert shown.getpixel(((left + right) // 2, top)) == (255, 255, 0)
    with pytest.raises(InputError, match=r"The frame around face 1 of it has only .* at 120"):
        prepare(Picture(pair), FaceSettings(120), 128, "it", framings)


def describe_box(framing: Framing) -> list[float]:
    assert framing.found is not None
    return describe(framing.found)["box"]


def test_pasting_into_the_picture(astronaut: Image.Image, framed: Image.Image) -> None:
    (framing,) = find_framings(Picture(astronaut))
    pasted = framing.paste(astronaut, framed)
    apart = np.abs(np.asarray(pasted, float) - np.asarray(astronaut, float))
    assert apart[100:160, 190:250].mean() < 3
    assert apart[220:].max() == 0
    # A picture that is its own frame takes a new face where the old one is.
    (own,) = find_framings(Picture(framed))
    pasted = own.paste(framed, framed)
    assert np.abs(np.asarray(pasted, float) - np.asarray(framed, float)).mean() < 0.5


ENLARGED = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST)


@pytest.mark.parametrize("kernel", ENLARGED)
@pytest.mark.parametrize("noise", [0.0, 4.0])
def test_an_enlarged_picture_holds_what_it_was(
    framed: Image.Image, kernel: Image.Resampling, noise: float
) -> None:
    low = framed.resize((20, 20), Image.Resampling.BICUBIC).resize((160, 160), kernel)
    values = np.asarray(low) + np.random.default_rng(0).normal(0, noise, (160, 160, 1))
    seen = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    assert 17 <= own_resolution(seen) <= 20
    if kernel != Image.Resampling.NEAREST:
        # Also where a cut does not begin on one of its pixels.
        part = seen.crop((11, 5, 131, 125))  # 15 of its pixels.
        assert 10 <= own_resolution(part) <= 15


def test_own_resolution_of_sharp_and_of_empty_pictures(framed: Image.Image) -> None:
    sharp = framed.resize((48, 48), Image.Resampling.BICUBIC)
    assert 38 <= own_resolution(sharp) <= 48
    assert own_resolution(framed, 32) == 32
    assert own_resolution(nothing(300, 300)) == 4
    assert own_resolution(nothing(3, 3)) == 3


@pytest.mark.parametrize("size", [(3000, 4), (4, 17), (1000, 60), (60, 1000)])
@pytest.mark.parametrize("align", ["auto", "never"])
def test_a_strip_is_no_face(size: tuple[int, int], align: Align) -> None:
    with pytest.raises(InputError, match=f"is a strip of {size[0]}x{size[1]} pixels"):
        find_framings(Picture(nothing(*size)), "It", align)
    # Four times as long as wide can still be a face with bars beside it.
    (framing,) = find_framings(Picture(nothing(64, 16)), "It", align)
    assert framing.square == (24, 0, 16)


def test_a_face_in_a_strip_is_found(astronaut: Image.Image) -> None:
    strip = nothing(1200, 230)
    strip.paste(astronaut.crop(HEAD), (500, 0))
    (framing,) = find_framings(Picture(strip))
    assert framing.found is not None


@pytest.mark.parametrize("colour", ["white", "black", (12, 200, 90)])
def test_one_colour_is_no_face(colour: str | tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    flat = np.array(Image.new("RGB", (16, 16), colour), int) + rng.integers(-1, 2, (16, 16, 3))
    image = Image.fromarray(flat.clip(0, 255).astype(np.uint8))
    with pytest.raises(InputError, match="It is of one colour where the face should be"):
        prepare(Picture(image), FaceSettings(), 128, "It")


def test_a_dark_face_is_not_of_one_colour(framed: Image.Image) -> None:
    """A twelfth of its light is left."""
    dark = Image.fromarray(np.asarray(framed.resize((16, 16))) // 12)
    (face,) = prepare(Picture(dark), FaceSettings(), 128)
    assert face.low.max() < 0.1
