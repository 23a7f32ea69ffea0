"""The page on which a person says how real pictures look, without knowing what made them.

So PULSE was judged (Menon et al. 2020, section 5.1): mean opinion scores from 1 to 5.
"""

from __future__ import annotations

import base64
import random
import secrets
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import gradio as gr

from pulse.evaluation.opinions import BEST, WORST, Shown, keep, lines_of, opinions, to_rate
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
    if (/^[1-5]$/.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey)
        rate(Number(event.key));
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


def site_of(folder: Path) -> Site:
    """The page for a comparison in a folder.

    Raises:
        InputError: there is none.
    """
    shown = to_rate(folder)

    def begin() -> tuple[Visit, str]:
        order = random.SystemRandom().sample(shown, len(shown))
        visit = Visit(secrets.token_hex(6), tuple(order))
        return visit, _html(folder, visit)

    def rated(visit: Visit, event: gr.SelectData) -> tuple[Visit, str]:
        score, number = event.index, event.value
        if number == visit.number < len(visit.order) and score in range(WORST, BEST + 1):
            keep(folder, visit.order[number], int(score), visit.rater)
            visit = replace(visit, number=number + 1)
        return visit, _html(folder, visit)

    with gr.Blocks(title="PULSE: how real?", analytics_enabled=False) as page:
        visit = gr.State()
        card = gr.HTML(js_on_load=RATE, elem_id="rate")
        page.load(begin, None, [visit, card], api_visibility="private", show_progress="hidden")
        card.select(rated, visit, [visit, card], api_visibility="private", show_progress="hidden")
    return Site(page, CSS)


def _html(folder: Path, visit: Visit) -> str:
    """The picture and its five buttons; at the end what was said of each method."""
    if visit.number == len(visit.order):
        scores = escape("\n".join(lines_of(opinions(folder))))
        return (
            "<div class='rate'><h2>Thank you, that was all.</h2>"
            f"<p>Mean opinions so far, with 95% intervals:</p><pre>{scores}</pre></div>"
        )
    data = base64.b64encode(visit.order[visit.number].file(folder).read_bytes()).decode()
    buttons = "".join(
        f"<button data-score='{score}'><b>{score}</b>{word}</button>"
        for score, word in enumerate(WORDS, WORST)
    )
    return (
        f"<div class='rate' data-number='{visit.number}'>"
        "<h2>How much does this look like a photo of a person?</h2>"
        f"<p>{visit.number + 1} of {len(visit.order)}; the keys 1 to 5 do it, too.</p>"
        f"<p><img alt='the picture to rate' src='data:image/png;base64,{data}'></p>"
        f"<div class='scores'>{buttons}</div></div>"
    )
