"""Photo -> where its faces are: FFHQ's frame around each that is found, or the picture as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from align import Detector, Frame, crop_face, paste_back
from align import Face as Found
from align import find_faces as find_in_photo
from pulse.imaging.pictures import InputError, Picture, setting

Align = Literal["auto", "always", "never"]

SMALL = 64
"""A picture whose shorter side has at most this many pixels is taken as a low-resolution face."""
MIN_LR_SIZE = 4
MAX_CUT = 512
"""Side in pixels of the largest cut, unless more is asked for: what is matched is far smaller."""
NEAR = 0.1
"""A picture is framed like FFHQ if no corner of a face's frame is further off, in its sides."""
OBLONG = 4
"""A picture whose one side is more than so many times the other is not a face that was cut out."""
HALF = 0.5
"""Share below which more of the frame is made up than is seen, which no search could match well."""
WHOLE = 0.9
"""Share of a frame that has to lie in the picture for it to go without saying."""
MAX_FIT = 160
"""Side in pixels at which the resolution of a picture is estimated."""
MAX_BLOCKS = 512
"""The same for pixelated pictures, whose edges have to stay sharp."""
SMOOTH = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
PHASES = tuple(eighths / 8 for eighths in range(-4, 4))
LOST = 1e-4
"""Detail, as a mean squared error on [0, 1], that is not counted as resolution: a tenth of the
default tolerance, so it could not matter to a search."""


@dataclass(frozen=True)
class Framing:
    """Where in a picture one face is.

    Attributes:
        index: the face's number, 0 for the largest.
        found: what the detector found, None if it was not asked or found nothing.
        square: left, top and side in pixels of the part of the picture that is used as it is; None
            if the face is cut out in its FFHQ frame.
        notes: what was found and done, one sentence each.
    """

    index: int
    found: Found | None
    square: tuple[int, int, int] | None
    detector: Detector = "frontal"
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> Frame:
        if self.square is not None:
            left, top, side = self.square
            return Frame((left + side / 2, top + side / 2), (side / 2, 0.0))
        assert self.found is not None
        return Frame.of(self.found)

    @property
    def side(self) -> int:
        """How many of the picture's pixels lie along one side of the frame."""
        return int(self.frame.size) if self.square is None else self.square[2]

    def inside(self, image: Image.Image) -> float:
        """Share of the frame that lies in the picture; the rest is mirrored."""
        return float(self.frame.in_photo(image.size).mean())

    def cut(self, image: Image.Image, size: int = 0) -> Image.Image:
        """The framed face, of `size` pixels or more if it has them.

        It is not resampled where the picture is used as it is.
        """
        if self.square is not None:
            left, top, side = self.square
            return image.crop((left, top, left + side, top + side))
        assert self.found is not None
        return crop_face(image, self.found, min(self.side, max(MAX_CUT, size)))

    def resolution(self, image: Image.Image, most: int) -> int:
        """How many pixels per side the frame really holds, at most so many.

        It is estimated on an upright square around its middle, since what was enlarged was
        enlarged along the picture's own axes.
        """
        side = min(self.side, *image.size)
        x, y = (
            min(max(round(middle - side / 2), 0), length - side)
            for middle, length in zip(self.frame.centre, image.size, strict=True)
        )
        held = own_resolution(image.crop((x, y, x + side, y + side)), most)
        return max(min(int(held * self.side / side), most), MIN_LR_SIZE)

    def paste(self, image: Image.Image, new: Image.Image) -> Image.Image:
        """The picture with a new face in the frame; only where a face was found."""
        assert self.found is not None
        return paste_back(image, self.found, new, self.frame)

    def record(self) -> dict[str, Any] | None:
        """What is needed to frame the face again; None if the picture is used as it is."""
        if self.square is not None or self.found is None:
            return None
        return {"detector": self.detector, **describe(self.found)}


def describe(found: Found) -> dict[str, Any]:
    """A face as JSON: detector's box and score, and the corners of its frame in FFHQ's order.

    The corners are top left, bottom left, bottom right and top right, in pixels of the upright
    picture, where (0, 0) is the corner of the first pixel.
    """
    return {
        "box": [round(value, 2) for value in found.box],
        "score": round(found.score, 3),
        "quad": Frame.of(found).quad.round(3).tolist(),
    }


