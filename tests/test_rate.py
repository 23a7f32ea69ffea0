"""The page on which people rate pictures, in a real browser."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pulse.evaluation.opinions import Shown, to_rate
from pulse.web.rate import Visit, shown_as
from tests.browser import PATIENCE, SHOTS
from tests.systems import UNIX

ROOT = Path(__file__).parents[1]
METHODS, FACES = ("truth", "bicubic"), ("a", "b", "c", "d", "e", "f")
PRESS = "event => document.dispatchEvent(new KeyboardEvent('keydown', event))"
# In one task of the page: two presses from here would race its server.
TWICE = f"keys => keys.forEach(key => ({PRESS})({{key}}))"
GREEN = {face: 40 * number for number, face in enumerate(FACES)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of two methods on some faces; what a picture is, is told by its colour."""
    table = {
        "faces": [{"name": face} for face in FACES],
        "methods": [{"name": method} for method in METHODS],
    }
    (tmp_path / "table.json").write_text(json.dumps(table), "utf-8")
    for method, red in zip(METHODS, (255, 0), strict=True):
        place = tmp_path / "pictures" / method
        place.mkdir(parents=True)
        for face, green in GREEN.items():
            Image.new("RGB", (16, 16), (red, green, 99)).save(place / f"{face}-00.png")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    log = folder / "log"
    command = [
        sys.executable,
        "-m",
        "pulse",
        "evaluate",
        "-o",
        str(folder),
        "--rate",
        "--port",
        "0",
    ]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, text=True)
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while not (found := re.search(r"at (http://127\S+)/ ", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.1)
        yield process, found[1]
    finally:
        process.kill()
        process.wait(PATIENCE)


def colour(page: Any) -> tuple[int, int]:
    """Red and green of the picture that is shown."""
    page.wait_for_function("document.querySelector('.rate img')?.complete")
    script = """() => {
        const canvas = document.createElement('canvas');
        canvas.getContext('2d').drawImage(document.querySelector('.rate img'), 0, 0);
        return Array.from(canvas.getContext('2d').getImageData(2, 2, 1, 1).data);
    }"""
    red, green, *_ = page.evaluate(script)
    return red, green


@UNIX
@pytest.mark.browser
def test_pictures_are_rated_without_names(
    folder: Path, server: tuple[subprocess.Popen[str], str], browser: Any
) -> None:
    process, url = server
    elsewhere: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.on(
        "request",
        lambda r: None if r.url.startswith((url, "data:", "blob:")) else elsewhere.append(r.url),
    )
    page.goto(url)
    seen = []
    for number in range(len(METHODS) * len(FACES)):
        page.wait_for_selector(f"[data-number='{number}']")
        red, green = colour(page)
        seen.append((red, green))
        if number == 0:
            SHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SHOTS / "rate.png")
            html = page.content()
            assert "bicubic" not in html
            assert "truth" not in html
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        score = 5 if red else 2 - (green == 0)
        page.evaluate(PRESS, {"key": "4", "repeat": True})  # A key that is still held down.
        if number == 0:
            page.evaluate(TWICE, [str(score), "3"])  # Before the next picture is there.
        elif number % 2:
            page.click(f"[data-score='{score}']")
        else:
            page.keyboard.press(str(score))
    page.wait_for_selector("text=Thank you")
    in_order = [(red, green) for green in GREEN.values() for red in (255, 0)]
    assert sorted(seen) == sorted(in_order)
    # By chance: each of half a billion orders is as likely.
    assert seen not in (in_order, sorted(in_order), sorted(in_order, reverse=True))
    assert re.search(r"truth\s+5\.00", page.inner_text("pre"))
    assert elsewhere == []
    context.close()

    answers = [
        json.loads(line)
        for line in (folder / "ratings.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    said = {("truth", face, 5) for face in FACES}
    said |= {("bicubic", face, 1 if face == "a" else 2) for face in FACES}
    assert {(a["method"], a["face"], a["score"]) for a in answers} == said
    assert len({answer["rater"] for answer in answers}) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    printed = (folder / "log").read_text("utf-8")
    assert re.search(r"truth +5\.00 .*\nbicubic +1\.83 +\(1\.\d\d to 2\.00\)", printed)


def test_each_rater_has_an_order_of_his_own(folder: Path) -> None:
    pictures = to_rate(folder)
    visits = [Visit.begun(pictures) for _ in range(3)]
    for visit in visits:
        assert set(visit.order) == set(pictures)
        assert len(visit.order) == len(pictures)
    assert len({visit.order for visit in visits}) == 3
    assert len({visit.rater for visit in visits}) == 3


def test_names_of_methods_cannot_break_the_page(folder: Path) -> None:
    trap = "<img src=x onerror=alert(1)>"
    line = {"method": trap, "face": "a", "score": 3, "rater": "me"}
    (folder / "ratings.jsonl").write_text(json.dumps(line), "utf-8")
    text = shown_as(folder, Visit("me", ()))
    assert "&lt;img src=x onerror=alert(1)&gt;  3.00" in text
    assert "<img" not in text
    text = shown_as(folder, Visit("me", (Shown("truth", "a"), Shown("truth", "b")), 1))
    assert text.count("<button data-score=") == 5
    assert "<b>5</b>like a real photo</button>" in text
    assert "2 of 2; the keys 1 to 5" in text
    assert re.search(
        'data-number="1".*<img alt="the picture to rate" src="data:image/png;', text, re.S
    )
