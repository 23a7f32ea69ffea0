"""How films are coded, and which kinds of film can hold that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pulse.imaging.pictures import InputError, setting


@contextmanager
def needs_pyav(path: Path | None = None) -> Iterator[None]:
    """Around the import of what reads or writes films: PyAV is an extra.

    Args:
        path: what was taken for a film, as it is no picture.

    Raises:
        InputError: it is not here; the message says how to get it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        what = "Films need" if path is None else f"{path} is no picture, and films need"
        raise InputError(f"{what} PyAV: pip install 'pulse-faces[video]' brings it.") from error


Codec: TypeAlias = Literal["h264", "h265", "vp9", "av1", "ffv1"]
ENCODERS: dict[Codec, str] = {
    "h264": "libx264",
    "h265": "libx265",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
}
"""libav's names of what codes them."""
_USUAL_CRF: dict[Codec, float] = {"h264": 17, "h265": 19, "vp9": 24, "av1": 24}
_LARGEST_CRF: dict[Codec, float] = {"h264": 51, "h265": 51, "vp9": 63, "av1": 63}
HOLD: dict[str, tuple[Codec, ...]] = {
    ".mp4": ("h264", "h265", "vp9", "av1"),
    ".m4v": ("h264", "h265"),
    ".mov": ("h264", "h265"),
    ".mkv": ("h264", "h265", "vp9", "av1", "ffv1"),
    ".webm": ("vp9", "av1"),
}
"""Kinds of film that are written, and what each can hold; the first is taken by default."""


@dataclass(frozen=True)
class Encoding:
    """How a film is coded.

    Attributes:
        crf: constant rate factor: 0 is best and largest; None is what shows no loss to the eye.

    Raises:
        InputError: the codec has no such factor.
    """

    codec: Codec = "h264"
    crf: float | None = None

    def __post_init__(self) -> None:
        largest = _LARGEST_CRF.get(self.codec)
        if self.crf is None:
            return
        if largest is None:
            raise InputError(f"{self.codec} loses nothing, so that {setting('crf')} has no sense.")
        if not 0 <= self.crf <= largest:
            raise InputError(
                f"{setting('crf')} cannot be {self.crf:g}; {self.codec} has 0, the best, to "
                f"{largest:g}."
            )

    def options(self) -> dict[str, str]:
        """What the encoder is told."""
        if self.codec == "ffv1":
            return {"level": "3", "slicecrc": "1"}
        crf = _USUAL_CRF[self.codec] if self.crf is None else self.crf
        options = {"crf": f"{crf:g}"}
        match self.codec:
            case "h264":
                options |= {"preset": "medium"}
            case "h265":
                options |= {"preset": "medium", "x265-params": "log-level=none:bframes=0"}
            case "vp9":
                options |= {"b": "0", "cpu-used": "4", "row-mt": "1"}
        return options

    def pixel_format(self, deep: bool) -> str:
        """Half of the colour resolution but where nothing is to be lost, as every player expects.

        An enlarged film has no more than that in its colours.
        """
        sampling = "yuv444p" if self.codec == "ffv1" else "yuv420p"
        return sampling + ("10le" if deep else "")
