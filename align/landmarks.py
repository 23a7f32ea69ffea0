"""Photo -> faces with 68 landmarks, by dlib's detectors and landmark model.

dlib's detectors see upright faces of at least 80 pixels in what they search. So a photo is searched
enlarged, the more the smaller it is; a photo in which nothing is found is searched once more with a
margin and turned. All searches are bounded in size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from typing import Literal

import dlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

Detector = Literal["frontal", "cnn"]

SEARCHES = ((1, 4_200_000, 4_200_000), (2, 600_000, 2_100_000), (3, 0, 330_000))
"""How often the photo is doubled, for at most how many pixels, and if no face is found yet.

A photo with more pixels than the first of these is shrunk to it. With one doubling faces are found
whose box is 40 pixels wide, with two 20, with three 10. The box is about half of an FFHQ frame.
"""
CNN_PIXELS = 250_000
"""What the CNN searches, doubled once: it takes about five seconds for that on one core."""
FRAME_SIDE, FRAME_TIMES = 256, 8
"""The shorter side to which a small frame of a film is enlarged, but at most so many times."""
FRAME_PIXELS = 600_000
"""What is searched of a frame at once; a larger one is shrunk to it."""
TURNED_PIXELS = 120_000
"""What is searched turned, doubled once; a smaller photo is enlarged up to four times."""
TURNED_SIDE = 1000
"""The longest side of that, since a panorama that is turned needs a large canvas."""
TURNS = (0, 45, -45, 90, -90, 135, -135, 180)
"""Degrees by which a photo without any upright face is turned; the detector bears about 30."""
MARGIN = 0.25
"""Of each side, added by repeating the border before turning: it helps with faces that are cut."""
MIN_SCORE = 0.2
"""dlib's own threshold is 0; what lies between is hardly ever a face."""
MIN_TURNED_SCORE = 0.5
"""Eight searches are eight times as often wrong."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo.

    Attributes:
        landmarks: [68, 2] x and y in the upright photo, in pixels; (0, 0) is the centre of the
            first pixel. dlib's (iBUG's) order: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47,
            mouth 48-67, left and right as seen in the picture.
        box: left, top, right and bottom of what the detector took for a face, brows to chin.
        score: the detector's; larger is surer.
    """

    landmarks: Float[np.ndarray, "68 2"]
    box: tuple[float, float, float, float]
    score: float

    @property
    def width(self) -> float:
        """Of the box, in pixels."""
        return self.box[2] - self.box[0]


def upright(photo: Image.Image) -> Image.Image:
    """The photo as people see it: turned as its EXIF says, RGB."""
    return ImageOps.exif_transpose(photo).convert("RGB")


def find_faces(photo: Image.Image, detector: Detector = "frontal") -> list[Face]:
    """All faces that the detector finds, largest box first.

    Where no face is upright, turned ones are looked for. Strongly turned faces beside an upright
    one are not found.

    Faces of which the first search (the photo doubled once, dlib's usual call) is sure have dlib's
    whole-numbered landmarks. Landmarks of smaller and turned faces are taken on an enlarged,
    upright cut, so they lie between pixels.

    Args:
        photo: any mode; turned as its EXIF says before anything else.
        detector: `cnn` looks also for profiles and covered faces. It takes seconds, and sees no
            face that is narrower than about a twelfth of the photo's side.
    """
    image = upright(photo)
    found = _upright_faces(image)
    if detector == "cnn":
        _add(found, _cnn_faces(image))
    if not found:
        _add(found, sorted(_turned_faces(image), key=lambda face: -face.score))
    return sorted(found, key=lambda face: -face.width)


def find_upright(frame: Image.Image) -> list[Face]:
    """The upright faces of a film's frame, largest box first, in a fraction of the time.

    Smaller faces are looked for only where there is no larger one. Landmarks of small frames are
    taken on them enlarged: faces are found whose FFHQ frame is 16 pixels wide.
    """
    image = upright(frame)
    most = min(FRAME_TIMES, max(1.0, FRAME_SIDE / min(image.size)))
    searched, factor = _bounded(image, FRAME_PIXELS, most)
    pixels, found = np.asarray(searched), list[Face]()
    for doublings in (1, 2):
        boxes, scores, _ = _frontal().run(pixels, doublings, MIN_SCORE)
        for box, score in zip(boxes, scores, strict=True):
            points = (_landmarks(pixels, _corners(box, 1)) + 0.5) / factor - 0.5
            _add(found, [Face(points, _corners(box, factor), score)])
        if found:
            break
    return sorted(found, key=lambda face: -face.width)


def _upright_faces(image: Image.Image) -> list[Face]:
    found: list[Face] = []
    for doublings, limit, limit_if_none in SEARCHES:
        most = limit if found else limit_if_none
        if doublings > 1 and image.width * image.height > most:
            break
        searched, factor = _bounded(image, most)
        boxes, scores, _ = _frontal().run(np.asarray(searched), doublings, MIN_SCORE)
        for box, score in zip(boxes, scores, strict=True):
            corners = _corners(box, factor)
            if doublings == 1:
                points = _landmarks(np.asarray(image), corners)
            else:
                points = _landmarks_turned(image, corners, 0)
            _add(found, [Face(points, corners, score)])
    return found


