"""The colours of films: what the numbers of a frame mean, and frames <-> RGB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from jaxtyping import UInt, UInt8

Pixels: TypeAlias = UInt[np.ndarray, "h w 3"]
"""RGB of 8 or 16 bits; all of them are used."""

# Code points of ITU-T H.273, as libav has them.
RGB, BT709, UNKNOWN, BT470BG, SMPTE170M, BT2020 = 0, 1, 2, 5, 6, 9
PQ, HLG = 16, 18
LIMITED, FULL = 1, 2
_MATRICES = {BT709, 4, BT470BG, SMPTE170M, 7, BT2020}  # Those that libswscale can multiply by.

# Without these, chroma is repeated or skipped instead of interpolated, and sums are truncated.
_CAREFUL = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


class ColourError(ValueError):
    """Frames of such colours cannot be read; the message says which."""


@dataclass(frozen=True)
class Colours:
    """What the numbers of a film's frames mean, as code points of ITU-T H.273.

    Attributes:
        matrix: how luma and chroma are made of RGB; `RGB` if they are not.
        full: whether black is 0 and white 255, instead of 16 and 235.
        primaries: what red, green and blue are.
        transfer: how numbers become light.
    """

    matrix: int
    full: bool
    primaries: int
    transfer: int

    @property
    def hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    def written(self) -> Colours:
        """What a film that is made of it has: RGB becomes luma and chroma."""
        return replace(self, matrix=BT709, full=False) if self.matrix == RGB else self


def colours_of(frame: VideoFrame) -> Colours:
    """What a frame says of its colours, and the usual guess where it says nothing.

    Untagged films of more than 576 lines or of 1280 columns are BT.709, smaller ones BT.601, which
    is what players take them for. The guess is written down, since the enlarged film has other
    lines and would be guessed otherwise.

    Raises:
        ColourError: they are of a kind that is not known here.
    """
    if frame.format.is_rgb:
        return Colours(RGB, True, _or(frame.color_primaries, BT709), frame.color_trc)
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    large = frame.height > 576 or frame.width >= 1280
    matrix = _or(frame.colorspace, BT709 if large else SMPTE170M)
    if matrix == RGB:
        matrix = BT709  # A mistake in the tags: the format has luma and chroma.
    if matrix not in _MATRICES:
        raise ColourError(f"has colours of a kind that is not read here (matrix {matrix} of H.273)")
    usual = {480: SMPTE170M, 486: SMPTE170M, 576: BT470BG}.get(frame.height, BT709)
    usual = BT2020 if matrix == BT2020 else usual
    return Colours(matrix, full, _or(frame.color_primaries, usual), frame.color_trc)


def _or(code: int, usual: int) -> int:
    return usual if code == UNKNOWN or code >= 200 else code


def eight_bits(pixels: Pixels) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of 8 or 16 bits with 8."""
    return pixels if pixels.dtype == np.uint8 else (pixels / 257).round().astype(np.uint8)


class ToRGB:
    """Frames of a film to their pixels as they are meant.

    HDR becomes what a common screen can show, by libswscale's perceptual tone mapping, whose table
    is made with the first frame and kept.
    """

    def __init__(self, colours: Colours, size: tuple[int, int], deep: bool) -> None:
        """
        Args:
            size: width and height to scale frames to, for films that change theirs.
            deep: whether the pixels have 16 bits.
        """
        self._colours, self._size = colours, size
        self._format = "rgb48le" if deep else "rgb24"
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Pixels:
        colours = self._colours
        frame.colorspace, frame.color_range = colours.matrix, FULL if colours.full else LIMITED
        if colours.hdr:
            frame.color_trc, frame.color_primaries = colours.transfer, colours.primaries
        return self._reformatter.reformat(
            frame,
            *self._size,
            format=self._format,
            interpolation=_CAREFUL,
            dst_color_range=FULL,
            dst_color_trc=BT709 if colours.hdr else None,
            dst_color_primaries=BT709 if colours.hdr else None,
        ).to_ndarray()


class FromRGB:
    """The inverse: pixels to frames of a pixel format, whose tags say what they mean."""

    def __init__(self, colours: Colours, format: str) -> None:
        self._colours, self._format = colours, format
        self._reformatter = VideoReformatter()
        self._placed: Graph | None = None

    def __call__(self, pixels: Pixels) -> VideoFrame:
        colours = self._colours
        frame = VideoFrame.from_ndarray(
            pixels, format="rgb48le" if pixels.dtype == np.uint16 else "rgb24"
        )
        frame.pts = 0
        frame = self._with_left_chroma(frame)
        frame.color_range = FULL
        made = self._reformatter.reformat(
            frame,
            format=self._format,
            # libswscale's number for BT.601 is that of one of its two names.
            dst_colorspace=BT470BG if colours.matrix == SMPTE170M else colours.matrix,
            dst_color_range=FULL if colours.full else LIMITED,
            interpolation=_CAREFUL,
        )
        made.colorspace, made.color_range = colours.matrix, FULL if colours.full else LIMITED
        made.color_primaries, made.color_trc = colours.primaries, colours.transfer
        return made

    def _with_left_chroma(self, frame: VideoFrame) -> VideoFrame:
        """The frame, which says that its chroma will lie where every player takes it from.

        Untold, libswscale puts it half a pixel to the right, but takes it from the left of films.
        """
        if self._placed is None:
            self._placed = Graph()
            nodes = (
                self._placed.add_buffer(
                    width=frame.width,
                    height=frame.height,
                    format=frame.format,
                    time_base=Fraction(1, 1000),
                ),
                self._placed.add("setparams", "chroma_location=left"),
                self._placed.add("buffersink"),
            )
            self._placed.link_nodes(*nodes).configure()
        self._placed.vpush(frame)
        return self._placed.vpull()
