"""What a person says of the film that he wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from pulse.imaging.encoding import Codec
from pulse.imaging.pictures import InputError, setting
from pulse.search import SearchConfig
from pulse.superres.pictures import PictureConfig
from pulse.upscale import UpscaleConfig
from stylegan import EMBEDDED

Panels: TypeAlias = Literal["none", "side-by-side", "compare"]
"""Whether the film is of its own frames, or of two or four panels that compare them."""


class Cut(NamedTuple):
    """What of a film is taken, in seconds; None is from its beginning and to its end.

    What is negative counts from the end, once `seconds`, the length of the film, is known.
    """

    start: float | None = None
    end: float | None = None

    def of(self, seconds: float | None) -> Cut:
        """The same with nothing negative.

        Raises:
            InputError: the end of the film is not known, or nothing lies between the two.
        """
        known = 0.0 if seconds is None else seconds
        if seconds is None and min(self.start or 0, self.end or 0) < 0:
            raise InputError("The film does not say how long it is; count from its beginning.")
        start, end = (x if x is None or x >= 0 else max(0.0, known + x) for x in self)
        if end is not None and end <= (start or 0):
            raise InputError(
                f"{setting('end')} is at {end:g} s and has to be later than {setting('start')}, "
                f"which is at {start or 0:g} s."
            )
        return Cut(start, end)


@dataclass(frozen=True)
class FaceConfig:
    """How the faces of a film are searched for.

    Attributes:
        generator: name or file of what draws them.
        seed: of the first candidate.
        candidates: searched for where a face first shows, of which the nearest goes on.
        search: how, but for that weight.
        hold: weight of the departure from the frame before, as in `SearchConfig`.
        label: whether a corner of each frame says that the faces are imaginary.
    """

    generator: str = EMBEDDED
    seed: int = UpscaleConfig.seed
    candidates: int = UpscaleConfig.candidates
    search: SearchConfig = field(default_factory=SearchConfig)
    hold: float = 1.0
    label: bool = True


@dataclass(frozen=True)
class FilmConfig:
    """How a film is made of a film.

    Attributes:
        picture: how each frame is upscaled.
        faces: how its faces are searched for; None leaves them to the network.
        codec: None is the usual one of the kind of film.
        crf: see `Encoding`.
        fps: frames a second of a folder of pictures; None is 25, or what its time codes say.
        drop: whether tracks are left out that the new film cannot hold.
        tone_map: whether high dynamic range is made what a common screen can show.

    Raises:
        InputError: these cannot be.
    """

    picture: PictureConfig = field(default_factory=PictureConfig)
    faces: FaceConfig | None = None
    panels: Panels = "none"
    cut: Cut = field(default_factory=Cut)
    codec: Codec | None = None
    crf: float | None = None
    fps: Fraction | None = None
    drop: bool = False
    tone_map: bool = False

    def __post_init__(self) -> None:
        if self.faces is not None and self.panels == "compare":
            raise InputError(
                f"{setting('compare')} is for networks; give {setting('side_by_side')} with "
                f"{setting('network')} pulse."
            )
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"{setting('fps')} has to be between 0 and 1000, for instance 25.")
