"""What is done to the frames of a film, one after another, and films that compare what was done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pulse.imaging.pictures import as_saved
from pulse.superres.networks import Network
from pulse.superres.pictures import PictureConfig, enlarged_size, settled, upscale_colours

Frames: TypeAlias = Iterator[Float[Tensor, "3 h w"]]
"""RGB in [0, 1], on the CPU."""
Size: TypeAlias = tuple[int, int]
"""Height and width."""

Batches: TypeAlias = Iterator[Float[Tensor, "1 3 h w"]]
LEAD = 8
"""Frames that a recurrent network sees before those of a part: what it carries has settled then."""
_GAP = 8  # Pixels between the panels of a comparison.


@dataclass(frozen=True)
class Method:
    """What makes other frames of frames.

    Attributes:
        apply: takes successive frames of a film and gives as many, each as soon as it can. It is
            told the number of the first that counts, the film's first being 0.
        size: the height and width that frames of a height and width get.
        lead: how many frames before the first that counts it is to see, so that a film can be
            made in parts: none if each frame is for itself.
    """

    apply: Callable[[Frames, int], Frames]
    size: Callable[[Size], Size]
    lead: int = 0


def per_frame(network: Network, config: PictureConfig, levels: int = 255) -> Method:
    """A network that sees one frame at a time, in tiles of bounded memory.

    Args:
        levels: what white is in the film.
    """
    scale = network.scale if config.scale is None else config.scale

    def apply(frames: Frames, begin: int) -> Frames:
        for frame in frames:
            yield upscale_colours(network, frame[None], config, levels)[0]

    return Method(apply, lambda size: enlarged_size(*size, scale))


def recurrent(
    network: Callable[[Batches], Batches],
    config: PictureConfig,
    levels: int = 255,
) -> Method:
    """A network that sees frames one after another and carries something from each to the next.

    Args:
        network: takes frames as batches of one in [0, 1] and gives as many, unclamped, as
            `superres.recurrent` does.
        config: its scale is known.
    """
    scale = config.scale
    assert scale is not None

    def apply(frames: Frames, begin: int) -> Frames:
        seen: deque[Float[Tensor, "1 3 h w"]] = deque()

        def given() -> Batches:
            for frame in frames:
                seen.append(frame[None])
                yield frame[None]

        for sr in network(given()):
            yield settled(sr.cpu(), seen.popleft(), config, levels)[0]

    return Method(apply, lambda size: enlarged_size(*size, scale), LEAD)


def side_by_side(method: Method) -> Method:
    """Two panels: frames enlarged bicubically, and by the method."""

    def size(given: Size) -> Size:
        return _Sheet(method.size(given), ("bicubic", "network"), 2).size

    def apply(frames: Frames, begin: int) -> Frames:
        seen: deque[Float[Tensor, "3 h w"]] = deque()
        sheet: _Sheet | None = None
        for large in method.apply(kept(frames, seen), begin):
            sheet = sheet or _Sheet(_size(large), ("bicubic", "network"), 2)
            yield sheet.filled((_bicubic(seen.popleft(), _size(large)), large))

    return Method(apply, size, method.lead)


def compare(method: Method, scale: float) -> Method:
    """Four panels: frames, downscaled, that enlarged bicubically, and by the method.

    Frames are cropped to what the small ones become.
    """
    captions = ("original", f"downscaled {scale:g} times", "bicubic", "network")

    def low_size(given: Size) -> Size:
        return max(1, int(given[0] // scale)), max(1, int(given[1] // scale))

    def size(given: Size) -> Size:
        return _Sheet(method.size(low_size(given)), captions, 2).size

    def apply(frames: Frames, begin: int) -> Frames:
        seen: deque[tuple[Float[Tensor, "3 p q"], Float[Tensor, "3 h w"]]] = deque()

        def small() -> Frames:
            for frame in frames:
                low_height, low_width = low_size(_size(frame))
                height, width = method.size((low_height, low_width))
                cropped = frame[:, :height, :width]
                # As a small film would hold it.
                low = as_saved(_bicubic(cropped, (low_height, low_width)))
                seen.append((cropped, low))
                yield low

        sheet: _Sheet | None = None
        for large in method.apply(small(), begin):
            original, low = seen.popleft()
            sheet = sheet or _Sheet(_size(large), captions, 2)
            blocks = F.interpolate(low[None], size=_size(large), mode="nearest-exact")[0]
            yield sheet.filled((original, blocks, _bicubic(low, _size(large)), large))

    return Method(apply, size, method.lead)


def kept(frames: Frames, seen: deque[Float[Tensor, "3 h w"]]) -> Frames:
    """The frames themselves, each of them kept as it passes."""
    for frame in frames:
        seen.append(frame)
        yield frame


def _size(frame: Float[Tensor, "3 h w"]) -> Size:
    return frame.shape[-2], frame.shape[-1]


def _bicubic(frame: Float[Tensor, "3 h w"], size: Size) -> Float[Tensor, "3 p q"]:
    """As Pillow does it, up or down."""
    return F.interpolate(frame[None], size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


class _Sheet:
    """Panels of one size with captions, side by side and below each other.

    Attributes:
        size: height and width of the whole; even, so that any codec takes it.
    """

    def __init__(self, panel: Size, captions: tuple[str, ...], columns: int) -> None:
        height, width = panel
        font_size = max(12, height // 24)
        strip = font_size * 3 // 2
        rows = -(-len(captions) // columns)
        whole = (rows * (height + strip + _GAP) + _GAP, columns * (width + _GAP) + _GAP)
        self.size = (whole[0] + whole[0] % 2, whole[1] + whole[1] % 2)
        image = Image.new("RGB", (self.size[1], self.size[0]), "white")
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(font_size)
        self._panel = panel
        self._corners = []
        for number, caption in enumerate(captions):
            top = _GAP + number // columns * (height + strip + _GAP) + strip
            left = _GAP + number % columns * (width + _GAP)
            draw.text((left, top - strip), caption, "black", font)
            self._corners.append((top, left))
        self._empty = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255

    def filled(self, panels: tuple[Float[Tensor, "3 h w"], ...]) -> Float[Tensor, "3 p q"]:
        """The sheet with its panels in it; what is smaller lies in a panel's upper left."""
        sheet = self._empty.clone()
        for (top, left), panel in zip(self._corners, panels, strict=True):
            height, width = _size(panel)
            sheet[:, top : top + height, left : left + width] = panel
        return sheet
