"""JPEG as an operator: what it does to a picture to be saved as JPEG and read again."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.fft import dct
from torch import Tensor

# ITU-T T.81, tables K.1 and K.2: steps of the DCT coefficients at quality 50.
LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMA = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
# JFIF 1.02: RGB to Y, Cb, Cr without the offset of the chroma.
YCBCR = [
    [0.299, 0.587, 0.114],
    [-0.299 / 1.772, -0.587 / 1.772, 0.5],
    [0.5, -0.587 / 1.402, -0.114 / 1.402],
]


class Jpeg:
    """Baseline JPEG with chroma at half size (4:2:0), as Pillow writes and reads it by default.

    Without gradients it rounds wherever libjpeg does, so that the outcome is Pillow's but for a few
    coefficients at the edge of rounding. While gradients are recorded it is a smooth stand-in:
    coefficients are rounded by `soft_round`, pixels are neither rounded nor cut off. Descent on the
    rounded picture with made-up gradients gets stuck, since its loss does not follow them.
    """

    def __init__(self, quality: int) -> None:
        """With libjpeg's scale of quality, from 1 to 100."""
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        tables = (torch.tensor([LUMA, CHROMA]) * scale + 50) // 100
        self.luma, self.chroma = tables.clamp(1, 255).double()
        self.ycbcr = torch.tensor(YCBCR, dtype=torch.float64)
        self.rgb = torch.linalg.inv(self.ycbcr)
        self.dct = torch.from_numpy(dct(np.eye(8), axis=0, norm="ortho"))

    def __call__(self, image: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
        """A picture of any size in [0, 1], in its own coordinates: blocks begin at the top left."""
        exact = not (torch.is_grad_enabled() and image.requires_grad)
        h, w = image.shape[-2:]
        # Everything is counted in levels of 8 bits, from -128 to 127.
        rgb = image.reshape(-1, 3, h, w) * 255 - 128
        ycbcr = _levels(_colours(self.ycbcr, _levels(rgb, exact)), exact)
        luma = self._coded(_extend(ycbcr[:, :1], -h % 8, -w % 8), self.luma, exact)

        low_h, low_w = (h + 1) // 2, (w + 1) // 2
        # libjpeg extends to the right before it halves, and downwards after.
        chroma = _extend(ycbcr[:, 1:], h % 2, 2 * (low_w + -low_w % 8) - w)
        chroma = F.avg_pool2d(chroma, 2)
        if exact:  # It rounds down and up in turns.
            turns = torch.tensor([0.25, 0.5]).repeat(chroma.shape[-1] // 2)
            chroma = (chroma + turns.to(chroma)).floor()
        chroma = self._coded(_extend(chroma, -low_h % 8, 0), self.chroma, exact)
        # Chroma is interpolated on the way back, except in pictures this narrow.
        mode = "bilinear" if low_w > 2 else "nearest"
        chroma = F.interpolate(chroma[..., :low_h, :low_w], scale_factor=2, mode=mode)
        chroma = _levels(chroma, exact)

        ycbcr = torch.cat([luma[..., :h, :w], chroma[..., :h, :w]], 1)
        rgb = _levels(_colours(self.rgb, ycbcr), exact)
        return ((rgb + 128) / 255).reshape(image.shape)

    def _coded(
        self, plane: Float[Tensor, "b c h w"], steps: Float[Tensor, "8 8"], exact: bool
    ) -> Float[Tensor, "b c h w"]:
        """Blocks of 8x8 pixels through the DCT, rounded to whole steps there, and back."""
        dct, steps = _like(self.dct, plane), _like(steps, plane)
        blocks = plane.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-2, -3)
        spectrum = dct @ blocks @ dct.T
        if exact:
            # libjpeg's transform ends in whole eighths, and halves are rounded away from zero.
            spectrum = (spectrum * 8 + 0.5).floor() / 8
            whole = spectrum.sign() * (spectrum.abs() / steps + 0.5).floor()
        else:
            whole = soft_round(spectrum / steps)
        blocks = dct.T @ (whole * steps) @ dct
        return _levels(blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2), exact)


def soft_round(x: Tensor) -> Tensor:
    """x - sin(2 pi x) / (2 pi): smooth, never decreasing, and flat at the whole numbers."""
    return x - (2 * torch.pi * x).sin() / (2 * torch.pi)


def _levels(x: Tensor, exact: bool) -> Tensor:
    return (x + 0.5).floor().clamp(-128, 127) if exact else x


def _colours(matrix: Float[Tensor, "3 3"], image: Float[Tensor, "b 3 h w"]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", _like(matrix, image), image)


def _extend(x: Float[Tensor, "b c h w"], below: int, right: int) -> Tensor:
    """Repeat the last row and column."""
    return F.pad(x, (0, right, 0, below), mode="replicate")


def _like(x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype).to(other.device)
