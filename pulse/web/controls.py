"""What the page's controls say, as the engine takes it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.search import PRESETS
from pulse.upscale import UpscaleConfig
from pulse.web.studio import apology
from pulse.web.updates import Wish
from stylegan import zoo

FAULT = "Something went wrong inside; the server's log says what. Please try again."
WORDS = {
    "align": "'Take it as it is' for",
    "detector": "detector",
    "device": "device",
    "lr_size": "'Size to match'",
    "scale": "'How much larger'",
    "format": "'Kind of file'",
    "start": "'From second'",
    "end": "'To second'",
}
"""What the page calls the engine's settings."""


def word(setting: str) -> str:
    return WORDS.get(setting, setting)


def sentence(error: Exception) -> str:
    """What to say of an error; what is nobody's mistake goes to the log."""
    text = apology(error, word)
    if text is None:
        logging.getLogger("pulse").error("A fault of the page", exc_info=error)
    return text or FAULT


def order(
    picture: str | None,
    face: int,
    candidates: int,
    steps: int,
    seed: int,
    generator: str,
    lr_size: int,
    tolerance: float,
    preset: str,
    *framing: Any,
) -> tuple[Wish, UpscaleConfig]:
    """What the controls say.

    Raises:
        InputError: they say what cannot be.
    """
    if picture is None:
        raise InputError("Choose a picture first.")
    if None in (face, candidates, steps, seed, lr_size, tolerance):
        raise InputError("A number is missing in the settings.")
    what = wish(picture, face, generator, lr_size, *framing)
    try:
        search = replace(PRESETS[preset], steps=int(steps), tolerance=tolerance)
        size, degrade = what.lr_size, what.degrade
        return what, UpscaleConfig(int(candidates), int(seed), size, search, degrade)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error


def wish(
    picture: str, face: int, generator: str, lr_size: int, as_it_is: bool, *degradation: Any
) -> Wish:
    degrade = _degradation(*degradation)
    return Wish(Path(picture), face, generator, lr_size or None, as_it_is, degrade)


def _degradation(
    pixelated: bool, blur: float, grey: bool, jpeg: int, noise: float
) -> DegradeConfig | None:
    """What happened to the picture; None, which finds out about grey by itself, if nothing."""
    config = DegradeConfig(
        blur=float(blur or 0),
        resampling="box" if pixelated else "bicubic",
        grey=bool(grey),
        jpeg=int(jpeg) if jpeg else None,
        noise=float(noise or 0),
    )
    return None if config == DegradeConfig() else config


def describe(name: str) -> str:
    """A generator as the list of them shows it."""
    model = zoo.find(name)
    if model is None:
        return Path(name).name
    fetched = "" if zoo.is_here(model) else f", fetched first: {zoo.size_of(model) / 1e6:.0f} MB"
    return f"{name}: {model.draws}, {model.resolution} pixels{fetched}"