def find_framings(
    picture: Picture,
    name: str = "The picture",
    align: Align = "auto",
    detector: Detector = "frontal",
) -> list[Framing]:
    """Where the faces of a picture are, largest first.

    Args:
        align: `never` takes the picture, or the square in its middle, as one framed face; `always`
            looks for faces in any picture; `auto` takes small square pictures as they are, looks
            for faces in others, and takes those that show none as they are if they are small or
            square. What is already framed like FFHQ is never resampled, but with `always`.
        name: what messages call the picture.

    Raises:
        InputError: no face was found where one is needed, or the picture is a strip.
    """
    image = picture.image
    side = min(image.size)
    oblong = image.width != image.height
    middle = ((image.width - side) // 2, (image.height - side) // 2, side)
    cropped = f"It is not square; the {side}x{side} pixels in the middle are used."
    as_it_is = (cropped,) if oblong else ()
    small = side <= SMALL
    if side < MIN_LR_SIZE or align == "never" or (align == "auto" and small and not oblong):
        _check_shape(image, name)
        return [Framing(0, None, middle, detector, as_it_is)]
    faces = find_in_photo(image, detector)
    faces = [face for face in faces if Frame.of(face).size >= MIN_LR_SIZE]
    if not faces and (align == "always" or (oblong and not small)):
        other = "" if detector == "cnn" else f", try {setting('detector')} cnn,"
        raise InputError(
            f"No face was found in {name} ({image.width}x{image.height} pixels): crop it to a "
            f"square around one face{other} or use it as it is with {setting('align')} never."
        )
    if not faces:
        _check_shape(image, name)
        nothing = "No face was found in it; it is taken as one face, framed like FFHQ's."
        return [Framing(0, None, middle, detector, (nothing, *as_it_is))]
    framings = []
    for index, face in enumerate(faces):
        if align == "auto" and _near(Frame.of(face), middle):
            framings.append(Framing(index, face, middle, detector, as_it_is))
        else:
            notes = _notes(Frame.of(face), image)
            framings.append(Framing(index, face, None, detector, notes))
    return framings


def _check_shape(image: Image.Image, name: str) -> None:
    """Refuse to take a strip as a face; what is too small is refused where it is cut."""
    short, long = sorted(image.size)
    if short >= MIN_LR_SIZE and long > OBLONG * short:
        raise InputError(
            f"{name} is a strip of {image.width}x{image.height} pixels, which no face fills: crop "
            "it to a square around one face."
        )


def _near(frame: Frame, square: tuple[int, int, int]) -> bool:
    left, top, side = square
    corners = np.array([left, top]) + side * np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    return bool(np.abs(frame.quad - corners).max() <= NEAR * side)


def _notes(frame: Frame, image: Image.Image) -> tuple[str, ...]:
    inside = frame.in_photo(image.size).mean()
    if inside >= WHOLE:
        return ()
    return (
        f"{1 - inside:.0%} of the frame around the face lies outside the picture and was filled by "
        "mirroring it; a picture with more space around the head would be matched better.",
    )


def choose(
    framings: Sequence[Framing], face: Literal["largest", "all"] | int, name: str = "The picture"
) -> list[Framing]:
    """The faces that were asked for, of those that were found.

    Raises:
        InputError: there is no face of that number.
    """
    if face == "all":
        return list(framings)
    index = 0 if face == "largest" else face
    if not 0 <= index < len(framings):
        found = "one face, number 0" if len(framings) == 1 else f"faces 0 to {len(framings) - 1}"
        raise InputError(
            f"{name} has no face {face}, it has {found}: {setting('show_faces')} draws their "
            "numbers."
        )
    return [framings[index]]


def draw_faces(image: Image.Image, framings: Sequence[Framing]) -> Image.Image:
    """The picture, no larger than 1600 pixels, with numbered boxes and FFHQ frames."""
    sheet = image.copy()
    sheet.thumbnail((1600, 1600))
    scale = sheet.width / image.width
    draw = ImageDraw.Draw(sheet)
    width = max(round(max(sheet.size) / 400), 1)
    font = ImageFont.load_default(max(max(sheet.size) / 40, 10))
    for framing in framings:
        corners = [(x * scale, y * scale) for x, y in framing.frame.quad.tolist()]
        draw.polygon(corners, outline="white", width=width)
        box = None if framing.found is None else framing.found.box
        place = corners[0]
        if box is not None:
            left, top, right, bottom = ((value + 0.5) * scale for value in box)
            draw.rectangle((left, top, right, bottom), outline="yellow", width=width)
            place = (left, top)
        label = draw.textbbox(place, str(framing.index), font)
        draw.rectangle((label[0] - 2, label[1] - 2, label[2] + 2, label[3] + 2), fill="black")
        draw.text(place, str(framing.index), "yellow", font)
    return sheet


def own_resolution(image: Image.Image, most: int = SMALL) -> int:
    """How many pixels per side a square picture really holds; `most` if more.

    A picture of l x l pixels that was enlarged lies in the span of l kernels along each axis, so
    for each l, from the smallest, the picture is fitted by least squares with enlargements of l x l
    pixels: bicubic and bilinear ones, shifted by eighths of a pixel, since a cut need not begin
    where a pixel does, and pixelated ones. The answer is the first l whose fit misses, for each
    dimension that it leaves out, no more than `LOST` and the noise, as estimated from the finest
    diagonal differences (Donoho and Johnstone 1994: median / 0.6745). Blur, which no fit can tell
    from enlargement, lowers it too.
    """
    smooth, blocks = _grey(image, MAX_FIT), _grey(image, MAX_BLOCKS)
    enough, enough_blocks = LOST + _noise(smooth), LOST + _noise(blocks)
    for size in range(MIN_LR_SIZE, min(image.width, most)):
        missed = min(_missed(smooth, size, kernel) for kernel in SMOOTH)
        if missed <= enough or _missed_by_blocks(blocks, size) <= enough_blocks:
            return size
    return min(image.width, most)


def _grey(image: Image.Image, most: int) -> Float[np.ndarray, "s s"]:
    side = min(image.width, most)
    if side < image.width:
        image = image.resize((side, side), Image.Resampling.BOX)
    return np.asarray(image.convert("L"), np.float32) / 255


def _noise(grey: Float[np.ndarray, "s s"]) -> float:
    """Variance of white noise in a picture."""
    even = grey[: len(grey) // 2 * 2, : len(grey) // 2 * 2]
    fine = even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]
    return float(np.square(np.median(np.abs(fine)) / 2 / 0.6745)) if fine.size else 0.0


def _missed(grey: Float[np.ndarray, "s s"], size: int, kernel: Image.Resampling) -> float:
    """Squared error of the best enlargement of `size` pixels, per dimension that it leaves out."""
    bases = [_basis(len(grey), size, kernel, phase) for phase in PHASES]
    # Each axis has its own best shift.
    rows = max((basis.T @ grey for basis in bases), key=lambda part: np.square(part).sum())
    kept, columns = max((np.square(rows @ basis).sum(), basis.shape[1]) for basis in bases)
    left_out = grey.size - len(rows) * columns
    return float(np.square(grey).sum() - kept) / left_out if left_out > 0 else 1.0


def _basis(
    side: int, size: int, kernel: Image.Resampling, phase: float
) -> Float[np.ndarray, "side k"]:
    """Orthonormal columns that span what `size` pixels can become when enlarged to `side`."""
    spare = size + 2  # One pixel on either side reaches into the picture.
    box = (0, 1 + phase, spare, 1 + phase + size)
    pixels = Image.fromarray(np.eye(spare, dtype=np.float32)).resize((spare, side), kernel, box=box)
    columns = np.asarray(pixels, np.float64)
    return np.linalg.qr(columns[:, np.abs(columns).sum(0) > 1e-3])[0]


def _missed_by_blocks(grey: Float[np.ndarray, "s s"], size: int) -> float:
    image = Image.fromarray(grey)
    low = image.resize((size, size), Image.Resampling.BOX)
    blocks = np.asarray(low.resize(image.size, Image.Resampling.NEAREST))
    return float(np.square(grey - blocks).mean()) / (1 - (size / len(grey)) ** 2)
