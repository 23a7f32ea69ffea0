"""What the page calls the engine's settings, and says of its errors."""

from __future__ import annotations

import logging
from pathlib import Path

from pulse.web.studio import apology
from stylegan import zoo

FAULT = "Something went wrong inside; the server's log says what. Please try again."
WORDS = {
    "align": "'Take it as it is' for",
    "detector": "detector",
    "device": "device",
    "finish": "'What makes it larger'",
    "lr_size": "'Size to match'",
    "scale": "'How much larger'",
    "format": "'Kind of file'",
    "start": "'From second'",
    "end": "'To second'",
    "size": "'How large'",
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


def describe(name: str) -> str:
    """A generator as the list of them shows it."""
    model = zoo.find(name)
    if model is None:
        return Path(name).name
    fetched = "" if zoo.is_here(model) else f", fetched first: {zoo.size_of(model) / 1e6:.0f} MB"
    return f"{name}: {model.draws}, {model.resolution} pixels{fetched}"
