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

from tests.browser import PATIENCE, SHOTS
from tests.systems import UNIX

ROOT = Path(__file__).parents[1]
METHODS = ("truth", "bicubic")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A comparison of two methods on two faces; what a picture is, is told by its colour."""
    table = {
        "faces": [{"name": "a"}, {"name": "b"}],
        "methods": [{"name": method} for method in METHODS],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    for method, red in zip(METHODS, (255, 0), strict=True):
        place = tmp_path / "pictures" / method
        place.mkdir(parents=True)
        for face, green in (("a", 0), ("b", 255)):
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
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, text=True)
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while not (found := re.search(r"at (http://127\S+)/ ", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
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
    for number in range(4):
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
        if number % 2:
            page.click(f"[data-score='{score}']")
        else:
            page.keyboard.press(str(score))
            page.keyboard.press("3")  # Too quick: the next picture is not there yet.
    page.wait_for_selector("text=Thank you")
    assert sorted(seen) == [(0, 0), (0, 255), (255, 0), (255, 255)]
    assert re.search(r"truth\s+5\.00", page.inner_text("pre"))
    assert elsewhere == []
    context.close()

    answers = [
        json.loads(line) for line in (folder / "ratings.jsonl").read_text().split("\n") if line
    ]
    assert {(a["method"], a["face"], a["score"]) for a in answers} == {
        ("truth", "a", 5), ("truth", "b", 5), ("bicubic", "a", 1), ("bicubic", "b", 2),
    }  # fmt: skip
    assert len({answer["rater"] for answer in answers}) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    said = (folder / "log").read_text()
    assert re.search(r"truth +5\.00 .*\nbicubic +1\.50 +\(1\.00 to 2\.00\)", said)
