"""The page in a real browser, and its API; one server with a tiny generator for all tests."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pulse.imaging.pictures import to_tensor
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.browser import PATIENCE, SHOTS

ROOT = Path(__file__).parents[1]
FACE, TWO = ROOT / "examples" / "face.png", ROOT / "examples" / "two.jpg"


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = StyleGAN2Config(channels=(16, 16, 8, 8), z_dim=32, w_dim=32, mapping_layers=2)
    generator = StyleGAN2(config).requires_grad_(False).eval()
    generator.w_mean.copy_(generator.mapping(torch.randn(1000, config.z_dim)).mean(0))
    path = tmp_path_factory.mktemp("generator") / "tiny.safetensors"
    save(generator, path)
    return path


@pytest.fixture(scope="module")
def server(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page's address and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp("server")
    environment = {**os.environ, "TMPDIR": str(folder), "PULSE_HOME": str(folder / "home")}
    limits = ["--max-steps", "100000", "--max-upload", "2", "--no-fetch", "--waiting", "8"]
    limits += ["--max-film", "2", "--max-seconds", "2"]
    command = [sys.executable, "app.py", "--port", "0", "--generator", str(tiny_file), *limits]
    log = folder / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 2 * PATIENCE
        while not (found := re.search(r"PULSE is at (http://127\S+)/ ", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.1)
        yield found[1], folder
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert "A fault of the page" not in log.read_text("utf-8")
    assert list(folder.glob("pulse-*")) == []  # Nothing that was given or made is left.


@pytest.fixture
def visit(browser: Any, server: tuple[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens the page, with options of a browser context; whatever it asks for elsewhere fails."""
    contexts: list[Any] = []
    elsewhere: list[str] = []
    wrong: list[str] = []

    def asked(url: str) -> None:
        if not url.startswith((server[0], "data:", "blob:")):
            elsewhere.append(url)

    def open_page(**options: Any) -> Any:
        context = browser.new_context(accept_downloads=True, **options)
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server[0])
        page.wait_for_selector("#run")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert wrong == []


def upload(page: Any, file: Path) -> None:
    page.set_input_files("#picture input[type=file]", file)


def set_steps(page: Any, steps: int) -> None:
    page.click("#settings > button")
    box, slider = (page.locator(f"#steps input[type={kind}]") for kind in ("number", "range"))
    for _ in range(20):  # What is typed before the page has woken up is lost.
        box.fill(str(steps))
        box.press("Tab")
        page.wait_for_timeout(100)
        if slider.input_value() == str(steps):
            return
    raise AssertionError("the slider did not follow the number")


def set_endless(page: Any) -> None:
    """A search that nothing but a click ends: the published one goes on where it matches."""
    set_steps(page, 100_000)
    page.get_by_role("radio", name="paper").check()


def chosen(page: Any, part: str, text: str) -> None:
    page.click(f"#{part} input")
    page.get_by_role("option", name=text).click()


def shoot(page: Any, name: str, full: bool = False) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=full)


