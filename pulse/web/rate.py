"""The page on which a person says how real pictures look, without knowing what made them.

So PULSE was judged (Menon et al. 2020, section 5.1): mean opinion scores from 1 to 5.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, PackageLoader

from pulse.evaluation.opinions import BEST, WORST, Shown, keep, lines_of, opinions, to_rate
from pulse.web.markup import uri
from pulse.web.server import Site

WORDS = ("clearly made up", "poor", "fair", "good", "like a real photo")
# A click on a button, or a key; each picture is rated once, however quick the fingers are.
RATE = """
let rated = -1;
const rate = (score) => {
    const card = element.querySelector('[data-number]');
    if (!card || Number(card.dataset.number) === rated) return;
    rated = Number(card.dataset.number);
    trigger('select', {index: score, value: rated});
};
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-score]');
    if (button) rate(Number(button.dataset.score));
});
document.addEventListener('keydown', (event) => {
    const plain = !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (plain && /^[1-5]$/.test(event.key)) rate(Number(event.key));
});
"""
CSS = """
.gradio-container { max-width: 640px !important; margin: 0 auto !important; }
.rate { text-align: center; }
.rate img { width: min(100%, 384px); aspect-ratio: 1; border-radius: var(--radius-lg); }
.rate .scores { display: flex; flex-wrap: wrap; gap: 0.5rem; justify-content: center; }
.rate button {
    min-width: 6.5rem; padding: 0.6rem; cursor: pointer; color: var(--body-text-color);
    background: var(--block-background-fill); border: 1px solid var(--border-color-primary);
    border-radius: var(--radius-lg);
}
.rate button:hover { border-color: var(--color-accent); }
.rate button:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
.rate button b { display: block; font-size: 1.2rem; }
.rate pre { text-align: left; display: inline-block; }
"""


@dataclass(frozen=True)
class Visit:
    """One person's way through the pictures.

    Attributes:
        rater: tells his answers from others'.
        order: in which he sees them.
        number: of the one that he sees.
    """

    rater: str
    order: tuple[Shown, ...]
    number: int = 0

    @classmethod
    def begun(cls, shown: Sequence[Shown]) -> Visit:
        """By somebody new, who sees the pictures in an order of his own."""
        order = random.SystemRandom().sample(shown, len(shown))
        return cls(secrets.token_hex(6), tuple(order))


def site_of(folder: Path) -> Site:
    """The page for a comparison in a folder.

    Raises:
        InputError: there is none.
    """
    shown = to_rate(folder)

    def begin() -> tuple[Visit, str]:
        visit = Visit.begun(shown)
        return visit, shown_as(folder, visit)

    def rated(visit: Visit, event: gr.SelectData) -> tuple[Visit, str]:
        score, number = event.index, event.value
        if number == visit.number < len(visit.order) and score in range(WORST, BEST + 1):
            keep(folder, visit.order[number], int(score), visit.rater)
            visit = replace(visit, number=number + 1)
        return visit, shown_as(folder, visit)

    with gr.Blocks(title="PULSE: how real?", analytics_enabled=False) as page:
        visit = gr.State()
        card = gr.HTML(js_on_load=RATE, elem_id="rate")
        page.load(begin, None, [visit, card], api_visibility="private", show_progress="hidden")
        card.select(rated, visit, [visit, card], api_visibility="private", show_progress="hidden")
    return Site(page, CSS)


def shown_as(folder: Path, visit: Visit) -> str:
    """The picture and its five buttons; at the end what was said of each method."""
    if visit.number == len(visit.order):
        return str(_parts().thanks(lines_of(opinions(folder))))
    source = uri(visit.order[visit.number].file(folder).read_bytes(), "image/png")
    words = enumerate(WORDS, WORST)
    return str(_parts().card(visit.number, len(visit.order), source, list(words)))


@cache
def _parts() -> Any:
    """The macros of `rate.html`, which escape what they are given."""
    environment = Environment(loader=PackageLoader("pulse.web", ""), autoescape=True)
    return environment.get_template("rate.html").module
