"""The page's pictures and texts as HTML, with the pictures inside, so that no files are left."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_png
from pulse.results import COMPOSITE, PASTED, Result, encode
from pulse.search import State, Status
from pulse.upscale import NOTICE
from pulse.web.studio import CLOSE
from pulse.web.updates import Opening, Preparing, Searching, Waiting

THUMBNAIL = 256
"""Side in pixels of the candidates in the gallery, at most."""
LARGE = 1024
CAUTION = (
    "<b>These people do not exist.</b> This page cannot tell who someone is; what it draws is "
    "shaped by the pictures that its generator was trained on."
)


def label(error: float, tolerance: float) -> str:
    """What an error means, in plain words: close is up to `CLOSE` times the tolerance."""
    if error <= tolerance:
        return "matches the input"
    return "close" if error <= CLOSE * tolerance else "does not match"


def order(state: State) -> list[int]:
    """The candidates' numbers, the nearest match first."""
    errors = state.best.nan_to_num(math.inf).tolist()
    return sorted(range(len(errors)), key=errors.__getitem__)


def caution() -> str:
    return f'<p class="caution" role="note">{CAUTION}</p>'


def explanation() -> str:
    """What stands where the faces will be."""
    return """<ol class="steps">
<li><b>Give it a picture</b> of a face: tiny, blurred, pixelated, or any photo, which is made tiny
first.</li>
<li><b>It searches</b> among all the faces that its generator can draw for some that look just
like that when they are made as tiny.</li>
<li><b>You see several</b>, because very many faces do: each is one that could have been, and none
is the true one.</li>
</ol>"""


def message(text: str) -> str:
    """Something that went wrong, in a sentence."""
    return f'<p class="message" role="alert">{escape(text)}</p>' if text else ""


def status(text: str, share: float | None = None) -> str:
    """What is going on, with a bar if it is known how far it is."""
    bar = ""
    if share is not None:
        percent = round(100 * min(max(share, 0.0), 1.0))
        bar = (
            f'<div class="bar" role="progressbar" aria-label="Progress of the search" '
            f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
            f'<div style="width:{percent}%"></div></div>'
        )
    return f'<div class="status"><p role="status" aria-live="polite">{escape(text)}</p>{bar}</div>'


def progress(update: Waiting | Opening | Preparing | Searching) -> str:
    """How far a visitor's search is."""
    if isinstance(update, Waiting):
        count = update.ahead
        others = "One search comes" if count == 1 else f"{count} searches come"
        return status(f"You are number {count + 1} in the line. {others} first.")
    if isinstance(update, Opening):
        if update.done is None:
            return status(f"Opening the generator {update.generator}.")
        text = f"Fetching the generator {update.generator}: {update.done / 1e6:.0f}"
        if not update.total:
            return status(f"{text} MB.")
        text = f"{text} of {update.total / 1e6:.0f} MB."
        return status(text, update.done / update.total)
    if isinstance(update, Preparing):
        return status("Getting ready. The first search with a generator takes a little longer.")
    state = update.state
    done = sum(value is Status.FOUND for value in state.status)
    left = "" if update.left is None else f", at most {_duration(update.left)} left"
    text = f"Searching: step {state.step} of {state.steps}{left}. {_matches(done, state)}"
    return status(text, state.step / state.steps)


def outcome(result: Result) -> str:
    """What came of a search."""
    state = result.state
    done = sum(value is Status.FOUND for value in state.status)
    text = "Stopped. " if result.interrupted else "Done. "
    text += _matches(done, state)
    if done == 0 and not result.interrupted:
        text += " Try more steps, another seed, or a picture with the whole head in it."
    return status(text)


def _matches(done: int, state: State) -> str:
    of = len(state.status)
    if of == 1:
        return "The face matches the input." if done else "The face does not match the input yet."
    verb = "matches" if done == 1 else "match"
    return f"{done or 'None'} of {of} faces {verb} the input."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"


def gallery(state: State, tolerance: float, over: bool = False) -> str:
    """The candidates, with error and label; in the end best first and to choose from."""
    cards = []
    for place, index in enumerate(order(state) if over else range(len(state.best))):
        error = state.best[index].item()
        text = label(error, tolerance)
        source = synthetic(state.images[index], THUMBNAIL)
        body = (
            f'<img src="{source}" alt="Imaginary face {place + 1}">'
            f'<span class="label {text.split()[0]}">{text}</span>'
            f'<span class="error">error {_error(error)}</span>'
        )
        if over:
            cards.append(_choice(index, body, f"Face {place + 1}, {text}", place == 0))
        else:
            cards.append(f'<li><div class="card">{body}</div></li>')
    name = "The faces, best match first" if over else "The faces as they are now"
    return f'<ul class="gallery" aria-label="{name}">{"".join(cards)}</ul>'


