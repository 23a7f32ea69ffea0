"""Pictures of any kind through a network: grey, alpha, 16 bits, any scale, nothing shifted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from pulse.imaging.back_projection import back_project
from pulse.imaging.pictures import InputError, Picture, setting
from pulse.superres.histogram import match_histogram
from pulse.superres.networks import Network
from pulse.superres.tiles import Partial, Tile, partials

MOST_PIXELS = 256_000_000
"""Of a result; more would not fit beside the work on it."""
LARGEST_SCALE = 16
DRIFT = 16
"""Side in pixels of the small picture of the squares whose mean colour may not change."""


@dataclass(frozen=True)
class PictureConfig:
    """How a picture is upscaled.

    Attributes:
        scale: how many times as wide and high it becomes; None is what the network does. The
            network is run until it is enough, and what is too much is resampled away.
        tile: side of the tiles, in pixels of the small picture.
        exact: whether the result is changed by the little that makes it downscale (by Pillow's
            BICUBIC) to the input, up to rounding.
        histogram: whether its values are given the distribution of the input's, as Johnson et al.
            do; None is yes for their network alone.

    Raises:
        InputError: a number is out of its range.
    """

    scale: float | None = None
    tile: Tile = "auto"
    exact: bool = False
    histogram: bool | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 1 <= self.scale <= LARGEST_SCALE:
            raise InputError(
                f"{setting('scale')} cannot be {self.scale:g}; give 1 to {LARGEST_SCALE}, for "
                "instance 4 or 2.5."
            )
        if self.tile != "auto" and self.tile < 1:
            raise InputError(f"{setting('tile')} cannot be {self.tile}; give auto or pixels.")


class Step(NamedTuple):
    """How far a picture is: `done` of `total` tiles, and the result after the last."""

    done: int
    total: int
    image: Image.Image | None


def upscale(
    network: Network, picture: Image.Image | Picture, config: PictureConfig | None = None
) -> Image.Image:
    """A picture of any of Pillow's modes, upscaled.

    The result is grey where the picture is, keeps 16 bits where the picture has them (Pillow has
    them in grey alone), and has an alpha channel where the picture is transparent. That is upscaled
    bicubically: a network would draw detail into it that its edges do not have. Colours that cannot
    be seen are replaced by the nearest that can, so that they do not bleed into the others. What
    the network did to the mean colour of any place is taken back.

    Raises:
        InputError: the pixels are of a kind that is not known, or the result would be too large.
        MemoryError: there is too little for even a small tile.
    """
    *_, last = steps(network, picture, config)
    assert last.image is not None
    return last.image


@torch.no_grad()
def steps(
    network: Network, picture: Image.Image | Picture, config: PictureConfig | None = None
) -> Iterator[Step]:
    """The same, tile by tile. To stop is to stop iterating."""
    config = config or PictureConfig()
    planes = _read(picture.image if isinstance(picture, Picture) else picture)
    done, total, sr = 0, 0, None
    for done, total, sr in _enlarged(network, planes.colour[None], config, planes.levels):
        if sr is None:
            yield Step(done, total, None)
    assert sr is not None
    size = sr.shape[-2:]
    alpha = None if planes.alpha is None else _resized(planes.alpha[None], size).clamp(0, 1)[0]
    yield Step(done, total, _written(_Planes(sr[0], alpha, planes.levels)))


@torch.no_grad()
def upscale_colours(
    network: Network,
    lr: Float[Tensor, "b c h w"],
    config: PictureConfig | None = None,
    levels: int = 255,
) -> Float[Tensor, "b c p q"]:
    """The same for colours that are tensors already: of pictures, or of the frames of a film.

    Args:
        lr: 3 channels or a grey one, in [0, 1].
        levels: what white will be in the file.

    Returns:
        In [0, 1], on the device of `lr`.
    """
    *_, (_, _, sr) = _enlarged(network, lr, config or PictureConfig(), levels)
    assert sr is not None
    return sr


def _enlarged(
    network: Network, lr: Float[Tensor, "b c h w"], config: PictureConfig, levels: int
) -> Iterator[tuple[int, int, Float[Tensor, "b c p q"] | None]]:
    """Tiles that are done and all of them, and the result after the last."""
    scale = network.scale if config.scale is None else config.scale
    enlarged_size(lr.shape[-2], lr.shape[-1], scale)  # Before the work.
    sr = lr.expand(-1, 3, -1, -1).to(_device(network))
    passes, before = passes_of(network, scale), 0
    for number in range(1, passes + 1):
        part = Partial(0, 0, sr)
        for part in partials(network, sr.clamp(0, 1), config.tile):
            if number < passes or part.done < part.total:
                yield before + part.done, before + part.total, None
        before, sr = before + part.total, part.sr
    if config.histogram is None:
        config = replace(config, histogram=network.family == "TransformNet")
    yield before, before, settled(sr.to(lr.device), lr, replace(config, scale=scale), levels)


def settled(
    sr: Float[Tensor, "b 3 p q"],
    lr: Float[Tensor, "b c h w"],
    config: PictureConfig,
    levels: int = 255,
) -> Float[Tensor, "b c r s"]:
    """What a network gave, at the size that is wanted, and held to what it was given.

    Args:
        sr: of any size, unclamped.
        config: its scale is known.
        levels: what white will be in the file.

    Returns:
        In [0, 1].
    """
    assert config.scale is not None
    sr = _resized(sr, enlarged_size(lr.shape[-2], lr.shape[-1], config.scale))
    if lr.shape[1] == 1:
        sr = sr.mean(1, keepdim=True)
    if config.histogram:
        sr = torch.stack([match_histogram(*pair) for pair in zip(sr, lr, strict=True)])
    sr = undrifted(sr, lr).clamp(0, 1)
    return exact(sr, lr, levels) if config.exact else sr


def enlarged_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of a result.

    Raises:
        InputError: it would be too large.
    """
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size[0] * size[1] > MOST_PIXELS:
        raise InputError(
            f"The result would have {size[1]}x{size[0]} pixels; at most {MOST_PIXELS // 10**6} "
            f"megapixels can be made: give a smaller {setting('scale')}, or crop the picture."
        )
    return size


