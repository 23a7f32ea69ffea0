"""What the tabs beside Face do, without the page."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pulse.imaging.pictures import InputError, setting
from pulse.upscale import Upscaler
from pulse.video.config import Cut
from pulse.video.film import FilmProgress
from pulse.web.film_jobs import Order, film_job, frames_done
from pulse.web.jobs import Desk, Made, Networks, Note, Place, Stage, Step, reworded
from pulse.web.photo import PhotoTab, check_scale
from pulse.web.studio import Studio
from pulse.web.updates import Limits, Waiting
from stylegan import Generator
from tests.films import Kind, decoded, make_film, picture

ROOT = Path(__file__).parents[3]
LIMITS = Limits(
    waiting=1, upload=100_000, pixels=40_000, enlarged=200_000, seconds=2, film=2_000_000,
    frame=10_000,
)  # fmt: skip


@pytest.fixture
def studio(tiny: Generator, tmp_path: Path) -> Studio:
    folder = tmp_path / "studio"
    folder.mkdir()
    return Studio(folder, LIMITS, "tiny", upscaler=Upscaler(tiny, "tiny", "0" * 64))


@pytest.fixture
def networks() -> Networks:
    return Networks("cpu", "float32")


def place(folder: Path) -> Place:
    return Place(folder, threading.Event())


def order(studio: Studio, networks: Networks, film: Path, cut: Cut = Cut()) -> Order:  # noqa: B008
    return Order(film_job(studio, str(film), "srresnet-x4", 2, cut), studio, networks)


def test_a_network_is_one_of_the_list(networks: Networks, tmp_path: Path) -> None:
    names = [name for _, name in networks.choices(("srresnet-x4",))]
    assert names[0] == "srresnet-x4"
    assert sorted(names) == sorted(set(names))
    (tmp_path / "mine.safetensors").write_bytes(b"")
    for name in (str(tmp_path / "mine.safetensors"), "../weights/srresnet-x4", ""):
        with pytest.raises(InputError, match="No network is named"):
            networks.check(name)
    assert networks.open("srresnet-x4") is networks.open("srresnet-x4")


def test_limits_are_said_before_the_work(studio: Studio, tmp_path: Path) -> None:
    kinds = {
        "large": (Kind(size=(128, 96), sounds=0), "128x96 pixels; at most 0.01 megapixels a frame"),
        "long": (Kind(times=range(0, 60 * 3600, 3600), sounds=0), "2.4 s of film, and at most 2 s"),
    }
    for name, (kind, words) in kinds.items():
        film = make_film(tmp_path / f"{name}.mkv", kind)
        with pytest.raises(InputError, match=words) as caught:
            film_job(studio, str(film), "srresnet-x4", 2, Cut())
        assert str(tmp_path) not in str(caught.value)
    # A part of it may be short enough.
    film_job(studio, str(tmp_path / "long.mkv"), "srresnet-x4", 2, Cut(1.0, 2.0))
    with pytest.raises(InputError, match=r"at most 0\.2 megapixels"):
        check_scale(4, 150, 100, LIMITS)
    for scale in (None, 0.5, 9):
        with pytest.raises(InputError, match="from 1 to 8"):
            check_scale(scale, 15, 10, LIMITS)


def test_a_film_of_too_many_frames(
    studio: Studio, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_film(tmp_path / "a.mp4", Kind(size=(16, 12), sounds=0))
    wanted = order(studio, networks, film)
    monkeypatch.setattr("pulse.web.film_jobs.FASTEST", 3)
    with pytest.raises(InputError, match="more than 6 frames"):
        order(studio, networks, film)
    with pytest.raises(InputError, match="more than 6 frames"):  # It had said that it has fewer.
        list(wanted.run(place(tmp_path / "out")))


def test_files_that_are_no_films(studio: Studio, tmp_path: Path) -> None:
    image = tmp_path / "still.png"
    Image.fromarray(picture(1, 20, 20)).save(image)
    heavy = tmp_path / "heavy.mp4"
    heavy.write_bytes(bytes(LIMITS.film + 1))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film at all")
    for file, words in (
        (image, "The film is a picture, not a film; the tab Photo enlarges pictures"),
        (heavy, "at most 2 MB"),
        (broken, "The film is not a film that opens"),
        (tmp_path / "gone.mp4", "not here any more"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            film_job(studio, str(file), "srresnet-x4", 2, Cut())
        assert str(tmp_path) not in str(caught.value)


def test_a_film_goes_on_where_it_was_stopped(
    studio: Studio, networks: Networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.video.film.make.__defaults__", (4,))  # Parts of four frames.
    film = make_film(tmp_path / "a.mp4", Kind(size=(16, 12), sounds=0))
    whole = order(studio, networks, film)
    *_, made = whole.run(place(tmp_path / "whole"))
    assert isinstance(made, Made)
    assert made.file is not None
    assert (made.record["width"], made.record["frames"]) == (32, 12)
    assert made.record["output"] == "a-enlarged.mp4"
    there = Place(tmp_path / "cut", threading.Event())

    def stopped(progress: FilmProgress) -> Note:
        if progress.done == 6:
            there.stop.set()
        return frames_done(progress)

    with monkeypatch.context() as patched:
        patched.setattr("pulse.web.film_jobs.frames_done", stopped)
        told = list(whole.run(there))
    # A part was whole, and it is said that it stays.
    assert isinstance(told[-1], Made)
    assert (told[-1].cut, told[-1].file) == (True, None)
    assert told[-1].record["parts"] >= 1
    again = list(whole.run(place(tmp_path / "cut")))
    assert isinstance(again[-1], Made)
    assert again[-1].file is not None
    assert (decoded(again[-1].file) == decoded(made.file)).all()
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["a-enlarged.mp4"]


class Endless:
    """A job that goes on until it is stopped."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.folder = studio, None

    def run(self, place: Place) -> Iterator[Step]:
        self.folder = place.folder

        def work(tell: Any) -> None:
            place.folder.mkdir(parents=True, exist_ok=True)
            while True:
                tell(Note("On and on."))

        yield from self.studio.line.serve(work, place.stop, place.address)