def _cnn_faces(image: Image.Image) -> list[Face]:
    searched, factor = _bounded(image, CNN_PIXELS)
    faces = [
        (_corners(one.rect, factor), one.confidence) for one in _cnn()(np.asarray(searched), 1)
    ]
    pixels = np.asarray(image)
    return [Face(_landmarks(pixels, box), box, score) for box, score in faces]


def _turned_faces(image: Image.Image) -> Iterator[Face]:
    small, factor = _bounded(image, TURNED_PIXELS, min(4, TURNED_SIDE / max(image.size)))
    wide, high = (round(MARGIN * side) for side in small.size)
    pixels = np.pad(np.asarray(small), ((high, high), (wide, wide), (0, 0)), "edge")
    padded = Image.fromarray(pixels)
    for degrees in TURNS:
        turned = padded.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        boxes, scores, _ = _frontal().run(np.asarray(turned), 1, MIN_TURNED_SCORE)
        for box, score in zip(boxes, scores, strict=True):
            left, top, right, bottom = _corners(box, 1)
            # Around the middle of both pictures, back into the photo.
            centre = np.array([left + right + 1, top + bottom + 1]) / 2 - np.array(turned.size) / 2
            centre = (_rotation(degrees) @ centre + np.array(small.size) / 2) / factor
            x, y = (centre - 0.5).tolist()
            half = (right - left) / 2 / factor
            corners = (x - half, y - half, x + half, y + half)
            yield Face(_landmarks_turned(image, corners, degrees), corners, score)


def _add(found: list[Face], more: Iterable[Face]) -> None:
    """Add the faces that are not there yet."""
    for face in more:
        if not any(_same(face, other) for other in found):
            found.append(face)


def _rotation(degrees: float) -> Float[np.ndarray, "2 2"]:
    """From a picture turned counter-clockwise by so much back to the picture, y pointing down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def _landmarks(
    pixels: UInt8[np.ndarray, "h w 3"], corners: tuple[float, float, float, float]
) -> Float[np.ndarray, "68 2"]:
    left, top, right, bottom = (round(value) for value in corners)
    points = _predictor()(pixels, dlib.rectangle(left, top, right, bottom)).parts()
    return np.array([(point.x, point.y) for point in points], float)


def _landmarks_turned(
    image: Image.Image, corners: tuple[float, float, float, float], degrees: float
) -> Float[np.ndarray, "68 2"]:
    """Landmarks on a cut around the box that is turned counter-clockwise, and large enough."""
    side, box = 480, (160.0, 160.0, 320.0, 320.0)
    scale = (corners[2] - corners[0]) / (box[2] - box[0])
    matrix = _rotation(degrees) * scale
    centre = np.array([corners[0] + corners[2], corners[1] + corners[3]]) / 2 + 0.5
    shift = centre - matrix @ np.array([side / 2, side / 2])
    (a, b), (d, e) = matrix
    data = (a, b, shift[0], d, e, shift[1])
    cut = image.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    points = _landmarks(np.asarray(cut), box)
    return (points + 0.5) @ matrix.T + shift - 0.5


def _bounded(image: Image.Image, limit: int, most: float = 1) -> tuple[Image.Image, float]:
    """The picture with at most so many pixels, and by how much it was shrunk or enlarged."""
    factor = min(math.sqrt(limit / (image.width * image.height)), most)
    if factor == 1:
        return image, 1.0
    size = max(round(image.width * factor), 1), max(round(image.height * factor), 1)
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0), factor


def _corners(box: dlib.rectangle, factor: float) -> tuple[float, float, float, float]:
    if factor == 1:
        return float(box.left()), float(box.top()), float(box.right()), float(box.bottom())
    values = (box.left(), box.top(), box.right(), box.bottom())
    left, top, right, bottom = ((value + 0.5) / factor - 0.5 for value in values)
    return left, top, right, bottom


def _same(one: Face, other: Face) -> bool:
    """Whether the middle of one of two boxes lies in the middle half of the other."""
    (x, y), (u, v) = (
        ((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in (one, other)
    )
    return max(abs(x - u), abs(y - v)) < max(one.width, other.width) / 4


@cache
def _frontal() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


@cache
def _cnn() -> dlib.cnn_face_detection_model_v1:
    return dlib.cnn_face_detection_model_v1(_model("mmod_human_face_detector.dat"))


@cache
def _predictor() -> dlib.shape_predictor:
    return dlib.shape_predictor(_model("shape_predictor_68_face_landmarks.dat"))


def _model(name: str) -> str:
    """A dlib model file of face_recognition_models, which cannot be imported any more.

    `stylegan/evaluate.py` has the same two lines, since neither package knows the other.
    """
    package = "face_recognition_models"
    return str(distribution(package).locate_file(f"{package}/models/{name}"))
