"""The tabs beside Face in a real browser, and what programs get of them."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pulse.imaging.clips import open_clip
from pulse.photos import ENHANCED
from pulse.superres import PictureConfig, load, upscale
from pulse.upscale import NOTICE
from stylegan.marks import COMPOSITE, SOURCE_TYPE, XMP_KEY
from tests.browser import PATIENCE, UNREADABLE
from tests.films import Kind, decoded, make_film, picture
from tests.test_page import FACE, TWO, chosen, client, set_steps, shoot, upload
from tests.test_page import server as server
from tests.test_page import tiny_file as tiny_file
from tests.test_page import visit as visit

WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 1000}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True
}  # fmt: skip
Visit = Callable[..., Any]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small photo with a date in it."""
    exif = Image.Exif()
    exif[0x0132] = "2001:02:03 04:05:06"
    file = tmp_path / "garden.jpg"
    Image.fromarray(picture(3, 40, 30)).save(file, exif=exif, quality=95)
    return file


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_film(tmp_path / "walk.mp4", Kind(size=(48, 32), times=range(0, 12 * 3600, 3600)))


def opened(page: Any, tab: str) -> str:
    """Go to a tab; what its parts' names begin with."""
    page.get_by_role("tab", name=tab).click()
    name = tab.lower()
    page.wait_for_selector(f"#{name}-run")
    return name