def stage() -> Stage:
    """The parts' names in their place."""
    parts: Any = ("problem", "status", ("begin",), "stop")
    return Stage(*parts)


def person(name: str) -> Any:
    return SimpleNamespace(session_hash=name, client=SimpleNamespace(host=name))


def test_jobs_of_a_tab_wait_and_end_with_their_visitor(studio: Studio) -> None:
    desk, shown = Desk(studio, "photo"), stage()
    first = desk.attend(person("a"), shown, lambda: Endless(studio), lambda _: {})
    next(first)
    assert "On and on" in str(next(first))
    second = desk.attend(person("b"), shown, lambda: Endless(studio), lambda _: {})
    next(second)
    assert "number 2 in the line" in str(next(second))
    third = list(desk.attend(person("c"), shown, lambda: Endless(studio), lambda _: {}))
    assert "Too many people are waiting" in str(third)
    visit = studio.find("a")
    assert visit is not None
    assert visit.running == 1
    assert (visit.folder / "photo").is_dir()
    studio.leave("a")
    assert "Stopped before anything was made" in str(list(first))
    assert visit.running == 0
    assert not visit.folder.exists()
    assert "On and on" in str([next(second), next(second)])
    desk.halt(person("b"))
    assert "Stopped before anything was made" in str(list(second))


def test_who_is_refused_by_the_line_evicts_nobody(studio: Studio) -> None:
    """100 of those who came while it was full made the page forget all who looked at results."""
    studio.limits = replace(studio.limits, visitors=3)
    desk, shown = Desk(studio, "photo"), stage()
    running = desk.attend(person("a"), shown, lambda: Endless(studio), lambda _: {})
    waiting = desk.attend(person("b"), shown, lambda: Endless(studio), lambda _: {})
    for job in (running, waiting):
        next(job)
        next(job)
    studio.visit("reader")
    for number in range(20):
        told = list(desk.attend(person(f"s{number}"), shown, lambda: Endless(studio), lambda _: {}))
        assert "Too many people are waiting" in str(told)
        assert studio.find(f"s{number}") is None
    assert studio.find("reader") is not None
    assert len(list(studio.folder.iterdir())) == 3
    # Who was known before and is refused keeps what he has.
    list(desk.attend(person("reader"), shown, lambda: Endless(studio), lambda _: {}))
    assert studio.find("reader") is not None
    # Who is let in may make room for himself.
    desk.halt(person("b"))
    list(waiting)
    last = desk.attend(person("c"), shown, lambda: Endless(studio), lambda _: {})
    next(last)
    next(last)
    assert studio.find("c") is not None
    assert studio.find("reader") is None
    for name, job in (("a", running), ("c", last)):
        desk.halt(person(name))
        list(job)


