"""Pairs of small and large pictures, made while training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, as_saved, setting
from pulse.superres.shelf import Shelf

SIZES = (1.0, 0.75, 0.5)
"""Sizes at which each picture is shown where that is wanted."""
TESTS = 16
"""Pictures, at most, that are measured on while training, evenly taken from those held out."""
TEST_SIDE = 384
"""Of those, the part in the middle that is looked at, in pixels a side."""


@dataclass(frozen=True)
class PairConfig:
    """What pairs are made of.

    Attributes:
        scale: of the network that is to learn from them.
        patch: side of the LR patches in pixels.
        degradation: what makes LR of HR; LR is rounded to 8 bits after it, as files are.
        square: side in pixels to which the centred square of each picture is resized first, for
            pictures that are framed alike; None takes them as they are.
        resized: whether smaller copies of each picture (`SIZES`) are shown as well: sharper, and
            more of them.
        upright: whether patches are mirrored only, and not turned.
        every: of a film, each so manyth frame is taken.
        test_seconds: at the end of a film that are kept apart to measure on.
        held_out: pictures at the end of their order that are kept apart; None is a tenth, from 1
            to 300.
    """

    scale: int = 4
    patch: int = 24
    degradation: DegradeConfig = field(default_factory=DegradeConfig)
    square: int | None = None
    resized: bool = False
    upright: bool = False
    every: int = 5
    test_seconds: float = 25.0
    held_out: int | None = None

    def __post_init__(self) -> None:
        if self.square is not None and self.square < self.patch * self.scale:
            raise InputError(
                f"Squares of {self.square} pixels are too small for patches of {self.patch} at "
                f"{self.scale} times; give a smaller {setting('patch')}."
            )


class Pair(NamedTuple):
    """The same pictures twice, on [0, 1]; `lr` has 8 bits. Clips have one axis more, of frames."""

    lr: Float[Tensor, "b *t 3 h w"]
    hr: Float[Tensor, "b *t 3 h*s w*s"]


class Source(Protocol):
    """What a network is trained on: `Pairs`, or `Clips`."""

    @property
    def degradation(self) -> DegradeConfig: ...

    def draw(self, count: int, rng: torch.Generator, device: torch.device | str) -> Pair: ...

    def held_out(self) -> Iterator[Pair]: ...


class Pairs:
    """Pictures that were read, and pairs made of it.

    Attributes:
        training, tests: HR pictures to learn from, and those held out.
        weights: [N], how often each of the former is drawn, relatively.
    """

    def __init__(
        self, config: PairConfig, training: Shelf, weights: Float[Tensor, " n"], tests: Shelf
    ) -> None:
        self.config, self.training, self.weights, self.tests = config, training, weights, tests
        degradation, patch, scale = config.degradation, config.patch, config.scale
        smallest = min(min(training[i].shape[:2]) for i in range(len(training)))
        # Around each patch so much is degraded with it that it becomes what it would in the whole
        # picture; where JPEG's blocks begin is left to chance.
        play = 8 if degradation.jpeg is not None else 0
        wanted = 2 + math.ceil(3 * degradation.blur) + play
        self._margin = min(wanted, (smallest // scale - patch) // 2)
        self._play = min(play, self._margin)
        side = patch + 2 * self._margin
        self._degrade = degradation.oblong(side, side, scale)

    @property
    def degradation(self) -> DegradeConfig:
        return self.config.degradation

    def draw(self, count: int, rng: torch.Generator, device: torch.device | str = "cpu") -> Pair:
        """Patches at random places of random pictures, turned and mirrored at random.

        Args:
            rng: of the CPU, so that every device is shown the same.
        """
        config = self.config
        side = (config.patch + 2 * self._margin) * config.scale
        index = torch.multinomial(self.weights, count, replacement=True, generator=rng)
        cuts = [_cut(self.training[i], side, config.upright, rng) for i in index.tolist()]
        region = torch.from_numpy(np.stack(cuts)).to(device).permute(0, 3, 1, 2).float() / 255
        row, column = (self._margin + self._shift(rng) for _ in range(2))
        lr = received(self._degrade(region), config.degradation.noise, rng)
        scale, patch = config.scale, config.patch
        lr = lr[..., row : row + patch, column : column + patch]
        row, column, patch = (x * scale for x in (row, column, patch))
        return Pair(lr, region[..., row : row + patch, column : column + patch])

    def held_out(self) -> Iterator[Pair]:
        """The middle of pictures that nothing was learned from, one at a time."""
        scale = self.config.scale
        rng = torch.Generator().manual_seed(0)
        count = min(TESTS, len(self.tests))
        for i in range(count):
            pixels = self.tests[i * len(self.tests) // count]
            height, width = (min(n, TEST_SIDE) // scale for n in pixels.shape[:2])
            top, left = (
                (n - m * scale) // 2 for n, m in zip(pixels.shape, (height, width), strict=False)
            )
            part = pixels[top : top + height * scale, left : left + width * scale]
            hr = torch.from_numpy(np.array(part)).permute(2, 0, 1)[None].float() / 255
            lr = self.config.degradation.oblong(height, width, scale)(hr)
            yield Pair(received(lr, self.config.degradation.noise, rng), hr)

    def _shift(self, rng: torch.Generator) -> int:
        play = self._play
        return int(torch.randint(-play, play + 1, (), generator=rng)) if play else 0


def received(
    lr: Float[Tensor, "b *t 3 h w"], noise: float, rng: torch.Generator
) -> Float[Tensor, "b *t 3 h w"]:
    """Small pictures as somebody gets them: with noise of that standard deviation, in 8 bits."""
    if noise:
        lr = lr + noise * torch.randn(lr.shape, generator=rng).to(lr.device)
    return as_saved(lr)


def _cut(
    pixels: UInt8[np.ndarray, "h w 3"], side: int, upright: bool, rng: torch.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    top, left = (int(torch.randint(n - side + 1, (), generator=rng)) for n in pixels.shape[:2])
    part = pixels[top : top + side, left : left + side]
    mirrored, flipped, transposed = torch.randint(2, (3,), generator=rng).tolist()
    if mirrored:
        part = part[:, ::-1]
    if flipped and not upright:
        part = part[::-1]
    if transposed and not upright:
        part = part.transpose(1, 0, 2)
    return part
