"""The contact sheet: pages that show all faces of a batch and open without a server."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from urllib.parse import quote

from pulse.batch.manifest import Entry
from pulse.batch.storage import Folder
from pulse.upscale import NOTICE

FACES = 500
"""On one page."""
WORDS = {
    "found": "found",
    "not_converged": "not found",
    "nonfinite": "not found, overflowed",
    "error": "error",
}

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PULSE: imaginary faces</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fafafa }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(17em, 1fr)); gap: 1em }
figure { margin: 0; padding: .7em; background: #fff; border: 1px solid #ddd; border-radius: 6px;
  border-top: 4px solid #b58900 }
figure.found { border-top-color: #2a8a3c }
figure.error { border-top-color: #c0392b }
figure div { display: flex; flex-wrap: wrap; gap: 4px }
img { width: 4.9em; height: 4.9em; object-fit: cover; background: #eee }
img.input { image-rendering: pixelated; outline: 2px solid #888; outline-offset: -2px }
figcaption { overflow-wrap: anywhere; margin-top: .4em }
small { color: #666 }
nav { margin: 1em 0 }
label, nav a { margin-right: 1em }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } figure { background: #222; border-color: #444 }
  small { color: #999 } a { color: #8ab4f8 } }
</style></head><body>
<h1>Imaginary faces</h1>
"""
FILTER = """<nav id="show"></nav>
<script>
const kinds = {"all": "all", "found": "found", "missed": "not found", "error": "errors"};
for (const kind in kinds) {
  const label = document.createElement("label"), choice = document.createElement("input");
  choice.type = "radio"; choice.name = "kind"; choice.checked = kind === "all";
  choice.onchange = () => document.querySelectorAll("figure").forEach(
    figure => figure.hidden = kind !== "all" && figure.className !== kind);
  label.append(choice, " " + kinds[kind]);
  document.getElementById("show").append(label);
}
</script>
"""


def write_sheet(folder: Folder, entries: Iterable[Entry], count: int, summary: str) -> int:
    """Write `index.html`, and `index-2.html` and so on where there are many faces.

    Args:
        entries: in the order to show, `count` of them.
        summary: a sentence for the top.

    Returns:
        How many pages there are. Those of an earlier, larger batch are removed.
    """
    pages = max(1, -(-count // FACES))
    figures: list[str] = []
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


def _page(figures: list[str], page: int, pages: int, summary: str) -> bytes:
    links = ""
    if pages > 1:
        near = [n for n in range(1, pages + 1) if n in (1, pages) or abs(n - page) <= 5]
        shown = (f"<b>{n}</b> " if n == page else f'<a href="{_name(n)}">{n}</a>' for n in near)
        links = f"<nav>Page {' '.join(shown)}</nav>"
    top = f"<p>{html.escape(NOTICE)}</p><p>{html.escape(summary)}</p>"
    body = "\n".join(figures)
    text = f"{HEAD}{top}\n{FILTER}{links}\n<main>\n{body}\n</main>\n{links}</body></html>\n"
    return text.encode()


def _figure(entry: Entry) -> str:
    """One face: its input, its candidates, and what is known of them."""
    kind = "error" if entry.failed else "found" if entry.status == "found" else "missed"
    face = f", face {entry.face}" if entry.faces > 1 and entry.face is not None else ""
    caption = f"{_text(entry.input)}{face}<br><small>{WORDS.get(entry.status, '')}"
    if entry.failed:
        caption += f": {_text(entry.reason or '')}"
    errors = [error for error in entry.mse if error is not None]
    if errors:
        caption += f", best mse {min(errors):.2e}"
    pictures = ""
    if entry.folder is not None:
        link = _link(entry.folder)
        caption += f' <a href="{link}/comparison.png">compare</a>'
        names = ["input.png", *(name for name in entry.files if name.startswith("candidate-"))]
        for name in names:
            like = ' class="input" alt="what was matched"'
            like = like if name == "input.png" else ' alt="imaginary face"'
            pictures += (
                f'<a href="{link}/{_link(name)}"><img{like} loading="lazy" '
                f'src="{link}/{_link(name)}"></a>'
            )
    return (
        f'<figure class="{kind}"><div>{pictures}</div>'
        f"<figcaption>{caption}</small></figcaption></figure>"
    )


def _link(name: str) -> str:
    return quote(os.fsencode(name))


def _text(text: str) -> str:
    """Text for the page, whatever bytes a file's name holds."""
    return html.escape(os.fsencode(text).decode(errors="replace"))
