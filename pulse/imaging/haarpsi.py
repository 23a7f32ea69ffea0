"""HaarPSI: how alike two pictures look, by their edges at three sizes.

Reisenhofer, Bosse, Kutyniok and Wiegand, "A Haar wavelet-based perceptual similarity index for
image quality assessment", Signal Processing: Image Communication 2018.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Section 3: the constants that fit people's judgements best.
_C, _ALPHA = 30.0, 4.2
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def haarpsi(x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Similarity of pictures from 0 to 1, at which they are the same; with colour (equation 13).

    Args:
        x, y: in [0, 1], of at least 16x16 pixels. Which is the original does not matter.
    """
    x, y = _seen(x), _seen(y)
    edges_x, edges_y = ([_edges(z[:, :1], level) for level in (1, 2, 3)] for z in (x, y))
    # Equations 10 and 11: the two finer sizes are compared, the coarsest says what matters.
    fine = [_alike(a.abs(), b.abs()) for a, b in zip(edges_x[:2], edges_y[:2], strict=True)]
    alike = (fine[0] + fine[1]) / 2
    weight = torch.maximum(edges_x[2].abs(), edges_y[2].abs())
    colour = _alike(_mean(x[:, 1:]).abs(), _mean(y[:, 1:]).abs()).mean(1, keepdim=True)
    alike = torch.cat((alike, colour), 1)
    weight = torch.cat((weight, weight.mean(1, keepdim=True)), 1)
    tiny = torch.finfo(weight.dtype).eps  # Two flat pictures have no edges that could differ.
    total = weight.sum((1, 2, 3)) + tiny
    score = (torch.sigmoid(_ALPHA * alike) * weight).sum((1, 2, 3))
    score = (score + tiny * torch.sigmoid(alike.new_tensor(_ALPHA))) / total
    return (torch.logit(score) / _ALPHA) ** 2


def _seen(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 p q"]:
    """YIQ at half the size, as from a usual distance; black beyond odd sizes."""
    yiq = torch.einsum("ij,bjhw->bihw", image.new_tensor(_YIQ, dtype=torch.float64), image.double())
    odd = max(side % 2 for side in image.shape[-2:])
    return F.avg_pool2d(F.pad(yiq * 255, (0, odd, 0, odd)), 2)


def _edges(y: Float[Tensor, "b 1 h w"], level: int) -> Float[Tensor, "b 2 h w"]:
    """Haar wavelet coefficients across and along, not decimated; black beyond the borders."""
    side = 2**level
    kernel = y.new_full((side, side), 1 / side)
    kernel[side // 2 :] *= -1
    before, after = side // 2 - 1, side // 2
    padded = F.pad(y, (before, after, before, after))
    return F.conv2d(padded, torch.stack((kernel, kernel.T))[:, None])


def _mean(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Over 2x2 pixels."""
    return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)


def _alike(a: Tensor, b: Tensor) -> Tensor:
    """Equation 1."""
    return (2 * a * b + _C) / (a**2 + b**2 + _C)