def _device(network: Network) -> torch.device:
    weight = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return torch.device("cpu") if weight is None else weight.device


def passes_of(network: Network, scale: float) -> int:
    """How often the network is run to come to a scale."""
    if network.scale == 1:
        return 1
    passes, reached = 1, network.scale
    while reached < scale:
        passes, reached = passes + 1, reached * network.scale
    return passes


def undrifted(
    sr: Float[Tensor, "b c p q"], lr: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c p q"]:
    """The large picture with the small one's colours, where the network has shifted them.

    What the downscaled result lacks of the input is averaged over squares of `DRIFT` pixels,
    interpolated between them and added: detail stays, colour does not drift.
    """
    lacking = lr - _resized(sr, lr.shape[-2:])
    squares = [-(-side // DRIFT) for side in lr.shape[-2:]]
    means = F.interpolate(lacking, size=squares, mode="area")
    shift = F.interpolate(means, size=sr.shape[-2:], mode="bilinear", align_corners=False)
    # Interpolation alone would not quite keep the mean of the whole.
    return sr + shift + (lacking.mean((-2, -1)) - shift.mean((-2, -1)))[..., None, None]


def exact(
    sr: Float[Tensor, "b c p q"], lr: Float[Tensor, "b c h w"], levels: int = 255
) -> Float[Tensor, "b c p q"]:
    """The large picture changed by as little as makes it downscale to the small one.

    Iterative back-projection (Irani and Peleg 1991): bicubic upscaling stands for the inverse of
    bicubic downscaling, which it nearly is, and the rounds make up for the difference.

    Args:
        levels: what white is in the file; the result is rounded to it.
    """
    return back_project(
        sr,
        lr,
        lambda image: _resized(image, lr.shape[-2:]),
        lambda lacking: _resized(lacking, sr.shape[-2:]),
        levels=levels,
        most=1,
    )


def _resized(x: Float[Tensor, "b c h w"], size: tuple[int, ...]) -> Float[Tensor, "b c p q"]:
    """As Pillow's BICUBIC does it, up or down."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=list(size), mode="bicubic", antialias=True)


@dataclass(frozen=True)
class _Planes:
    """A picture as numbers in [0, 1].

    Attributes:
        colour: [1 or 3, h, w].
        alpha: None where nothing is transparent.
        levels: what white is in the file.
    """

    colour: Float[Tensor, "c h w"]
    alpha: Float[Tensor, "1 h w"] | None
    levels: int


def _read(image: Image.Image) -> _Planes:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        if values.max() > 65535 or values.min() < 0:
            raise InputError("The picture has 32-bit pixels; save it with 8 or 16 bits.")
        return _Planes(torch.from_numpy(values / 65535)[None], None, 65535)
    if image.mode == "F":
        raise InputError("The picture has floating-point pixels; save it with 8 or 16 bits.")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        values = np.array(image.convert("LA" if grey else "RGBA"))
        alpha = values[..., -1]
        if alpha.min() < 255:
            colour = _filled(values[..., :-1], alpha)
            return _Planes(_tensor(colour), _tensor(alpha[..., None]), 255)
    values = np.array(image.convert("L" if grey else "RGB"))
    return _Planes(_tensor(values[..., None] if grey else values), None, 255)


def _tensor(values: np.ndarray) -> Float[Tensor, "c h w"]:
    return torch.from_numpy(values).permute(2, 0, 1).float() / 255


def _filled(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours [h, w, c] with those that cannot be seen replaced by the nearest that can."""
    hidden = alpha == 0
    if hidden.all() or not hidden.any():
        return colour
    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return colour[tuple(np.asarray(nearest))]


def _written(planes: _Planes) -> Image.Image:
    parts = [planes.colour] if planes.alpha is None else [planes.colour, planes.alpha]
    values = (torch.cat(parts) * planes.levels).round().permute(1, 2, 0).numpy()
    values = values.astype(np.uint16 if planes.levels > 255 else np.uint8)
    return Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)
