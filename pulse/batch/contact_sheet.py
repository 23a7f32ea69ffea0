"""The contact sheet: pages that show all faces of a batch and open without a server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, Template

from pulse.batch.manifest import Entry
from pulse.batch.storage import Folder
from pulse.faces.plausibility import in_words, is_broken
from pulse.upscale import NOTICE

FACES = 500
"""On one page."""
WORDS = {
    "found": "found",
    "not_converged": "not found",
    "nonfinite": "not found, overflowed",
    "error": "error",
}


def write_sheet(
    folder: Folder, entries: Iterable[Entry], count: int, summary: tuple[str, ...]
) -> int:
    """Write `index.html`, and `index-2.html` and so on where there are many faces.

    Args:
        entries: in the order to show, `count` of them.
        summary: sentences for the top.

    Returns:
        How many pages there are. Those of an earlier, larger batch are removed.
    """
    pages = max(1, -(-count // FACES))
    figures: list[dict[str, Any]] = []
    page = 0
    for entry in entries:
        figures.append(_figure(entry))
        if len(figures) == FACES:
            page += 1
            folder.write(_name(page), _page(figures, page, pages, summary))
            figures = []
    if figures or page == 0:
        page += 1
        folder.write(_name(page), _page(figures, page, pages, summary))
    old = page + 1
    there = folder.names("")
    while _name(old) in there:
        folder.remove(_name(old))
        old += 1
    return page


def _name(page: int) -> str:
    return "index.html" if page == 1 else f"index-{page}.html"


def _page(figures: list[dict[str, Any]], page: int, pages: int, summary: tuple[str, ...]) -> bytes:
    near = [n for n in range(1, pages + 1) if n in (1, pages) or abs(n - page) <= 5]
    text = _template().render(
        notice=NOTICE, summary=summary, entries=figures, page=page, pages=pages, near=near
    )
    return text.encode()


@cache
def _template() -> Template:
    environment = Environment(loader=PackageLoader("pulse.batch", ""), autoescape=True)
    environment.filters["name"] = _name
    return environment.get_template("contact_sheet.html")


def _figure(entry: Entry) -> dict[str, Any]:
    """One face as the page shows it: its input, its candidates, and what is known of them."""
    face = f", face {entry.face}" if entry.faces > 1 and entry.face is not None else ""
    words = WORDS.get(entry.status, "")
    if entry.failed:
        words += f": {_text(entry.reason or '')}"
    errors = [error for error in entry.mse if error is not None]
    if errors:
        words += f", best mse {min(errors):.2e}"
    made = [name for name in entry.files if name.startswith("candidate-")]
    shares = entry.plausibility or (None,) * len(made)
    if entry.ranked and (looks := in_words(shares[entry.ranked[0]])):
        words += f", {looks}"
    folder: str | None = None
    pictures: list[dict[str, Any]] = []
    if entry.folder is not None:
        folder = _link(entry.folder)
        order = entry.ranked if len(entry.ranked) == len(made) else range(len(made))
        pictures = [{"link": f"{folder}/input.png", "input": True}]
        pictures += [
            {
                "link": f"{folder}/{_link(made[n])}",
                "input": False,
                "looks": in_words(shares[n]),
                "broken": is_broken(shares[n]),
            }
            for n in order
        ]
    return {
        "kind": "error" if entry.failed else "found" if entry.status == "found" else "missed",
        "title": f"{_text(entry.input)}{face}",
        "words": words,
        "folder": folder,
        "pictures": pictures,
    }


def _link(name: str) -> str:
    return quote(os.fsencode(name))


def _text(text: str) -> str:
    """Text for the page, whatever bytes a file's name holds."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
