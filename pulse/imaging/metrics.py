"""How near a picture comes to the original, as papers on super-resolution count it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# ITU-R BT.601 with studio range, as MATLAB's rgb2ycbcr: 16 is black and 235 is white.
_LUMA = (65.481, 128.553, 24.966)
_BLACK, _PEAK = 16.0, 255.0
# Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
# section III.C: the window and the constants.
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2


def luma(image: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b 1 h w"]:
    """Y of pictures in [0, 1], from 16 to 235. It is not rounded, unlike MATLAB's for 8 bits.

    A single channel is grey and taken as it is, from 0 to 255: so do the papers, whose figure for
    bicubic interpolation on Set14, which has one grey picture, comes out in no other way.
    """
    if image.shape[-3] == 1:
        return image.double() * _PEAK
    weights = image.new_tensor(_LUMA, dtype=torch.float64)[:, None, None]
    return (image.double() * weights).sum(-3, keepdim=True) + _BLACK


def psnr_y(
    sr: Float[Tensor, "*b c h w"], hr: Float[Tensor, "*b c h w"], border: int
) -> Float[Tensor, "*b"]:
    """Peak signal-to-noise ratio of the luma in dB, for a peak of 255; equal pictures have inf.

    Args:
        sr, hr: in [0, 1], of three channels or of one; figures of papers are of 8 bits, rounded.
        border: pixels at each edge that do not count; papers leave out as many as the scale.
    """
    error = _inner(luma(sr), border) - _inner(luma(hr), border)
    return 10 * torch.log10(_PEAK**2 / error.square().mean((-3, -2, -1)))


def ssim_y(
    sr: Float[Tensor, "*b c h w"], hr: Float[Tensor, "*b c h w"], border: int
) -> Float[Tensor, "*b"]:
    """Structural similarity of the luma, at most 1 (Wang et al. 2004, equation 13).

    Means and (biased) variances are weighted by a Gaussian of sigma 1.5 over 11x11 pixels and taken
    only where the window lies wholly in the picture.

    Args:
        sr, hr: in [0, 1], of three channels or of one, with more than 10 pixels inside the border.
        border: pixels at each edge that do not count.
    """
    x, y = _inner(luma(sr), border), _inner(luma(hr), border)
    shape = x.shape[:-3]
    x, y = x.reshape(-1, 1, *x.shape[-2:]), y.reshape(-1, 1, *y.shape[-2:])
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x = _windowed(x * x) - mean_x**2
    var_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    similar = similar / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))
    return similar.mean((-3, -2, -1)).reshape(shape)


def _inner(image: Tensor, border: int) -> Tensor:
    height, width = image.shape[-2:]
    return image[..., border : height - border, border : width - border]


def _windowed(x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 p q"]:
    place = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    weights = torch.exp(-0.5 * (place / _SIGMA) ** 2)
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights[None, None, :, None]), weights[None, None, None, :])