def test_who_left_took_the_files_along(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    class Writing(Endless):
        def run(self, place: Place) -> Iterator[Step]:
            place.folder.mkdir(parents=True)
            yield Note("Writing.")
            (place.folder / "file").write_text("made", "utf-8")

    job = Desk(studio, "photo").attend(person("a"), stage(), lambda: Writing(studio), lambda _: {})
    assert "Writing" in str([next(job), next(job)])
    studio.leave("a")
    assert list(job) == []
    assert "A fault" not in caplog.text


def test_a_second_job_of_a_tab_ends_the_first_and_no_other_tab_s(studio: Studio) -> None:
    photo, film = Desk(studio, "photo"), Desk(studio, "film")
    running = photo.attend(person("a"), stage(), lambda: Endless(studio), lambda _: {})
    next(running)
    next(running)
    film.stop(person("a"))
    visit = studio.find("a")
    assert visit is not None
    assert not visit.stops["photo"].is_set()
    next(photo.attend(person("a"), stage(), lambda: Endless(studio), lambda _: {}))
    assert visit.stops["photo"].is_set()
    assert "Stopped" in str(list(running))


class Handlers(PhotoTab):
    """What the tab does when it is touched, without the tab."""

    def __init__(self, studio: Studio, networks: Networks) -> None:
        self.studio, self.networks = studio, networks
        self.desk, self.stage = Desk(studio, "photo"), stage()

    def __getattr__(self, part: str) -> str:
        return part


def test_who_asks_for_what_cannot_be_is_not_kept(studio: Studio, networks: Networks) -> None:
    tab = Handlers(studio, networks)
    updates = list(tab.enlarge(person("a"), None, "srresnet-x4", 2, False, "auto"))
    assert "Choose a photo first" in str(updates)
    assert studio.find("a") is None


def test_a_photo_keeps_what_its_file_holds(
    studio: Studio, networks: Networks, tmp_path: Path
) -> None:
    photo = tmp_path / "a.webp"
    Image.fromarray(picture(2, 12, 8)).convert("RGBA").save(photo, exif=b"", lossless=True)
    tab = Handlers(studio, networks)
    updates = list(tab.enlarge(person("a"), str(photo), "srresnet-x4", 2, True, "auto"))
    assert "Done: 24x16 pixels" in str(updates)
    visit = studio.find("a")
    assert visit is not None
    names = {path.name for path in (visit.folder / "photo").iterdir()}
    assert names == {"a-enlarged.webp", "before.webp", "after.webp"}
    for name in names:
        with Image.open(visit.folder / "photo" / name) as image:
            assert image.size == (24, 16)
    studio.leave("a")
    assert not visit.folder.exists()


WITHOUT_AV = """
import sys
class Gone:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
sys.meta_path.insert(0, Gone())
from pathlib import Path
import pulse.web.page
import gradio as gr
from pulse.web.tabs import other_tabs
from pulse.upscale import Upscaler
from pulse.web.studio import Studio
studio = Studio(Path(sys.argv[1]), upscaler=object())
with gr.Blocks() as blocks, gr.Tabs():
    other_tabs(studio, [])
print(*(getattr(block, "value", "") for block in blocks.blocks.values()))
print(sorted(fn.api_name for fn in blocks.fns.values() if fn.api_visibility == "public"))
"""


def test_where_films_cannot_be_read_the_tab_says_how_to_get_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_AV, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install &#39;pulse-faces[video]&#39;" in done.stdout
    assert done.stdout.splitlines()[-1] == "['compare', 'photo']"


def test_words_of_errors() -> None:
    with (
        pytest.raises(InputError) as caught,
        reworded({"/secret/a.png": "The photo"}),
    ):
        raise InputError(f"/secret/a.png is too large for {setting('scale')}.")
    assert caught.value.worded(str.upper) == "The photo is too large for SCALE."


def test_waiting_is_told(studio: Studio) -> None:
    ticket = studio.line.join("x")
    steps = Endless(studio).run(Place(studio.folder / "w", threading.Event()))
    assert next(steps) == Waiting(1)
    studio.line.leave(ticket)
    assert isinstance(next(steps), Note)
