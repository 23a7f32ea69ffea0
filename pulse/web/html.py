"""The page's pictures and texts as HTML, with the pictures inside, so that no files are left."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader
from PIL import Image
from torch import Tensor

from pulse.faces.framing import Framing
from pulse.faces.plausibility import in_words, is_broken
from pulse.faces.prepare import LRFace
from pulse.imaging.pictures import to_image, to_png
from pulse.results import PASTED, Result, encode
from pulse.search import State, Status
from pulse.upscale import NOTICE
from pulse.web.history import Past, Visit
from pulse.web.studio import CLOSE
from pulse.web.updates import Opening, Pasted, Preparing, Searching, Waiting
from stylegan.marks import COMPOSITE

THUMBNAIL = 256
"""Side in pixels of the candidates in the gallery, at most."""
LARGE = 1024
CLOSE_UP = 0.3
"""Share of a photo below which a face that is pasted into it is shown more closely, too."""
CHOICE = 128  # Pixels, at most, of a picture to choose.
_FACTS = {"Description": NOTICE, "Synthetic": "yes"}


def label(error: float, tolerance: float, share: float | None = None) -> str:
    """What an error means, in plain words: close is up to `CLOSE` times the tolerance.

    Args:
        share: plausibility; a match that has fallen apart is not called one in green.
    """
    if error <= tolerance:
        return "broken match" if is_broken(share) else "matches the input"
    return "close" if error <= CLOSE * tolerance else "does not match"


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
    if update.finishing and state.exact is not None:
        larger = int(state.exact.isfinite().sum())
        size = state.images.shape[-1]
        text = f"Drawing the faces that match with {size}x{size} pixels: {larger} of {done} done."
        return status(text, larger / max(done, 1))
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
    finisher = result.upscaler.finisher(result.config)
    if finisher is not None and done:
        text += f" What matches was made {state.images.shape[-1]} pixels large by {finisher.name}."
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


def bytes_of(file: Path) -> str:
    """How large a file is, as people say it."""
    count = file.stat().st_size
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(round(count / 1e3), 1)} kB"


def gallery(state: State, tolerance: float) -> str:
    """The candidates while they are searched for, with error and label."""
    cards = [
        {
            "place": index + 1,
            "source": synthetic(state.images[index], THUMBNAIL),
            "label": label(error, tolerance),
            "error": _error(error),
        }
        for index, error in enumerate(state.best.tolist())
    ]
    return str(_parts().gallery(cards, False))


def found(past: Past, chosen: int | None = None) -> str:
    """The faces of a search that is over, best first and to choose from."""
    return str(_parts().gallery(_cards(past, chosen), True))


def earlier(visit: Visit, current: Past | None) -> str:
    """The visit's other searches, the latest first; those for other pictures are folded up."""
    groups = [
        {
            "same": past.asked.wish.picture == visit.picture,
            "input": _low(past.face.low),
            "words": _words(past),
            "cards": _cards(past, None),
        }
        for past in reversed(visit.past)
        if past is not current
    ]
    same = [group for group in groups if group["same"]]
    others = [group for group in groups if not group["same"]]
    return str(_parts().earlier(same, others)) if groups else ""


def _cards(past: Past, chosen: int | None) -> list[dict[str, Any]]:
    return [
        {
            "index": past.first + index,
            "place": place,
            "source": past.thumbnails[index],
            "label": label(past.errors[index], past.tolerance, past.plausibility[index]),
            "error": _error(past.errors[index]),
            "looks": in_words(past.plausibility[index]),
            "chosen": index == chosen,
        }
        for place, index in enumerate(past.ranked, 1)
    ]


def _words(past: Past) -> str:
    seed = past.asked.config.seed
    return f"seed {seed}" if past.near is None else f"like the face of seed {past.near}"


def thumbnails(state: State) -> tuple[str, ...]:
    """The candidates as the gallery shows them."""
    return tuple(synthetic(image, THUMBNAIL) for image in state.images)


def choices(
    pictures: Sequence[tuple[Image.Image, str]],
    chosen: int | None,
    name: str,
    everyone: int | None = None,
) -> str:
    """Pictures to choose from, which are shrunk, each with its caption.

    Args:
        everyone: what choosing all of them is; None where that cannot be.
    """
    for image, _ in pictures:
        image.thumbnail((CHOICE, CHOICE))
    shown = [(_plain(image), caption) for image, caption in pictures]
    return str(_parts().choices(shown, chosen, name, everyone))


def matched(face: LRFace) -> str:
    """The small picture that is matched, enlarged in blocks, and what was done to get it."""
    return str(_parts().matched(_low(face.low), face.low.shape[-1], face.notes))


def detail(past: Past, index: int) -> str:
    """One face: a slider between it and the input, both as small pictures, and it alone."""
    error = past.errors[index]
    with Image.open(past.file(index)) as image:
        source = _shown(image.convert("RGB"), LARGE)
    face = {
        "label": label(error, past.tolerance, past.plausibility[index]),
        "error": _error(error),
        "looks": in_words(past.plausibility[index]),
        "tolerance": f"{past.tolerance:g}",
        "size": past.face.low.shape[-1],
        "seed": past.asked.config.seed + index,
        "near": past.near,
        "step": past.steps[index],
        "drawn": past.drawn,
        "pixels": past.size,
        "finisher": past.finisher if error <= past.tolerance else None,
        "input": _low(past.face.low),
        "source": source,
        "low": _marked_low(past.low[index]),
    }
    return str(_parts().detail(face))


def photo(pasted: Pasted, framing: Framing) -> str:
    """A photo before and after an imaginary face came in, whole and the face more closely."""
    with Image.open(pasted.file) as image:
        after = image.convert("RGB")
    before = pasted.photo.convert("RGB")
    views = [("The whole photo", before, after)]
    (left, top), (right, bottom) = framing.frame.quad.min(0), framing.frame.quad.max(0)
    box = (
        max(round(left), 0), max(round(top), 0),
        min(round(right), after.width), min(round(bottom), after.height),
    )  # fmt: skip
    if (box[2] - box[0]) * (box[3] - box[1]) < CLOSE_UP * after.width * after.height:
        views.insert(0, ("The face, closer", before.crop(box), after.crop(box)))
    shown = []
    for title, old, new in views:
        old.thumbnail((LARGE, LARGE))
        new.thumbnail((LARGE, LARGE))
        facts = {"Description": PASTED, "Synthetic": "yes"}
        made = _uri(encode(new, "webp", facts, COMPOSITE), "image/webp")
        shown.append({"title": title, "before": _jpeg(old), "after": made, "size": new.size})
    return str(_parts().photo(shown, pasted.note))


def synthetic(image: Tensor, size: int) -> str:
    """An imaginary picture as a URI, no larger than that and marked as such."""
    return _shown(to_image(image), size)


def _shown(picture: Image.Image, size: int) -> str:
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


def _jpeg(image: Image.Image) -> str:
    """Something of the visitor's own, which would be heavy as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return _uri(buffer.getvalue(), "image/jpeg")


def _uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _error(error: float) -> str:
    return f"{error:.5f}" if math.isfinite(error) else "not finite"


def command(text: str) -> str:
    """A command line, with a button that copies it."""
    return str(_parts().command(text)) if text else ""


def style() -> str:
    """The page's style sheet."""
    return Path(__file__).with_name("page.css").read_text("utf-8")
