"""Picture -> faces as small as they are matched: the one way in for every front end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from align import Detector, Face, crop_face
from pulse.faces.framing import (
    HALF,
    MAX_CUT,
    MIN_LR_SIZE,
    SMALL,
    Align,
    Framing,
    choose,
    find_framings,
)
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, Picture, setting, to_tensor

FLAT = 0.01
"""Standard deviation along each colour, on [0, 1], below which a picture shows nothing."""
LR_SIZE = 16
"""Size to which larger pictures are downscaled unless another is asked for."""


@dataclass(frozen=True)
class FaceSettings:
    """Which faces of a picture to match, and at what size.

    Attributes:
        lr_size: side in pixels at which to match; None takes the size of a small picture as it is
            and downscales larger ones to 16; "auto" takes what the pixels hold, at most 64. A face
            that is cut out of a small picture is matched at what its pixels hold in either case,
            but at 16 where most of its frame lies outside the picture.
        degrade: what happened to the picture; None is plain bicubic, in grey if the picture is.
        which: faces by number, the largest being 0.
        align, detector: as in `find_framings`.
        find_grey: whether a grey picture is matched in grey though `degrade` does not say so.
    """

    lr_size: int | Literal["auto"] | None = None
    degrade: DegradeConfig | None = None
    which: Literal["largest", "all"] | int = "largest"
    align: Align = "auto"
    detector: Detector = "frontal"
    find_grey: bool = False


@dataclass(frozen=True)
class LRFace:
    """A face to be matched.

    Attributes:
        index: its number in the picture.
        low: [3, l, l] in [0, 1], what the candidates have to downscale to; NaN where it is ignored.
        notes: what was done to get it, one sentence each.
        degrade: how the candidates have to be downscaled.
        framing: where in the picture it is; None if it comes from elsewhere.
        detail: side in pixels of a picture that told as much; None is its own.
    """

    index: int
    low: Float[Tensor, "3 l l"]
    notes: tuple[str, ...] = ()
    degrade: DegradeConfig = field(default_factory=DegradeConfig)
    framing: Framing | None = None
    detail: int | None = None


Refuse = Callable[[Framing, InputError], None]


def prepare(
    picture: Picture,
    settings: FaceSettings,
    resolution: int,
    name: str = "The picture",
    framings: Sequence[Framing] | None = None,
    refuse: Refuse | None = None,
) -> list[LRFace]:
    """The chosen faces of a picture, as small as they will be matched.

    Args:
        resolution: of the generator, which is the largest size that can be matched.
        name: what messages call the picture.
        framings: those to take, if faces were looked for and chosen before.
        refuse: told of each face that cannot be used while the others go on; None raises.

    Raises:
        InputError: the picture, or a face of it, cannot be used like that.
    """
    if framings is None:
        found = find_framings(picture, name, settings.align, settings.detector)
        framings = choose(found, settings.which, name)
    faces: list[LRFace] = []
    for framing in framings:
        try:
            faces.append(_cut(picture, settings, resolution, name, framing))
        except InputError as error:
            if refuse is None:
                raise
            refuse(framing, error)
    return faces


def cut_out(image: Image.Image, face: Face, size: int, *, index: int, largest: float) -> LRFace:
    """A face of a film's frame at the size at which it is matched, whatever its frame has.

    It is in grey if the picture is.

    Args:
        largest: side in pixels that its frame has at most along the film. The face is sampled as
            finely everywhere: else a side about a whole number would make the crop jump.
    """
    crop = crop_face(image, face, max(size, min(math.ceil(largest), MAX_CUT)))
    pixels = to_tensor(crop.resize((size, size), Image.Resampling.BICUBIC))
    degrade = DegradeConfig(grey=bool((pixels == pixels[:1]).all()))
    framing = Framing(index, face, None)
    return LRFace(index, degrade.target(pixels), (), degrade, framing)


def _cut(
    picture: Picture, settings: FaceSettings, resolution: int, name: str, framing: Framing
) -> LRFace:
    side, notes = framing.side, [*picture.notes, *framing.notes]
    if framing.square is None:
        name = f"The frame around face {framing.index} of {name}"
    if side < MIN_LR_SIZE:
        raise InputError(
            f"{name} has {picture.image.width}x{picture.image.height} pixels, too few "
            f"to tell a face; at least {MIN_LR_SIZE}x{MIN_LR_SIZE} are needed."
        )
    small, size = min(picture.image.size) <= SMALL, settings.lr_size
    if size is None and framing.square is None and framing.inside(picture.image) < HALF:
        size = min(LR_SIZE, side)
        notes.append(f"It is matched at {size}x{size} pixels, since most of its frame is made up.")
    elif size == "auto" or (size is None and small and framing.square is None):
        most = min(SMALL, resolution)
        size = framing.resolution(picture.image, most)
        held = "no less" if size == most else "about that"
        notes.append(f"It is matched at {size}x{size} pixels, its own hold {held}.")
    elif size is None:
        size = side if small else min(LR_SIZE, side)
    if size > side:
        raise InputError(
            f"{name} has only {side}x{side} pixels and cannot be matched at {size}: leave out "
            f"{setting('lr_size')} or give a smaller one."
        )
    if size > resolution:
        raise InputError(
            f"{name} would be matched at {size} pixels, but the generator draws only {resolution}: "
            f"give {setting('lr_size')} {LR_SIZE} or another generator."
        )
    image, degrade = framing.cut(picture.image, size), settings.degrade
    # Pillow's filters are those of `degrade`, on 8 bits and without a large picture as floats.
    box = degrade is not None and degrade.resampling == "box"
    low = image.resize((size, size), Image.Resampling.BOX if box else Image.Resampling.BICUBIC)
    pixels = to_tensor(low)
    if pixels.flatten(1).std(1, correction=0).max() < FLAT:
        raise InputError(
            f"{name} is of one colour where the face should be, so there is nothing to match: give "
            "a picture that shows a face."
        )
    grey = bool((pixels == pixels[:1]).all())
    if degrade is None:
        degrade = DegradeConfig(grey=grey)
        if grey:
            notes.append("It is grey and is matched in grey.")
    elif grey and not degrade.grey:
        if settings.find_grey:
            degrade = replace(degrade, grey=True)
        else:
            notes.append("It is grey but is matched in colour; add grey to degrade if it should.")
    return LRFace(framing.index, degrade.target(pixels), tuple(notes), degrade, framing)
