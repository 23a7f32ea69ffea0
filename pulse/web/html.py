"""The page's pictures and texts as HTML, with the pictures inside, so that no files are left."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader
from PIL import Image
from torch import Tensor

from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_png
from pulse.results import PASTED, Result, encode
from pulse.search import State, Status
from pulse.upscale import NOTICE
from pulse.web.studio import CLOSE
from pulse.web.updates import Opening, Preparing, Searching, Waiting
from stylegan.marks import COMPOSITE

THUMBNAIL = 256
"""Side in pixels of the candidates in the gallery, at most."""
LARGE = 1024
CHOICE = 128  # Pixels, at most, of a picture to choose.
_FACTS = {"Description": NOTICE, "Synthetic": "yes"}


def label(error: float, tolerance: float) -> str:
    """What an error means, in plain words: close is up to `CLOSE` times the tolerance."""
    if error <= tolerance:
        return "matches the input"
    return "close" if error <= CLOSE * tolerance else "does not match"


def order(state: State) -> list[int]:
    """The candidates' numbers, the nearest match first."""
    errors = state.best.nan_to_num(math.inf).tolist()
    return sorted(range(len(errors)), key=errors.__getitem__)


@cache
def _parts() -> Any:
    """The macros of `parts.html`, which escape what they are given."""
    environment = Environment(loader=PackageLoader("pulse.web", ""), autoescape=True)
    return environment.get_template("parts.html").module


def caution() -> str:
    return str(_parts().caution())


def explanation() -> str:
    """What stands where the faces will be."""
    return str(_parts().explanation())


def message(text: str) -> str:
    """Something that went wrong, in a sentence."""
    return str(_parts().message(text)) if text else ""


def status(text: str, share: float | None = None) -> str:
    """What is going on, with a bar if it is known how far it is."""
    percent = None if share is None else round(100 * min(max(share, 0.0), 1.0))
    return str(_parts().status(text, percent))


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
    left = "" if update.left is None else f", at most {duration(update.left)} left"
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


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min"


def gallery(state: State, tolerance: float, over: bool = False) -> str:
    """The candidates, with error and label; in the end best first and to choose from."""
    cards = [
        {
            "index": index,
            "place": place + 1,
            "source": synthetic(state.images[index], THUMBNAIL),
            "label": label(state.best[index].item(), tolerance),
            "error": _error(state.best[index].item()),
        }
        for place, index in enumerate(order(state) if over else range(len(state.best)))
    ]
    return str(_parts().gallery(cards, over))


def choices(pictures: Sequence[tuple[Image.Image, str]], chosen: int | None, name: str) -> str:
    """Pictures to choose from, which are shrunk, each with its caption."""
    for image, _ in pictures:
        image.thumbnail((CHOICE, CHOICE))
    shown = [(_plain(image), caption) for image, caption in pictures]
    return str(_parts().choices(shown, chosen, name))


def matched(face: LRFace) -> str:
    """The small picture that is matched, enlarged in blocks, and what was done to get it."""
    return str(_parts().matched(_low(face.low), face.low.shape[-1], face.notes))


def detail(result: Result, index: int) -> str:
    """One candidate: a slider between it and the input, and both as small pictures."""
    state, error = result.state, result.state.best[index].item()
    face = {
        "label": label(error, result.tolerance),
        "error": _error(error),
        "tolerance": f"{result.tolerance:g}",
        "size": result.face.low.shape[-1],
        "seed": result.config.seed + index,
        "step": int(state.best_step[index]),
        "input": _low(result.face.low),
        "source": synthetic(state.images[index], LARGE),
        "low": _marked_low(state.low[index]),
    }
    return str(_parts().detail(face))


def photo(file: Path) -> str:
    """A photo with an imaginary face in it, no larger than the page needs."""
    with Image.open(file) as image:
        picture = image.convert("RGB")
    picture.thumbnail((LARGE, LARGE))
    data = encode(picture, "webp", {"Description": PASTED, "Synthetic": "yes"}, COMPOSITE)
    return str(_parts().photo(_uri(data, "image/webp")))


def synthetic(image: Tensor, size: int) -> str:
    """An imaginary picture as a URI, no larger than that and marked as such."""
    picture = to_image(image)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return _uri(encode(picture, "webp", _FACTS), "image/webp")


def _low(low: Tensor) -> str:
    """A small picture as a URI; what of it is ignored is grey."""
    return _plain(to_image(torch.where(low.isnan(), 0.5, low)))


def _marked_low(low: Tensor) -> str:
    """What an imaginary face becomes when it is downscaled, as it is and marked as such."""
    return _uri(encode(to_image(low), "png", _FACTS), "image/png")


def _plain(image: Image.Image) -> str:
    return _uri(to_png(image), "image/png")


def _uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _error(error: float) -> str:
    return f"{error:.5f}" if math.isfinite(error) else "not finite"


def style() -> str:
    """The page's style sheet."""
    return Path(__file__).with_name("page.css").read_text("utf-8")
