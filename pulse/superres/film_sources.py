"""Photos and films that frame-recurrent networks learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from pulse.imaging.motion import warp
from pulse.superres.clip_pairs import ClipConfig, Clips, Run
from pulse.superres.networks.frvsr import LucasKanade
from pulse.superres.pairs import PairConfig
from pulse.superres.recurrent import changed
from pulse.superres.shelf import Shelf
from pulse.superres.sources import FilmFrame, read_film, read_stills

_SMALLER = 8
"""How many times smaller frames are looked at to tell whether the scene changes."""


def read_clips(data: Sequence[Path], config: ClipConfig) -> Clips:
    """Decode pictures and films and keep some of them apart.

    Args:
        data: as for `read_pairs`; what that takes as stills are stills here too, so clips can be
            made of photos alone.

    Raises:
        InputError: something cannot be read, or is too small or too little.
    """
    pair_config = PairConfig(
        scale=config.scale,
        patch=config.patch,
        degradation=config.degradation,
        resized=True,
        every=config.every,
        test_seconds=config.test_seconds,
        held_out=config.held_out,
    )
    collected, paths = read_stills(data, pair_config)
    films, runs = Shelf(), []
    for path in paths:
        runs += _runs(read_film(path, pair_config, collected), films)
    pairs = collected.pairs()
    return Clips(config, pairs.training, pairs.tests, films, tuple(runs))


def _runs(frames: Iterator[FilmFrame], films: Shelf) -> list[Run]:
    """Put a film's frames, but for its last seconds, on the shelf; the scenes that they are of."""
    begins = [len(films)]
    before: UInt8[np.ndarray, "h w 3"] | None = None
    for pixels, test in frames:
        if test:
            continue
        if before is not None and _differs(before, pixels):
            begins.append(len(films))
        films.add(pixels)
        before = pixels
    return [Run(*ends) for ends in zip(begins, [*begins[1:], len(films)], strict=True)]


def _differs(before: UInt8[np.ndarray, "h w 3"], now: UInt8[np.ndarray, "h w 3"]) -> bool:
    if before.shape != now.shape:
        return True
    one, other = (
        torch.from_numpy(np.array(Image.fromarray(x).reduce(_SMALLER))).permute(2, 0, 1)[None] / 255
        for x in (before, now)
    )
    return bool(changed(warp(one, LucasKanade()(one, other)), other))
