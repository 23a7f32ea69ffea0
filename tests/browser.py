"""What tests of pages need to drive a browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# CI keeps them; elsewhere they are where nothing tracks them.
SHOTS = Path(
    os.environ.get("PULSE_SCREENSHOTS", Path(__file__).parents[1] / "results" / "screenshots")
)
UNREADABLE = """() => {
    const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = colour => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) =>
        top.map((x, i) => i < 3 ? x * top[3] + under[i] * (1 - top[3]) : 1);
    const ground = e => e === null ? [255, 255, 255, 1]
        : over(rgba(getComputedStyle(e).backgroundColor), ground(e.parentElement));
    const light = colour => colour.slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0.05);
    return [...document.querySelectorAll('body *')].flatMap(e => {
        const own = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim());
        const text = own.join('') || (e.matches('input[type=number], input[type=text]') && e.value);
        if (!text || !e.checkVisibility({visibilityProperty: true})) return [];
        const style = getComputedStyle(e), back = ground(e);
        const [a, b] = [light(over(rgba(style.color), back)), light(back)];
        const ratio = Math.max(a / b, b / a), large = parseFloat(style.fontSize) >= 24;
        return ratio < (large ? 3 : 4.5) ? [`${ratio.toFixed(2)} ${e.tagName}: ${text}`] : [];
    });
}"""
"""Text that is seen with too little contrast to its ground (WCAG 2.1, 1.4.3): ratio and words."""
PATIENCE = 60  # Seconds, for machines that are busy.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium is here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()
