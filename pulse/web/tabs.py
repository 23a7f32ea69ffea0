"""The tabs beside Face."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from pulse.imaging.encoding import needs_pyav
from pulse.imaging.pictures import InputError
from pulse.web import html
from pulse.web.compare import CompareTab
from pulse.web.jobs import Networks
from pulse.web.markup import lead
from pulse.web.photo import PhotoTab
from pulse.web.studio import Studio
from pulse.web.updates import Limits


def other_tabs(studio: Studio, examples: list[Path]) -> None:
    """Photo, Film and Compare, inside Gradio's `Tabs`.

    Args:
        examples: pictures that visitors may try.
    """
    networks = Networks(studio.device, studio.precision)
    with gr.Tab("Photo"):
        PhotoTab(studio, networks, examples)
    with gr.Tab("Film"):
        try:
            with needs_pyav():
                from pulse.web.film import FilmTab
        except InputError as error:
            lead("Films are enlarged here where the extra for films is installed.")
            gr.HTML(html.message(str(error)), elem_id="film-problem")
        else:
            FilmTab(studio, networks)
    with gr.Tab("Compare"):
        CompareTab(studio, examples)


def limit_of(limits: Limits) -> int:
    """Bytes of the largest file that is taken anywhere; each tab has its own limit."""
    return max(limits.upload, limits.film)


def style() -> str:
    """The page's style sheet."""
    return html.style() + Path(__file__).with_name("tabs.css").read_text("utf-8")
