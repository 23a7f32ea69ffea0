import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from pulse.batch.contact_sheet import FACES, write_sheet
from pulse.batch.manifest import Entry
from pulse.batch.storage import open_folder


def entry(name: str, status: str = "found", reason: str | None = None) -> Entry:
    folder = None if reason else name
    files = ("candidate-00.png", "candidate-01.png", "input.png", "result.json")
    mse = () if reason else (None, 0.001)
    return Entry(name, folder, name, "0", "0", 0, 1, status, mse, files, 1.0, reason)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if tag == "figure":
            self.figures.append(facts["class"] or "")
        if tag == "img":
            assert facts["loading"] == "lazy"
            self.pictures.append(unquote(facts["src"] or ""))


def test_a_page_for_each_few_hundred(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        entries = [entry(f"{number:04}") for number in range(2 * FACES + 1)]
        assert write_sheet(folder, entries, len(entries), ("All.",)) == 3
        pages = [Page((tmp_path / f"index{n}.html").read_text("utf-8")) for n in ("", "-2", "-3")]
        assert [len(page.figures) for page in pages] == [FACES, FACES, 1]
        assert 'href="index-3.html"' in (tmp_path / "index.html").read_text("utf-8")
        assert write_sheet(folder, entries[:FACES], FACES, ("All.",)) == 1
        assert {path.name for path in tmp_path.glob("*.html")} == {"index.html"}
        assert write_sheet(folder, [], 0, ("Nothing.",)) == 1


def test_the_best_candidate_stands_first_and_a_broken_one_is_marked(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    judged = replace(entry("a"), plausibility=(0.004, 0.431), ranked=(1, 0))
    with folder.owned():
        write_sheet(folder, [judged, entry("old")], 2, ())
    text = (tmp_path / "index.html").read_text("utf-8")
    one, zero = "candidate-01.png", "candidate-00.png"
    first = [f"a/{name}" for name in ("input.png", one, zero)]
    assert Page(text).pictures == [*first, *(f"old/{n}" for n in ("input.png", zero, one))]
    assert "best mse 1.00e-03, looks like a face: 43%" in text
    assert text.count('class="broken"') == 1
    assert re.search(r'title="looks broken" class="broken" [^>]*a/candidate-00', text)


def test_names_and_reasons_cannot_break_it(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    odd = "x/a b\"'<script>&#?%20ü\udcff"
    with folder.owned():
        trap = "<img src=x onerror=alert(1)>.png"
        entries = [entry(odd), entry("b", "not_converged"), entry("c", "error", "<b>bad</b>")]
        entries.append(entry(trap, "error", "It is no picture."))
        write_sheet(folder, entries, 4, ("One & all.", "Of <it>."))
    text = (tmp_path / "index.html").read_text("utf-8")
    page = Page(text)
    assert page.figures == ["found", "missed", "error", "error"]
    assert page.pictures[1] == f"{odd[:-1]}\ufffd/candidate-00.png"
    assert len(page.pictures) == 6
    assert len(re.findall("<script>", text)) == 1
    assert "&lt;b&gt;bad&lt;/b&gt;" in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in text
    assert "best mse 1.00e-03" in text
    assert "imaginary person" in text
    assert "http" not in text
