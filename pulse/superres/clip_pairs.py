"""Pairs of small and large clips, made while training: films, and photos that are moved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from pulse.imaging.degrade import BD, DegradeConfig
from pulse.imaging.pictures import InputError, setting
from pulse.superres.pairs import Pair, received
from pulse.superres.shelf import Shelf

TURN, ZOOM, BEND = 0.02, 0.02, 0.5
"""The most that a still turns (radians) and grows (natural logarithm) from frame to frame, and that
parts of it move against each other (LR pixels)."""
STANDING = 0.1
"""Share of the clips of stills in which nothing moves."""
KNOTS = 4
"""Points along a side between which movement, and the shape of what is in front, are smooth."""
CHOICES = 2
"""Places in a still of which the one with the most detail is taken: skies teach little."""
TESTS, TEST_FRAMES, TEST_SIDE = 6, 12, 64
"""Clips that are measured on, their frames, and their side in LR pixels."""


@dataclass(frozen=True)
class ClipConfig:
    """What clips are made of.

    Attributes:
        scale: of the network that is to learn from them.
        patch: side of the LR frames in pixels.
        frames: of each clip.
        degradation: what makes LR of HR; LR is rounded to 8 bits after it, as films are.
        speed: how far a still is moved from frame to frame, in LR pixels, at most; most are slower.
        front: share of the clips of stills in which a part of another passes in front.
        films: share of the clips that are cut out of films, where there are both.
        every: each so manyth frame of a film is also used as a still.
        test_seconds: at the end of a film that are kept apart to measure on.
        held_out: pictures at the end of their order that are kept apart; None is a tenth.
    """

    scale: int = 4
    patch: int = 32
    frames: int = 5
    degradation: DegradeConfig = field(default_factory=lambda: DegradeConfig.parse(BD))
    speed: float = 3.0
    front: float = 0.4
    films: float = 0.5
    every: int = 5
    test_seconds: float = 25.0
    held_out: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError(f"A clip of {self.frames} frames does not move; give 2 or more.")


class Run(NamedTuple):
    """Frames of a film, between two changes of scene: where they stand on the shelf."""

    begin: int
    end: int


class Clips:
    """Stills and films that were read, and clips made of them.

    Attributes:
        stills, films: to learn from.
        runs: what belongs together among the frames of `films`.
        tests: stills that are held out.
    """

    def __init__(
        self,
        config: ClipConfig,
        stills: Shelf,
        tests: Shelf,
        films: Shelf | None = None,
        runs: tuple[Run, ...] = (),
    ) -> None:
        self.config, self.stills, self.tests = config, stills, tests
        self.films = films if films is not None else Shelf()
        self.runs = tuple(run for run in runs if run.end - run.begin >= config.frames)
        # Around each frame so much is degraded with it that it becomes what it would in the whole.
        self._margin = 2 + math.ceil(3 * config.degradation.blur)
        side = (config.patch + 2 * self._margin) * config.scale
        if any(min(self.films[run.begin].shape[:2]) < side for run in self.runs):
            raise InputError(
                f"A film has frames of less than {side} pixels; give a smaller {setting('patch')}."
            )

    @property
    def degradation(self) -> DegradeConfig:
        return self.config.degradation

    def draw(self, count: int, rng: torch.Generator, device: torch.device | str = "cpu") -> Pair:
        """Clips [count, frames, 3, h, w] of random places, moved, turned and mirrored at random.

        Args:
            rng: of the CPU, so that every device is shown the same.
        """
        config = self.config
        side = (config.patch + 2 * self._margin) * config.scale
        clips = torch.stack([self._clip(side, config.frames, rng) for _ in range(count)])
        return self._pair(clips.to(device), rng)

    def held_out(self) -> Iterator[Pair]:
        """Clips of stills that nothing was learned from, always the same ones, one at a time."""
        rng = torch.Generator().manual_seed(0)
        side = (TEST_SIDE + 2 * self._margin) * self.config.scale
        for number in range(TESTS):
            places = self._movement(side, TEST_FRAMES, rng)
            still = self.tests[number % len(self.tests)]
            yield self._pair(_moved(still, places, rng).frames[None], rng)

    def _pair(self, clips: Float[Tensor, "b t 3 H W"], rng: torch.Generator) -> Pair:
        """HR without its margin, and LR made of it with its margin."""
        config, margin = self.config, self._margin
        side = clips.shape[-1] // config.scale
        lr = config.degradation.oblong(side, side, config.scale)(clips)
        lr = received(lr, config.degradation.noise, rng)
        inner, outer = slice(margin, -margin), slice(margin * config.scale, -margin * config.scale)
        return Pair(lr[..., inner, inner], clips[..., outer, outer])

    def _clip(self, side: int, length: int, rng: torch.Generator) -> Float[Tensor, "t 3 s s"]:
        share = self.config.films if self.runs and len(self.stills) else float(bool(self.runs))
        clip = (
            self._cut(side, length, rng)
            if _chance(share, rng)
            else self._composed(side, length, rng)
        )
        mirrored, flipped, turned = torch.randint(2, (3,), generator=rng).tolist()
        axes = [axis for axis, wanted in ((-1, mirrored), (-2, flipped)) if wanted]
        clip = clip.flip(axes)
        return clip.transpose(-1, -2) if turned else clip

    def _cut(self, side: int, length: int, rng: torch.Generator) -> Float[Tensor, "t 3 s s"]:
        """The same place in successive frames of a film, forwards or backwards."""
        run = self.runs[_whole(len(self.runs), rng)]
        begin = run.begin + _whole(run.end - run.begin - length + 1, rng)
        shape = self.films[begin].shape
        top, left = (_whole(n - side + 1, rng) for n in shape[:2])
        frames = [
            self.films[i][top : top + side, left : left + side]
            for i in range(begin, begin + length)
        ]
        clip = _floats(np.stack(frames))
        return clip.flip(0) if _chance(0.5, rng) else clip

    def _composed(self, side: int, length: int, rng: torch.Generator) -> Float[Tensor, "t 3 s s"]:
        """A moved still, and perhaps a part of another that moves in front of it."""
        back = _moved(self._any(self.stills, rng), self._movement(side, length, rng), rng)
        if not _chance(self.config.front, rng):
            return back.frames
        front = _moved(self._any(self.stills, rng), self._movement(side, length, rng), rng)
        return torch.lerp(back.frames, front.frames, front.shape)

    @staticmethod
    def _any(shelf: Shelf, rng: torch.Generator) -> UInt8[np.ndarray, "h w 3"]:
        return shelf[_whole(len(shelf), rng)]

    def _movement(self, side: int, length: int, rng: torch.Generator) -> Float[Tensor, "t s s 2"]:
        """Where each pixel of each frame lies in a still, x then y, from an unknown corner."""
        scale = self.config.scale
        moving = 0.0 if _chance(STANDING, rng) else 1.0
        time = moving * (torch.arange(length) - (length - 1) / 2)
        # Squares of what is even on [0, 1]: most movements are slow, where fine detail shows.
        speed = self.config.speed * scale * float(torch.rand((), generator=rng)) ** 2
        turn, zoom, bend = ((torch.rand(3, generator=rng) * 2 - 1) ** 3).tolist()
        heading = 2 * math.pi * float(torch.rand((), generator=rng))
        angle, size = turn * TURN * time, (zoom * ZOOM * time).exp()
        cos, sin = (x[:, None, None] for x in (size * angle.cos(), size * angle.sin()))
        axis = torch.arange(side) - (side - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        turned = torch.stack((cos * x - sin * y, sin * x + cos * y), -1)
        along = torch.tensor([math.cos(heading), math.sin(heading)]) * speed
        knots = torch.randn(1, 2, KNOTS, KNOTS, generator=rng)
        bent = F.interpolate(knots, size=(side, side), mode="bicubic", align_corners=False)[0]
        drift = along + bend * BEND * scale * bent.permute(1, 2, 0)
        return turned + time[:, None, None, None] * drift


class _Moved(NamedTuple):
    """A still as a camera sees it that moves, turns and comes nearer.

    Attributes:
        shape: how much of each pixel lies in a shape that is drawn on the still, from 0 to 1.
    """

    frames: Float[Tensor, "t 3 s s"]
    shape: Float[Tensor, "t 1 s s"]


def _moved(
    still: UInt8[np.ndarray, "h w 3"], places: Float[Tensor, "t s s 2"], rng: torch.Generator
) -> _Moved:
    low, high = places.amin((0, 1, 2)), places.amax((0, 1, 2))
    size = torch.tensor([still.shape[1], still.shape[0]])
    # Where the still is too small for all of the movement, it is mirrored at its edges.
    room = (size - 1 - (high - low)).clamp(min=0)
    corners = torch.rand(CHOICES, 2, generator=rng) * room
    cuts = []
    for corner in corners:
        begin = (corner.long() - 2).clamp(min=0)
        end = torch.minimum((corner + high - low).long() + 4, size)
        cuts.append((begin, _floats(still[begin[1] : end[1], begin[0] : end[0]][None])))
    chosen = int(torch.stack([_detail(region) for _, region in cuts]).argmax())
    first, region = cuts[chosen]
    places = places - low + corners[chosen] - first
    knots = torch.randn(1, 1, KNOTS, KNOTS, generator=rng)
    height = F.interpolate(knots, size=region.shape[-2:], mode="bicubic", align_corners=False)
    shape = torch.sigmoid(height * min(region.shape[-2:]) / KNOTS)
    region = torch.cat((region, shape), 1).expand(len(places), -1, -1, -1)
    grid = (2 * places + 1) / torch.tensor(region.shape[:-3:-1]) - 1
    seen = F.grid_sample(
        region, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    ).clamp(0, 1)
    return _Moved(seen[:, :3], seen[:, 3:])


def _detail(region: Float[Tensor, "1 3 h w"]) -> Float[Tensor, ""]:
    """How much neighbours differ on average."""
    return region.diff(dim=-1).abs().mean() + region.diff(dim=-2).abs().mean()


def _chance(share: float, rng: torch.Generator) -> bool:
    return float(torch.rand((), generator=rng)) < share


def _whole(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))


def _floats(pixels: UInt8[np.ndarray, "t h w 3"]) -> Float[Tensor, "t 3 h w"]:
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
