"""What the tabs beside Face show as HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import gradio as gr
from jinja2 import Environment, PackageLoader


@dataclass(frozen=True)
class Card:
    """What a method made of a face.

    Attributes:
        source: its picture, as a URI, "" where there is none; `others` are those of its further
            candidates.
        kind: what it is, in a word: "imaginary", "enhanced" or "".
        figures: what was measured, as name and value.
    """

    title: str
    words: str
    source: str = ""
    others: tuple[str, ...] = ()
    kind: str = ""
    figures: tuple[tuple[str, str], ...] = ()


@cache
def _parts() -> Any:
    """The macros of `tabs.html`, which escape what they are given."""
    environment = Environment(loader=PackageLoader("pulse.web", ""), autoescape=True)
    return environment.get_template("tabs.html").module


def lead(text: str) -> gr.HTML:
    """What a tab is for, above it."""
    return gr.HTML(str(_parts().lead(text)))


def bar(text: str, strong: str) -> gr.HTML:
    """What to keep in mind, at the lower edge of the window."""
    return gr.HTML(str(_parts().bar(text, strong)), elem_classes="bottom-bar")


def coming(title: str, places: str, *lines: str) -> str:
    """What stands where results will be.

    Args:
        places: HTML of where which result will be.
        lines: what will happen; the first words of each end with a colon.
    """
    return str(_parts().coming(title, places, [line.partition(":") for line in lines]))


def enlargement(small: str, large: str, sign: str = "?") -> str:
    """Places for something small and what it becomes, each with its name under a sign."""
    return str(_parts().enlargement(small, large, sign))


def notes(lines: Sequence[str]) -> str:
    """Sentences on what was made."""
    return str(_parts().notes(lines)) if lines else ""


def cards(made: Sequence[Card]) -> str:
    """What methods made of a face, side by side."""
    return str(_parts().cards(made))


def uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