def choices(pictures: Sequence[tuple[Image.Image, str]], chosen: int | None, name: str) -> str:
    """Pictures to choose from, each with its caption."""
    cards = []
    for index, (image, caption) in enumerate(pictures):
        body = f'<img src="{_plain(image)}" alt=""><span>{escape(caption)}</span>'
        cards.append(_choice(index, body, caption, index == chosen))
    return f'<ul class="choices" aria-label="{escape(name)}">{"".join(cards)}</ul>'


def _choice(index: int, body: str, name: str, chosen: bool) -> str:
    return (
        f'<li><button type="button" class="card" data-choice="{index}" '
        f'aria-pressed="{str(chosen).lower()}" aria-label="{escape(name)}">{body}</button></li>'
    )


def matched(face: LRFace) -> str:
    """The small picture that is matched, enlarged in blocks, and what was done to get it."""
    size = face.low.shape[-1]
    notes = "".join(f"<li>{escape(note)}</li>" for note in face.notes)
    return (
        f'<figure class="matched"><img class="blocks" src="{_low(face.low)}" '
        f'alt="The picture that will be matched, {size} by {size} pixels">'
        f"<figcaption>What will be matched: {size}x{size} pixels.</figcaption></figure>"
        f'<ul class="notes">{notes}</ul>'
    )


def detail(result: Result, index: int) -> str:
    """One candidate: a slider between it and the input, and both as small pictures."""
    state = result.state
    error = state.best[index].item()
    text = label(error, result.tolerance)
    size = result.face.low.shape[-1]
    seed = result.config.seed + index
    low = _low(result.face.low)
    return f"""<section class="detail" aria-label="The chosen face">
<h3>The chosen face <span class="label {text.split()[0]}">{text}</span></h3>
<div class="sides"><div class="compare">
<img class="blocks" src="{low}" alt="The input, {size} by {size} pixels">
<img class="after" src="{synthetic(state.images[index], LARGE)}" alt="The imaginary face">
<span class="edge" aria-hidden="true"></span>
<input type="range" min="0" max="100" value="50"
 aria-label="Slide between the input and the imaginary face">
</div>
<div class="pair">
<figure><img class="blocks" src="{low}" alt="The input"><figcaption>the input</figcaption></figure>
<figure><img class="blocks" src="{_low(state.low[index])}" alt="The face, downscaled">
<figcaption>the same face, downscaled</figcaption></figure>
</div></div>
<p class="facts">Error {_error(error)}; a match has at most {result.tolerance:g}.
Seed {seed}, met at step {int(state.best_step[index])}.</p>
</section>"""


def photo(file: Path) -> str:
    """A photo with an imaginary face in it, no larger than the page needs."""
    with Image.open(file) as image:
        picture = image.convert("RGB")
    picture.thumbnail((LARGE, LARGE))
    data = encode(picture, "webp", {"Description": PASTED, "Synthetic": "yes"}, COMPOSITE)
    return (
        f'<figure class="photo"><img src="{_uri(data, "image/webp")}" '
        'alt="Your photo with the imaginary face in it">'
        "<figcaption>Your photo with an imaginary face in it.</figcaption></figure>"
    )


def synthetic(image: Tensor, size: int) -> str:
    """An imaginary picture as a URI, no larger than that and marked as such."""
    picture = to_image(image)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    facts: dict[str, Any] = {"Description": NOTICE, "Synthetic": "yes"}
    return _uri(encode(picture, "webp", facts), "image/webp")


def _low(low: Tensor) -> str:
    """A small picture as a URI; what of it is ignored is grey."""
    return _plain(to_image(torch.where(low.isnan(), 0.5, low)))


def _plain(image: Image.Image) -> str:
    return _uri(to_png(image), "image/png")


def _uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _error(error: float) -> str:
    return f"{error:.5f}" if math.isfinite(error) else "not finite"


def style() -> str:
    """The page's style sheet."""
    return Path(__file__).with_name("page.css").read_text()
