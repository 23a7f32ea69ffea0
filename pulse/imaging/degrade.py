"""What turns HR into LR, differentiable, with the adjoint of what is linear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from pulse.imaging.jpeg import Jpeg
from pulse.imaging.pictures import InputError, read_picture, setting

Degradation = Callable[[Float[Tensor, "b 3 h h"]], Float[Tensor, "b 3 l l"]]
"""Any way from HR to LR, on pictures in [0, 1]."""
BD = "blur:0.375,point"
"""A blur of 1.5 HR pixels at four times the size, then points: what films are measured with."""
BLURRED = 0.1
"""Share of a pattern's strength that a degradation has to leave for it to be inverted."""


class Separable:
    """A linear operator that does the same to rows and columns: `matrix @ image @ matrix.T`."""

    def __init__(self, matrix: Float[Tensor, "l h"]) -> None:
        self.matrix = matrix.double()

    def __call__(self, image: Float[Tensor, "*b 3 h h"]) -> Float[Tensor, "*b 3 l l"]:
        """HR -> LR, in float32, or in float64 if the image is."""
        matrix, image = self._alike(image)
        return matrix @ image @ matrix.T

    def adjoint(self, image: Float[Tensor, "*b 3 l l"]) -> Float[Tensor, "*b 3 h h"]:
        """LR -> HR, such that <A x, y> = <x, A* y>."""
        matrix, image = self._alike(image)
        return matrix.T @ image @ matrix

    def _alike(self, image: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(image.dtype, torch.float32)
        return self.matrix.to(dtype).to(image.device), image.to(dtype)


class Bicubic(Separable):
    """Antialiased bicubic downscaling of square pictures, by any factor.

    The kernel is Keys' cubic with a = -0.5, stretched by the factor, as in PULSE and in Pillow's
    `BICUBIC`; each axis is one small matrix. At the border the kernel is cut off and renormalised
    as Pillow does, since that made most people's small pictures, where PULSE mirrors the picture;
    the outermost two rows and columns differ by that, all others agree.
    """

    def __init__(self, hr_size: int, lr_size: int) -> None:
        """From `hr_size` x `hr_size` to `lr_size` x `lr_size` pixels; lr_size <= hr_size."""
        x = _distances(hr_size, lr_size).abs()
        # Keys 1981, equation 15 (a = -1/2).
        inner = 1.5 * x**3 - 2.5 * x**2 + 1
        outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        super().__init__(_means(torch.where(x < 1, inner, torch.where(x < 2, outer, 0.0))))


class Box(Separable):
    """Downscaling by the mean of each block, as in Pillow's `BOX`: pixelation.

    Where the factor is not whole, a pixel belongs to the block that its centre is in.
    """

    def __init__(self, hr_size: int, lr_size: int) -> None:
        """From `hr_size` x `hr_size` to `lr_size` x `lr_size` pixels; lr_size <= hr_size."""
        x = _distances(hr_size, lr_size).round(decimals=9)
        super().__init__(_means(((x > -0.5) & (x <= 0.5)).double()))


class Point(Separable):
    """Gaussian blur, of which the middle of each block is taken: the "BD" of films.

    Sajjadi et al. 2018 (FRVSR), section 4.2, blur by 1.5 HR pixels and keep each fourth, the first
    of its block, so that the LR picture is shifted against the HR picture. Here it is not.
    """

    def __init__(self, hr_size: int, lr_size: int, sigma: float) -> None:
        """The standard deviation is in LR pixels, above 0."""
        x = _distances(hr_size, lr_size)
        super().__init__(_means((-0.5 * (x / sigma) ** 2).exp()))


class Blur(Separable):
    """Gaussian blur of square pictures; at the border the kernel is cut off and renormalised."""

    def __init__(self, size: int, sigma: float) -> None:
        """Of `size` x `size` pixels, with the standard deviation in the same pixels; above 0."""
        super().__init__(_means((-0.5 * (_distances(size, size) / sigma) ** 2).exp()))


def _distances(hr_size: int, lr_size: int) -> Float[Tensor, "l h"]:
    """From the centre of each LR pixel to that of each HR pixel on one axis, in LR pixels."""
    if not 1 <= lr_size <= hr_size:
        raise ValueError(f"Cannot downscale {hr_size} pixels to {lr_size}.")
    factor = hr_size / lr_size
    centres = (torch.arange(lr_size, dtype=torch.float64)[:, None] + 0.5) * factor
    pixels = torch.arange(hr_size, dtype=torch.float64)[None] + 0.5
    return (pixels - centres) / factor


def _means(weights: Float[Tensor, "l h"]) -> Float[Tensor, "l h"]:
    """Rows that sum to one, so that an even picture stays as it is."""
    return weights / weights.sum(1, keepdim=True)


class Grey:
    """Luma (ITU-R BT.601, as Pillow's mode `L`) in all three channels.

    So the mean squared error over three channels is that of the luma.
    """

    WEIGHTS = (0.299, 0.587, 0.114)

    def __call__(self, image: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
        return (image * self._column(image)).sum(-3, keepdim=True).expand(image.shape)

    def adjoint(self, image: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
        """Such that <A x, y> = <x, A* y>."""
        return image.sum(-3, keepdim=True) * self._column(image)

    def _column(self, image: Tensor) -> Tensor:
        return image.new_tensor(self.WEIGHTS)[:, None, None]


class Mask:
    """Black where nothing counts. It is its own adjoint."""

    def __init__(self, counts: Bool[Tensor, "l l"]) -> None:
        self.counts = counts

    def __call__(self, image: Float[Tensor, "*b 3 l l"]) -> Float[Tensor, "*b 3 l l"]:
        return image * self.counts.to(image.device)

    adjoint = __call__


def read_mask(path: Path, size: int) -> Bool[Tensor, "l l"]:
    """Which of `size` x `size` LR pixels count: those that lie wholly in the white of a picture.

    Raises:
        InputError: the file cannot be read, is not square, or leaves nothing.
    """
    image = read_picture(path).image.convert("L")
    if image.width != image.height:
        raise InputError(
            f"The mask {path} has {image.width}x{image.height} pixels; make it square, so that it "
            "lies on the picture as it is matched."
        )
    white = Image.fromarray((np.asarray(image) >= 128).astype(np.float32))
    share = torch.from_numpy(np.array(white.resize((size, size), Image.Resampling.BOX)))
    counts = share > 1 - 1e-4
    if not counts.any():
        raise InputError(
            f"The mask {path} ignores everything: none of {size}x{size} pixels is wholly white, "
            "which is what counts; paint black only what is to be ignored."
        )
    return counts


@dataclass(frozen=True)
class DegradeConfig:
    """What happened between an HR face and the LR picture, in this order.

    Attributes:
        blur: standard deviation of a Gaussian blur, in LR pixels; 0 is none.
        resampling: how it was downscaled; "point" takes what is in the middle of each pixel after
            the blur, which must be there.
        grey: whether the colours were lost, so that only the luma is compared.
        jpeg: quality at which the LR picture was saved as JPEG, from 1 to 100.
        mask: a square picture that is white where the LR picture counts, black where it does not.
        noise: standard deviation of noise in the LR picture, on [0, 1]; 0 is none. It is not
            imitated but allowed for, see `SearchConfig.with_noise`.

    Raises:
        InputError: a number is out of its range.
    """

    blur: float = 0.0
    resampling: Literal["bicubic", "box", "point"] = "bicubic"
    grey: bool = False
    jpeg: int | None = None
    mask: Path | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not (self.blur >= 0 and math.isfinite(self.blur)):
            raise InputError(
                f"A blur of {self.blur:g} cannot be: give its sigma in pixels of the small "
                "picture, for instance blur:1.5."
            )
        if self.resampling == "point" and not self.blur:
            raise InputError(
                "Points of a picture that was not blurred are no degradation; give blur as well, "
                f"for instance {BD}."
            )
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise InputError(
                f"A JPEG of quality {self.jpeg} cannot be: give a whole number from 1 to 100."
            )
        if not 0 <= self.noise <= 0.5:
            raise InputError(
                f"Noise of {self.noise:g} cannot be: give its sigma as a share of the range from "
                "black to white, at most 0.5; 5 of 255 levels are noise:0.02."
            )

    @classmethod
    def parse(cls, text: str) -> DegradeConfig:
        """Read what `str` gives: operators with commas between, in any order.

        Raises:
            InputError: it is not that.
        """
        found: dict[str, Any] = {}
        for part in (part.strip() for part in text.split(",")):
            name, _, value = part.partition(":")
            key = "resampling" if part in ("bicubic", "box", "point") else name
            if key in found:
                raise InputError(
                    f"{setting('degrade')} {text} says two things of {key}; leave one out."
                )
            try:
                if key == "resampling":
                    found[key] = part
                elif part == "grey":
                    found[key] = True
                elif name in ("blur", "noise"):
                    found[key] = float(value)
                elif name == "jpeg":
                    found[key] = int(value)
                elif name == "mask" and value:
                    found[key] = Path(value)
                else:
                    raise ValueError(part)
            except ValueError as error:
                raise InputError(
                    f"{setting('degrade')} cannot take {part!r}; give one or more of {SYNTAX} with "
                    "commas between."
                ) from error
        return cls(**found)

    def __str__(self) -> str:
        parts = [
            f"blur:{self.blur}" if self.blur else "",
            self.resampling,
            "grey" if self.grey else "",
            f"jpeg:{self.jpeg}" if self.jpeg is not None else "",
            f"mask:{self.mask}" if self.mask is not None else "",
            f"noise:{self.noise}" if self.noise else "",
        ]
        return ",".join(filter(None, parts))

    def operator(self, hr_size: int, lr_size: int) -> Callable[[Tensor], Tensor]:
        """The degradation of pictures in [0, 1], [*b, 3, h, h] -> [*b, 3, l, l].

        Raises:
            InputError: the mask cannot be used.
        """
        operators: list[Callable[[Tensor], Tensor]] = [self._down(hr_size, lr_size)]
        operators += self._on_lr()
        if self.mask is not None:
            operators.append(Mask(read_mask(self.mask, lr_size)))
        return _chained(operators)

    def oblong(self, height: int, width: int, scale: int) -> Callable[[Tensor], Tensor]:
        """That of pictures of any shape by a whole factor, [*b, 3, h*s, w*s] -> [*b, 3, h, w].

        Args:
            height, width: of the LR picture.

        Raises:
            InputError: there is a mask, which lies on one square picture only.
        """
        if self.mask is not None:
            raise InputError(
                f"A mask belongs to one picture; leave it out of {setting('degrade')} here."
            )
        rows, columns = (self._down(side * scale, side).matrix for side in (height, width))

        def shrink(image: Tensor) -> Tensor:
            dtype = torch.promote_types(image.dtype, torch.float32)
            return rows.to(image.device, dtype) @ image @ columns.to(image.device, dtype).T

        return _chained([shrink, *self._on_lr()])

    def _on_lr(self) -> list[Callable[[Tensor], Tensor]]:
        """What happens after downscaling, wherever in the picture."""
        grey: list[Callable[[Tensor], Tensor]] = [Grey()] if self.grey else []
        return grey if self.jpeg is None else [*grey, Jpeg(self.jpeg)]

    def inverse(self, hr_size: int, lr_size: int) -> Callable[[Tensor], Tensor] | None:
        """About the pseudo-inverse of the degradation, [*b, 3, l, l] -> [*b, 3, h, h].

        What blur left less than a tenth of is not brought back, since its errors would come back
        ten times as strong; a luma is given to all three colours alike. None where nothing linear
        tells what the picture was: behind JPEG's rounding, or noise.
        """
        if self.jpeg is not None or self.noise:
            return None
        matrix = torch.linalg.pinv(self._down(hr_size, lr_size).matrix, rtol=BLURRED)
        return Separable(matrix)

    def _down(self, hr_size: int, lr_size: int) -> Separable:
        if self.resampling == "point":
            return Point(hr_size, lr_size, self.blur)
        down: Separable = (
            Box(hr_size, lr_size) if self.resampling == "box" else Bicubic(hr_size, lr_size)
        )
        return (
            Separable(down.matrix @ Blur(hr_size, self.blur * hr_size / lr_size).matrix)
            if self.blur
            else down
        )

    def target(self, low: Float[Tensor, "3 l l"]) -> Float[Tensor, "3 l l"]:
        """What of an LR picture is to be matched: its luma if grey, and NaN where it is ignored.

        Raises:
            InputError: the mask cannot be used.
        """
        if self.grey:
            low = Grey()(low)
        if self.mask is not None:
            low = low.masked_fill(~read_mask(self.mask, low.shape[-1]), math.nan)
        return low


def _chained(operators: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def degrade(image: Tensor) -> Tensor:
        for operator in operators:
            image = operator(image)
        return image

    return degrade


SYNTAX = "bicubic, box, point, blur:SIGMA, grey, jpeg:QUALITY, mask:FILE, noise:SIGMA"