def fits(page: Any) -> None:
    """Nothing is cut off at the side."""
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    clipped = page.evaluate(
        """() => [...document.querySelectorAll(
            'button:not(.label-wrap), h1, h3, p, dt, dd, label, figcaption')]
        .filter(e => e.offsetParent !== null && e.textContent.trim())
        .filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
            && getComputedStyle(e).display !== 'inline')
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert clipped == []


def results_before_settings(page: Any, *parts: str) -> None:
    """On a phone, what was made comes right after the button, and what can be set last."""
    boxes = [page.locator(f"#{part}").bounding_box() for part in parts]
    if page.viewport_size["width"] < 800:
        assert [box["y"] for box in boxes] == sorted(box["y"] for box in boxes)
    else:
        assert boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"]


BAND = 40
"""Width in pixels of the stripes in which something has to be seen."""


def no_half_is_empty(page: Any) -> None:
    """In most stripes of either half of the window, down to the bar at its lower edge."""
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        pixels = np.asarray(shot.convert("RGB")).astype(int)
    lower = min(box["y"] for box in map(_box, page.locator(".caution:visible").all()))
    rows, columns = int(lower) // BAND, pixels.shape[1] // BAND
    squares = pixels[: rows * BAND, : columns * BAND].reshape(rows, BAND, columns, BAND, 3)
    used = np.ptp(squares, axis=(1, 3)).max(-1) > 8
    for half in (used[:, : columns // 2], used[:, columns // 2 :]):
        assert half.any(0).mean() > 0.7
        assert half.any(1).mean() > 0.65


def _box(part: Any) -> dict[str, float]:
    return part.bounding_box()


@pytest.mark.browser
def test_no_half_of_a_tab_is_empty_at_first(visit: Visit) -> None:
    page = visit(**WIDE)
    no_half_is_empty(page)
    for tab in ("Photo", "Film", "Compare"):
        name = opened(page, tab)
        page.wait_for_selector(f"#{name}-run")
        assert page.locator(".coming:visible").count() >= 2
        shoot(page, f"{name}-first")
        no_half_is_empty(page)


@pytest.mark.browser
@pytest.mark.parametrize("options", [WIDE, PHONE], ids=["wide", "phone"])
def test_face(visit: Visit, options: dict[str, Any]) -> None:
    page = visit(**options)
    width = options["viewport"]["width"]
    fits(page)
    shoot(page, f"face-tab-{width}", full=True)
    upload(page, TWO)
    page.click("#faces [data-choice='1']")
    set_steps(page, 3)
    fits(page)
    page.click("#run")
    page.wait_for_selector("#gallery [data-choice]")
    page.wait_for_selector("#run", state="visible")
    assert page.locator("#paste").is_visible()
    assert page.get_by_role("tab").filter(visible=True).count() == 4  # None is hidden in a menu.
    fits(page)
    results_before_settings(page, "run", "gallery", "downloads", "examples")
    page.click("#settings > button")
    shoot(page, f"face-result-{width}", full=True)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit: Visit, scheme: str) -> None:
    page = visit(**WIDE, color_scheme=scheme)
    page.wait_for_function(
        f"document.body.classList.contains('dark') === {str(scheme == 'dark').lower()}"
    )
    page.click("#run")
    page.wait_for_selector("#problem p")
    page.click("#settings > button")
    page.wait_for_selector("#steps")
    assert page.evaluate(UNREADABLE) == []
    shoot(page, f"face-settings-{scheme}", full=True)
    for tab in ("Photo", "Film", "Compare"):
        name = opened(page, tab)
        page.click(f"#{name}-run")
        page.wait_for_selector(f"#{name}-problem p")
        assert page.evaluate(UNREADABLE) == []
        shoot(page, f"{name}-tab-{scheme}")


@pytest.mark.browser
@pytest.mark.parametrize("options", [WIDE, PHONE], ids=["wide", "phone"])
def test_photo(visit: Visit, photo: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    page = visit(**options)
    width = options["viewport"]["width"]
    opened(page, "Photo")
    fits(page)
    shoot(page, f"photo-tab-{width}", full=True)
    page.set_input_files("#photo-picture input[type=file]", photo)
    page.wait_for_selector("#photo-status :text('40x30 pixels, which become 160x120')")
    chosen(page, "photo-network", "srresnet-x4")
    page.click("#photo-run")
    page.wait_for_selector("#photo-download")
    assert page.inner_text("#photo-status").startswith("Done: 160x120 pixels")
    page.wait_for_function(
        """() => [...document.querySelectorAll('#photo-slider img')]
        .filter(i => i.complete && i.naturalWidth === 160).length === 2"""
    )
    assert ENHANCED in page.inner_text("#photo-notes")
    fits(page)
    results_before_settings(page, "photo-run", "photo-slider", "photo-download", "photo-examples")
    shoot(page, f"photo-result-{width}", full=True)
    with page.expect_download() as event:
        page.click("#photo-download")
    assert event.value.suggested_filename == "garden-enlarged.jpg"
    event.value.save_as(tmp_path / "result.jpg")
    with Image.open(tmp_path / "result.jpg") as image:
        assert image.size == (160, 120)
        assert image.getexif()[0x0132] == "2001:02:03 04:05:06"
        assert COMPOSITE.encode() in image.info["xmp"]
    # Without the photo its result is gone, too.
    page.click("#photo-picture button[aria-label*='Clear'], #photo-picture [aria-label*='emove']")
    page.wait_for_selector("#photo-download", state="hidden")
    assert page.locator("#photo-slider").is_hidden()


@pytest.mark.browser
def test_a_photo_can_be_stopped_and_mistakes_get_a_sentence(visit: Visit, tmp_path: Path) -> None:
    page = visit(**WIDE)
    opened(page, "Photo")
    page.click("#photo-run")
    page.wait_for_selector("#photo-problem :text('Choose a photo first.')")
    text = tmp_path / "text.png"
    text.write_text("no picture", "utf-8")
    page.set_input_files("#photo-picture input[type=file]", text)
    page.wait_for_selector("#photo-problem :text('The photo is not a picture')")
    page.click("#photo-picture button[aria-label*='Clear'], #photo-picture [aria-label*='emove']")
    large = tmp_path / "large.png"
    Image.fromarray(picture(1, 1000, 800)).save(large)
    page.set_input_files("#photo-picture input[type=file]", large)
    page.wait_for_selector("#photo-status :text('which become 4000x3200')")
    assert page.locator("#photo-problem p").count() == 0
    chosen(page, "photo-network", "srresnet-x4")
    page.click("#photo-run")
    page.wait_for_selector("#photo-status :text('Tile ')")
    page.wait_for_selector("#photo-run", state="hidden")
    page.click("#photo-stop")
    page.wait_for_selector("#photo-status :text('Stopped before anything was made.')")
    page.wait_for_selector("#photo-run")
    assert page.locator("#photo-download").is_hidden()


@pytest.mark.browser
@pytest.mark.parametrize("options", [WIDE, PHONE], ids=["wide", "phone"])
def test_film(visit: Visit, film: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    page = visit(**options)
    width = options["viewport"]["width"]
    opened(page, "Film")
    fits(page)
    shoot(page, f"film-tab-{width}", full=True)
    page.set_input_files("#film input[type=file]", film)
    page.wait_for_selector("#film-status :text('48x32 pixels, which become 192x128')")
    page.locator("#film-number input").fill("5")
    page.locator("#film-number input").press("Tab")
    page.click("#film-try")
    page.wait_for_selector("#film-status :text('So frame 5 would look.')")
    page.wait_for_function(
        """() => [...document.querySelectorAll('#film-slider img')]
        .filter(i => i.complete && i.naturalWidth === 192).length === 2"""
    )
    page.click("#film-run")
    page.wait_for_selector("#film-download")
    assert page.inner_text("#film-status").startswith("Done: 12 frames of 192x128 pixels")
    # Beside the input, and playable.
    page.wait_for_function(
        """() => [...document.querySelectorAll('video')].filter(v => v.readyState > 1)
        .map(v => v.videoWidth).sort().join() === '192,48'"""
    )
    fits(page)
    results_before_settings(page, "film-run", "film-result", "film-download", "film-part")
    shoot(page, f"film-result-{width}", full=True)
    with page.expect_download() as event:
        page.click("#film-download")
    assert event.value.suggested_filename == "walk-enlarged.mp4"
    event.value.save_as(tmp_path / "result.mp4")
    clip = open_clip(tmp_path / "result.mp4")
    assert (clip.width, clip.height, clip.count) == (192, 128, 12)
    assert [track.kind for track in clip.tracks] == ["audio"]
    assert "neural network enlarged this film" in clip.metadata["comment"]


@pytest.mark.browser
def test_a_film_that_is_stopped(visit: Visit, tmp_path: Path) -> None:
    page = visit(**WIDE)
    opened(page, "Film")
    long = make_film(tmp_path / "long.mp4", Kind((160, 120), range(0, 40 * 3600, 3600), sounds=0))
    page.set_input_files("#film input[type=file]", long)
    page.wait_for_selector("#film-status :text('160x120 pixels, which become 640x480; 40 frames')")
    chosen(page, "film-network", "srresnet-x4")
    page.click("#film-run")
    going = page.wait_for_selector("#film-status p:text-matches('Frame [0-9]+ of 40')")
    assert re.match(r"Frame \d+ of 40, about \d+ (s|min) left\.", going.inner_text())
    page.wait_for_selector("#film-status [role=progressbar]")
    assert page.locator("#film-run").is_hidden()
    page.click("#film-stop")
    page.wait_for_selector("#film-status :text('Stopped before anything was made.')")
    page.wait_for_selector("#film-run", state="visible")
    assert page.locator("#film-stop").is_hidden()
    assert page.locator("#film-download").is_hidden()


@pytest.mark.browser
def test_what_is_no_film_gets_a_sentence(visit: Visit, tmp_path: Path) -> None:
    page = visit(**WIDE)
    opened(page, "Film")
    page.click("#film-run")
    page.wait_for_selector("#film-problem :text('Choose a film first.')")
    long = make_film(tmp_path / "long.mp4", Kind(times=range(0, 60 * 3600, 3600), sounds=0))
    page.set_input_files("#film input[type=file]", long)
    page.wait_for_selector("#film-problem :text('2.4 s of film, and at most 2 s')")
    page.click("#film button[aria-label*='Clear'], #film [aria-label*='emove']")
    page.wait_for_selector("#film-status :text('Choose a film to begin.')")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"0" * 1000)
    page.set_input_files("#film input[type=file]", broken)
    page.wait_for_selector("#film-problem :text('The film is not a film that opens')")
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "/tmp" not in text


@pytest.mark.browser
@pytest.mark.parametrize("options", [WIDE, PHONE], ids=["wide", "phone"])
def test_compare(visit: Visit, tmp_path: Path, options: dict[str, Any]) -> None:
    page = visit(**options)
    width = options["viewport"]["width"]
    opened(page, "Compare")
    fits(page)
    shoot(page, f"compare-tab-{width}", full=True)
    page.set_input_files("#compare-picture input[type=file]", FACE)
    page.wait_for_selector("#compare-matched img")
    page.click("#compare-run")
    page.wait_for_selector("#compare-cards .methods li:not(.coming)")
    page.wait_for_selector("#compare-download", timeout=5 * PATIENCE * 1000)  # Large networks.
    cards = page.locator("#compare-cards .methods > li:not(.coming)")
    titles = cards.locator("> b").all_inner_texts()
    assert titles[:2] == ["Blocks", "Smooth"]
    assert titles[-3:] == ["PULSE as published", "PULSE", "PULSE, 512 pixels"]
    assert {"srgan-faces-x4", "unet-faces-x8"} < set(titles)  # Though it is enlarged by 2 alone.
    assert page.inner_text("#compare-status") == f"Done: {len(titles)} methods."
    kinds = page.locator("#compare-cards .kind").all_inner_texts()
    assert kinds == ["enhanced"] * (len(titles) - 5) + ["imaginary"] * 3
    assert "do not exist" in page.locator(".caution:visible").inner_text()
    fits(page)
    results_before_settings(page, "compare-run", "compare-cards", "compare-settings")
    shoot(page, f"compare-result-{width}", full=True)
    with page.expect_download() as event:
        page.click("#compare-download")
    event.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        record = json.loads(archive.read("compare.json"))
        best = [one["candidates"][0] for one in record["methods"]]
        assert {face["file"] for face in best} <= set(archive.namelist())
        shown = [text.split()[-1] for text in cards.locator("dl").all_inner_texts()]
        assert len(shown) == len(best)
        with archive.open(best[-1]["file"]) as file, Image.open(file) as image:
            assert image.info["Description"] == NOTICE
            assert SOURCE_TYPE in image.info[XMP_KEY]
        with archive.open(best[0]["file"]) as file, Image.open(file) as image:
            low = np.asarray(Image.open(FACE).convert("RGB"))
            blocks = low.repeat(image.width // 16, 0).repeat(image.width // 16, 1)
            assert (np.asarray(image) == blocks).all()


@pytest.mark.browser
def test_a_comparison_that_is_stopped_keeps_what_is_there(visit: Visit) -> None:
    page = visit(**WIDE)
    opened(page, "Compare")
    page.set_input_files("#compare-picture input[type=file]", TWO)
    page.wait_for_selector("#compare-matched img")
    page.click("#compare-settings > button")
    steps = page.locator("#compare-steps input[type=number]")
    steps.fill("100000")
    steps.press("Tab")
    page.click("#compare-run")
    page.wait_for_selector("#compare-status :text('step ')")
    page.click("#compare-stop")
    page.wait_for_selector("#compare-status :text('Stopped. What was made so far is kept.')")
    assert page.locator("#compare-cards .methods > li:not(.coming)").count() >= 2
    page.wait_for_selector("#compare-download")
    page.wait_for_selector("#compare-run")


def test_photo_for_programs(server: tuple[str, Path], photo: Path, tmp_path: Path) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    programme = client(server, tmp_path / "files")
    record, file = programme.predict(
        handle_file(photo), network="srresnet-x4", scale=2, format="png", api_name="/photo"
    )
    assert (record["width"], record["height"]) == (80, 60)
    assert (record["input"], record["output"]) == ("garden.jpg", "garden-enlarged.png")
    expected = upscale(load("srresnet-x4"), Image.open(photo), PictureConfig(2))
    with Image.open(file) as image:
        assert image.text["Description"] == ENHANCED  # type: ignore[attr-defined]
        difference = np.asarray(image).astype(int) - np.asarray(expected).astype(int)
    assert abs(difference).max() <= 1
    for network in ("/etc/passwd", "x.safetensors"):
        with pytest.raises(AppError, match=r"No network|not in the list"):
            programme.predict(handle_file(photo), network=network, api_name="/photo")
    with pytest.raises(AppError, match=r"[Mm]aximum|At most"):
        programme.predict(handle_file(photo), scale=100, api_name="/photo")


def test_film_for_programs(server: tuple[str, Path], film: Path, tmp_path: Path) -> None:
    from gradio_client import handle_file

    programme = client(server, tmp_path / "files")
    record, file = programme.predict(
        handle_file(film), network="srresnet-x4", scale=2, start=0.2, end=0.4, api_name="/film"
    )
    frames = decoded(Path(file))
    assert frames.shape[:3] == (record["frames"], 64, 96)
    assert record["frames"] == 5
    assert record["notice"].startswith("A neural network enlarged this film")


def test_compare_for_programs(server: tuple[str, Path], tmp_path: Path) -> None:
    from gradio_client import handle_file

    job = client(server, tmp_path / "files").submit(
        handle_file(FACE), candidates=2, steps=3, seed=7, api_name="/compare"
    )
    record, archived = job.result()
    names = [one["method"] for one in record["methods"]]
    assert names[:2] == ["nearest", "bicubic"]
    searches = ["paper", "default", "default-512"]
    assert names[-3:] == searches
    told = [facts["method"] for facts, _ in job.outputs() if "method" in facts]
    assert told == names  # Each as it came.
    for one in record["methods"]:
        errors = [face["mse"] for face in one["candidates"]]
        assert errors == sorted(errors)
        assert len(errors) == (2 if one["method"] in searches else 1)
    by_name = {one["method"]: one for one in record["methods"]}
    assert by_name["default"]["found"] is not None
    assert by_name["bicubic"]["found"] is None
    with zipfile.ZipFile(archived) as archive:
        assert json.loads(archive.read("compare.json")) == record
        with archive.open("bicubic-00.png") as file, Image.open(file) as image:
            low = image.resize((16, 16), Image.Resampling.BICUBIC)
        with Image.open(FACE) as face:
            difference = (np.asarray(low) / 255.0 - np.asarray(face.convert("RGB")) / 255.0) ** 2
    assert by_name["bicubic"]["candidates"][0]["mse"] == pytest.approx(difference.mean(), rel=0.02)