@pytest.mark.browser
def test_face_in_faces_out(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 900}, color_scheme="light")
    upload(page, FACE)
    page.wait_for_selector("#matched img")
    assert "16x16 pixels" in page.inner_text("#matched")
    assert page.inner_text("#status") == "Ready: press 'Imagine faces'."
    lower = page.locator("#run").bounding_box()
    assert lower["y"] + lower["height"] < page.locator(".caution").bounding_box()["y"]
    set_steps(page, 30)
    page.click("#run")
    page.wait_for_selector("#gallery [data-choice]")
    assert page.locator("#gallery [data-choice]").count() == 4
    shown = page.locator("#gallery .error:not(.looks)").all_inner_texts()
    errors = [float(text.split()[1]) for text in shown]
    labels = page.locator("#gallery .label").all_inner_texts()
    matched = [text in ("matches the input", "broken match") for text in labels]
    assert matched == sorted(matched, reverse=True)
    assert errors[sum(matched) :] == sorted(errors[sum(matched) :])
    assert page.locator("#gallery .looks").count() == 4
    assert page.inner_text("#status").startswith("Done.")
    assert page.locator("#paste").is_hidden()  # No face was looked for in a picture as small.

    # Choosing with the keyboard shows another one, beside the input, both small.
    first = page.get_attribute("#detail .after", "src")
    third = page.locator("#gallery [data-choice]").nth(2)
    number = int(third.get_attribute("data-choice"))
    third.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("old => document.querySelector('#detail .after').src !== old", arg=first)
    assert third.get_attribute("aria-pressed") == "true"
    assert page.locator("#gallery [aria-pressed=true]").count() == 1
    assert f"Error {errors[2]:.5f}" in page.inner_text("#detail")
    assert page.locator("#detail .pair img").count() == 2
    slider = page.locator("#detail input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    style = "document.querySelector('#detail .compare').style.getPropertyValue('--at')"
    assert page.evaluate(style) == "0%"
    shoot(page, "light")

    with page.expect_download() as event:
        page.click("#one")
    assert event.value.suggested_filename == f"candidate-{number:02d}.png"
    event.value.save_as(tmp_path / "one.png")
    with page.expect_download() as event:
        page.click("#all")
    event.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        record = json.loads(archive.read("result.json"))
        assert archive.read(f"candidate-{number:02d}.png") == (tmp_path / "one.png").read_bytes()
    assert record["input"] == "face.png"
    assert sorted(candidate["mse"] for candidate in record["candidates"]) == pytest.approx(
        sorted(errors), abs=1e-5
    )


@pytest.mark.browser
def test_photo_of_two_stop_and_paste_back(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 1000}, color_scheme="dark")
    upload(page, TWO)
    page.wait_for_selector("#faces [data-choice='1']")
    assert page.locator("#faces [data-choice]").count() == 3  # Each of them, and all.
    page.wait_for_selector("#matched img")
    before = page.get_attribute("#matched img", "src")
    page.click("#faces [data-choice='1']")
    page.wait_for_function("old => document.querySelector('#matched img').src !== old", arg=before)
    set_endless(page)
    chosen(page, "finish", "srresnet-x4")  # Quick, since it goes over the face twice.
    page.click("#run")
    page.wait_for_selector("#gallery .card img")

    # The gallery changes as the search goes.
    seen = page.inner_html("#gallery")
    page.wait_for_function("old => document.querySelector('#gallery').innerHTML !== old", arg=seen)
    bar = page.locator("[role=progressbar]")
    assert 0 <= int(bar.get_attribute("aria-valuenow")) <= 100
    assert re.search(r"step \d+ of 100000.* left", page.inner_text("#status"))
    shoot(page, "searching-dark")

    # It ends long before its last step; how soon is told by the tests of the studio.
    page.click("#stop")
    page.wait_for_selector("#gallery [data-choice]")
    assert page.inner_text("#status").startswith("Stopped.")
    page.click("#paste")
    page.wait_for_selector("#photo .compare")
    slider = page.locator("#photo input[type=range]").last
    slider.focus()
    page.keyboard.press("End")
    where = "[...document.querySelectorAll('#photo .compare')].at(-1).style"
    assert page.evaluate(f"{where}.getPropertyValue('--at')") == "100%"
    with page.expect_download() as event:
        page.click("#photo-file")
    event.value.save_as(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as photo, Image.open(TWO) as original:
        assert photo.size == original.size
        changed = (to_tensor(photo) - to_tensor(original)).abs().amax(0).amax(0) > 0.05
    middle = original.width // 2
    assert changed[:middle].any() != changed[middle:].any()  # The other person is untouched.
    shoot(page, "photo-dark")


@pytest.mark.browser
def test_what_cannot_be_used_gets_a_sentence(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    page.click("#run")
    page.wait_for_selector("#problem [role=alert]")
    assert page.inner_text("#problem") == "Choose a picture first."
    assert page.inner_text("#status") == "The search could not begin."
    page.reload()
    page.wait_for_selector("#run")

    broken = tmp_path / "broken.png"
    broken.write_bytes(FACE.read_bytes()[:200])
    upload(page, broken)
    page.wait_for_selector("#problem :text('damaged')")

    empty = tmp_path / "wall.png"
    Image.new("RGB", (320, 200), "teal").save(empty)
    page.click("#picture button[aria-label*='Clear'], #picture button[aria-label*='emove']")
    upload(page, empty)
    page.wait_for_selector("#problem :text('No face was found')")
    page.click("#run")
    page.wait_for_selector("#status :text('could not begin')")
    assert "No face was found" in page.inner_text("#problem")
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "/tmp" not in text
    shoot(page, "no-face")


@pytest.mark.browser
def test_phone(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 375, "height": 740}, is_mobile=True, has_touch=True)
    order = ["#run", "#status", "#gallery", "#examples", "#settings"]
    tops = [page.locator(part).bounding_box()["y"] for part in order]
    assert tops == sorted(tops)
    assert page.locator(".caution").bounding_box()["height"] <= 32
    set_steps(page, 5)
    page.tap("#examples [data-choice] >> nth=0")
    page.wait_for_selector("#gallery [data-choice]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    notice = page.locator(".caution")
    for _ in range(2):
        box = notice.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 741
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert "do not exist" in notice.inner_text()
    shoot(page, "phone")


@pytest.mark.browser
def test_before_the_first_search(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    assert "Here your faces will appear" in page.inner_text("#results")
    assert page.locator("#gallery .coming").count() == 4
    too_wide = """() => [...document.querySelectorAll('#examples .card span')]
        .filter(e => e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right
            || e.scrollWidth > e.parentElement.clientWidth).map(e => e.textContent)"""
    assert page.evaluate(too_wide) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(too_wide) == []
    page.click("#settings > button")
    words = page.inner_text("#settings")
    assert not re.search("[Ss]igma|squared|was not one", words)


@pytest.mark.browser
def test_searches_of_a_visit_add_up_until_there_is_another_picture(
    visit: Callable[..., Any],
) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    upload(page, FACE)
    page.wait_for_selector("#matched img")
    set_steps(page, 5)
    assert "python -m pulse run face.png --steps 5" in page.inner_text("#command code")
    page.click("#command [data-copy]")
    page.wait_for_selector("#command :text('Copied')")
    page.click("#run")
    page.wait_for_selector("#gallery [data-choice='0']")
    sizes = [page.locator(f"#{name}").bounding_box() for name in ("one", "more", "all")]
    assert all(box["height"] >= 36 and box["width"] >= 150 for box in sizes)
    assert len({(box["height"], box["width"]) for box in sizes}) == 1
    ground = "name => getComputedStyle(document.querySelector(`#${name}`)).backgroundColor"
    one, every, plain = (page.evaluate(ground, name) for name in ("one", "all", "more"))
    assert one == every != plain  # All that is downloaded looks alike, and not grey.

    # One of them alone over all of the window, and away with it.
    page.click("#detail [data-open]")
    assert page.locator("#detail dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#detail dialog").is_hidden()

    # Others that are like it come beside it, and all can still be chosen.
    page.click("#gallery [data-choice='2']")
    page.wait_for_function("document.querySelector('#detail').innerText.includes('Seed 2')")
    page.click("#more")
    page.wait_for_selector("#gallery [data-choice='4']")
    assert page.locator("#earlier [data-choice]").count() == 4
    assert "begun near the face of seed 2" in page.inner_text("#detail")
    page.click("#earlier [data-choice='1']")
    page.wait_for_function("document.querySelector('#detail').innerText.includes('Seed 1')")
    assert page.locator("#results [aria-pressed=true]").count() == 1
    shoot(page, "history", full=True)

    # A search that goes on ends with its picture, and its results go.
    page.locator("#steps input[type=number]").fill("100000")
    page.locator("#steps input[type=number]").press("Tab")
    page.get_by_role("radio", name="paper").check()
    page.wait_for_function("document.querySelector('#command code').textContent.includes('100000')")
    page.click("#run")
    page.wait_for_selector("#gallery .card img")
    page.click("#picture button[aria-label*='Clear'], #picture button[aria-label*='emove']")
    page.wait_for_selector("#gallery .coming")
    page.wait_for_selector("#run", state="visible")
    page.wait_for_timeout(1500)  # What might still come of the old search.
    assert page.locator("#gallery .coming").count() == 4
    assert page.inner_text("#status") == "Choose a picture to begin."
    assert page.locator("#detail section").count() == 0
    assert page.locator("#downloads").is_hidden()
    assert page.locator("#earlier details[open]").count() == 0
    assert page.locator("#earlier details").count() == 1


@pytest.mark.browser
def test_another_picture_during_a_search(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    upload(page, TWO)
    page.wait_for_selector("#faces [data-choice='1']")
    page.wait_for_selector("#matched img")
    old = page.get_attribute("#matched img", "src")
    set_endless(page)
    page.click("#run")
    page.wait_for_selector("#gallery .card img")
    # The server has one place: the search for the example can begin once the old one has ended.
    names = page.locator("#examples .card span").all_inner_texts()
    page.click(f"#examples [data-choice='{names.index('face')}']")
    page.wait_for_function(
        """old => (image => image && image.src !== old)(document.querySelector('#matched img'))""",
        arg=old,
    )
    assert page.locator("#faces [data-choice]").count() == 0
    page.wait_for_selector("#gallery .card img")
    page.wait_for_selector("#stop", state="visible")
    assert re.search(r"step \d+ of 100000", page.inner_text("#status"))
    page.click("#stop")
    page.wait_for_selector("#gallery [data-choice]")
    page.wait_for_selector("#run", state="visible")
    assert page.inner_text("#status").startswith("Stopped.")
    assert page.locator("#gallery [data-choice]").count() == 4
    assert page.locator("#earlier [data-choice]").count() == 0  # Nothing of the old one is kept.
    assert page.locator("#paste").is_hidden()  # As it could be for the photo of two.
    with page.expect_download() as event:
        page.click("#all")
    event.value.save_as(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert json.loads(archive.read("result.json"))["input"] == "face.png"


@pytest.mark.browser
def test_no_search_before_the_faces_of_a_photo_are_listed(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    page.evaluate(
        """() => {
            window.seen = [];
            const look = () => seen.push([
                !document.querySelector('#run').disabled,
                document.querySelectorAll('#faces [data-choice]').length,
                document.querySelectorAll('#faces [aria-pressed=true]').length,
            ].join());
            new MutationObserver(look).observe(
                document.body, {subtree: true, childList: true, attributes: true});
        }"""
    )
    upload(page, TWO)
    page.wait_for_selector("#faces [data-choice='1']")
    page.wait_for_selector("#run:enabled")
    seen = page.evaluate("seen")
    off = seen.index("false,0,0")  # The picture is there, and its faces are looked for:
    listed = next(i for i, state in enumerate(seen) if state.startswith("true,") and i > off)
    assert set(seen[off:listed]) <= {"false,0,0", "false,3,1"}
    assert seen[listed] == "true,3,1"  # first they are listed, one of them chosen.


@pytest.mark.browser
def test_all_faces_of_a_photo_larger(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    set_steps(page, 2)
    upload(page, TWO)
    page.wait_for_selector("#faces [data-choice='-1']")
    page.click("#faces [data-choice='-1']")
    page.wait_for_function("!document.querySelector('#matched img')")
    page.click("#size label:has-text('512')")
    page.wait_for_function(
        "/--face all .*--size 512/.test(document.querySelector('#command code').textContent)"
    )
    page.click("#run")
    page.wait_for_selector("#earlier [data-choice]")
    page.wait_for_selector("#gallery [data-choice]")
    page.wait_for_selector("#run", state="visible")
    assert page.locator("#gallery [data-choice]").count() == 4
    assert "512x512" in page.inner_text("#detail")


@pytest.mark.browser
def test_the_copied_command_makes_the_same_faces(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    upload(page, TWO)
    page.click("#faces [data-choice='1']")
    set_steps(page, 5)
    page.get_by_label("It was pixelated").check()
    page.wait_for_function(
        "/--steps 5 .*--face 1 --degrade/.test(document.querySelector('#command code').textContent)"
    )
    page.click("#run")
    page.wait_for_selector("#gallery [data-choice]")
    with page.expect_download() as event:
        page.click("#all")
    event.value.save_as(tmp_path / "all.zip")
    shutil.copy(TWO, tmp_path)
    program, *words = shlex.split(page.inner_text("#command code"))
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # Nothing matches after so few steps.
    (folder,) = (file.parent for file in tmp_path.glob("results/*/result.json"))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"candidate-\d+.png", name)]
        assert len(names) == 4
        for name in names:
            with archive.open(name) as file, Image.open(file) as shown:
                expected = to_tensor(shown)
            with Image.open(folder / name) as made:
                assert (to_tensor(made) - expected).abs().max() <= 2 / 255


def tab_to(page: Any, selector: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"the Tab key does not lead to {selector}")


@pytest.mark.browser
def test_the_keyboard_is_enough(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    set_steps(page, 5)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "#picture button")
    # Chromium may take the first press after it was loaded for no more than its waking up.
    chosen: list[Any] = []
    page.on("filechooser", lambda chooser: chosen.append(chooser))
    for _ in range(5):
        page.keyboard.press("Enter")
        page.wait_for_timeout(2000)
        if chosen:
            break
    chosen[0].set_files(FACE)
    page.wait_for_selector("#matched img")
    tab_to(page, "#run")
    page.keyboard.press("Enter")
    page.wait_for_selector("#gallery [data-choice='2']")
    tab_to(page, "#gallery [data-choice='2']")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#detail').innerText.includes('Seed 2')")
    tab_to(page, "#detail [data-open]")
    page.keyboard.press("Enter")
    assert page.locator("#detail dialog").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector("#detail dialog", state="hidden")
    assert page.evaluate("document.activeElement.matches('#detail [data-open]')")
    tab_to(page, "#one")


@pytest.mark.browser
def test_every_control_has_a_name(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 1280, "height": 1000})
    page.click("#settings > button")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, [role=listbox], img')]
        .filter(e => e.offsetParent !== null && e.type !== 'file')
        .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
            || e.textContent.trim() || (e.labels && e.labels.length) || e.hasAttribute('alt')
            || e.title))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []


def client(server: tuple[str, Path], folder: Path) -> Any:
    from gradio_client import Client

    return Client(server[0], download_files=folder, verbose=False, analytics_enabled=False)


def test_first_example_of_the_api(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "page.md").read_text("utf-8")
    code = re.findall(r"```python\n(from gradio_client.*?)```", text, re.S)[0]
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    code = code.replace("http://127.0.0.1:7860", server[0]).replace("steps=100", "steps=2")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pulse.zip" in done.stdout


def test_api_is_typed_and_alone(server: tuple[str, Path], tmp_path: Path) -> None:
    endpoints = client(server, tmp_path).view_api(return_format="dict", print_info=False)
    assert set(endpoints["named_endpoints"]) == {"/upscale", "/photo", "/film", "/compare"}
    assert endpoints["unnamed_endpoints"] == {}
    parameters = endpoints["named_endpoints"]["/upscale"]["parameters"]
    assert [parameter["parameter_name"] for parameter in parameters] == [
        "picture", "face", "candidates", "steps", "seed", "generator", "lr_size", "tolerance",
        "preset", "as_it_is", "pixelated", "blur", "grey", "jpeg", "noise", "size", "finish",
    ]  # fmt: skip
    assert all(parameter["parameter_has_default"] for parameter in parameters[1:])
    kinds = {
        parameter["parameter_name"]: parameter["python_type"]["type"] for parameter in parameters
    }
    assert kinds["preset"] == "Literal['default', 'paper']"
    assert kinds["tolerance"] == "float"


def test_eight_programs_at_once_get_their_own_answers(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    from gradio_client import handle_file

    answers: dict[int, tuple[dict[str, Any], str]] = {}

    def ask(seed: int) -> None:
        picture = tmp_path / f"face{seed}.png"
        Image.open(FACE).rotate(90 * (seed % 4)).save(picture)
        answers[seed] = client(server, tmp_path / str(seed)).predict(
            handle_file(picture), candidates=2, steps=3, seed=seed, api_name="/upscale"
        )

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == set(range(8))
    for seed, (record, archived) in answers.items():
        assert record["input"] == f"face{seed}.png"
        assert [candidate["seed"] for candidate in record["candidates"]] == [seed, seed + 1]
        with zipfile.ZipFile(archived) as archive:
            assert json.loads(archive.read("result.json")) == record
            with archive.open("input.png") as file, Image.open(file) as low:
                expected = Image.open(FACE).rotate(90 * (seed % 4)).convert("RGB")
                assert low.tobytes() == expected.tobytes()
    # The same wish again has the same answer, whoever else was there.
    picture = handle_file(tmp_path / "face5.png")
    record, _ = client(server, tmp_path / "again").predict(
        picture, candidates=2, steps=3, seed=5, api_name="/upscale"
    )
    assert record["candidates"] == answers[5][0]["candidates"]


def test_api_refuses_in_sentences(server: tuple[str, Path], tmp_path: Path) -> None:
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    programme = client(server, tmp_path)
    face = handle_file(FACE)
    with pytest.raises(AppError, match="no face 2"):
        programme.predict(face, face=1, steps=1, api_name="/upscale")
    with pytest.raises(AppError, match="stylegan9"):
        programme.predict(face, generator="stylegan9", api_name="/upscale")
    with pytest.raises(AppError, match=r"[Mm]aximum|At most"):
        programme.predict(face, candidates=1000, api_name="/upscale")


def test_files_that_were_not_given_cannot_be_read(server: tuple[str, Path], tmp_path: Path) -> None:
    import requests

    secret = server[1] / "secret.png"
    Image.new("RGB", (16, 16)).save(secret)
    for path in (secret, ROOT / "README.md", Path("/etc/passwd")):
        answer = requests.get(f"{server[0]}/gradio_api/file={path}", timeout=PATIENCE)
        assert answer.status_code in (403, 404)
    asked = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    rest = [
        0,
        1,
        1,
        0,
        "tiny.safetensors",
        0,
        1e-3,
        "default",
        False,
        False,
        0,
        False,
        0,
        0,
        0,
        "auto",
    ]
    body = {"data": [asked, *rest]}
    posted = requests.post(f"{server[0]}/gradio_api/call/upscale", json=body, timeout=PATIENCE)
    event = posted.json()["event_id"]
    stream = requests.get(f"{server[0]}/gradio_api/call/upscale/{event}", timeout=PATIENCE).text
    assert "event: error" in stream
    assert "event: complete" not in stream
    assert "not what the page's controls give" in stream
    big = {"files": ("big.png", b"0" * 3_000_000)}
    answer = requests.post(f"{server[0]}/gradio_api/upload", files=big, timeout=PATIENCE)
    assert answer.status_code == 413


def test_what_gradio_s_hosts_set_is_honoured_and_options_win(
    tiny_file: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosted = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    environment = {**os.environ, **hosted, "GRADIO_ROOT_PATH": "/faces"}
    command = [sys.executable, "app.py", "--generator", str(tiny_file), "--no-fetch"]
    for options, expected in (([], True), (["--port", "0"], False)):
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            assert found, line
            assert (int(found[1]) == port) == expected
            with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/config", timeout=30) as page:
                assert json.loads(page.read())["root"].endswith("/faces")
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)
