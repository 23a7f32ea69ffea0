import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError, Picture, to_image
from pulse.search import SearchConfig, Status
from pulse.superres import weights
from pulse.superres.finish import AUTO, OFF, Finisher
from pulse.superres.networks import CompactConfig
from pulse.upscale import UpscaleConfig, Upscaler
from pulse.web import html
from pulse.web.face import FaceView
from pulse.web.history import FACES, Asked, Past, Visit
from pulse.web.line import EVERY, Line, follow
from pulse.web.order import ALL, Order
from pulse.web.studio import Studio, archive
from pulse.web.updates import (
    Done,
    Limits,
    Near,
    Opening,
    Pasted,
    Preparing,
    Searching,
    Update,
    Waiting,
    Wish,
)
from stylegan import Generator

EXAMPLES = Path(__file__).parents[3] / "examples"
FACE = EXAMPLES / "face.png"


@pytest.fixture
def studio(tiny: Generator, tmp_path: Path) -> Studio:
    folder = tmp_path / "studio"
    folder.mkdir()
    limits = Limits(candidates=3, steps=400, waiting=1, visitors=2, pixels=400_000, fetch=False)
    return Studio(folder, limits, "tiny", upscaler=Upscaler(tiny, "tiny", "0" * 64))


def wish(picture: Path = FACE, **more: object) -> Wish:
    return Wish(picture, generator="tiny", **more)  # type: ignore[arg-type]


def config(steps: int = 3, candidates: int = 2, tolerance: float = 1e-3) -> UpscaleConfig:
    search = SearchConfig(steps=steps, tolerance=tolerance, draws=2)
    return UpscaleConfig(candidates, search=search)


def test_search_ends_with_the_engines_own_answer(studio: Studio, tiny: Generator) -> None:
    updates = list(studio.run(wish(), config(), "default", threading.Event()))
    assert isinstance(updates[-1], Done)
    result = updates[-1].result
    *_, last = Upscaler(tiny, "tiny", "0" * 64).search(studio.face(wish()), config())
    assert result.state.best.tolist() == last.best.tolist()
    assert not result.interrupted
    assert isinstance(updates[0], Preparing)  # What helps is worked out before the first search,
    assert all(isinstance(update, Searching) for update in updates[1:-1])
    again = run(studio, wish(), config())  # and known in the next.
    assert isinstance(again[0], Searching)


def test_stop_keeps_what_was_found_and_frees_the_place(studio: Studio) -> None:
    run(studio, wish(), config())
    stop = threading.Event()
    updates = studio.run(wish(), config(400), "default", stop)
    assert isinstance(next(updates), Searching)
    start = time.monotonic()
    stop.set()
    rest = list(updates)
    assert time.monotonic() - start < 1
    assert isinstance(rest[-1], Done)
    assert rest[-1].result.interrupted
    assert rest[-1].result.state.step < 400
    again = list(studio.run(wish(), config(), "default", threading.Event()))
    assert isinstance(again[-1], Done)


def test_stop_does_not_wait_for_a_long_step() -> None:
    stop, release = threading.Event(), threading.Event()

    def work(tell: object) -> None:
        release.wait(10)

    threading.Timer(0.1, stop.set).start()
    start = time.monotonic()
    assert list(follow(work, stop)) == []
    assert time.monotonic() - start < 1
    release.set()


def test_only_the_newest_update_is_shown_and_the_last_one_always() -> None:
    def work(tell) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + 3 * EVERY
        ahead = 0
        while time.monotonic() < end:
            tell(Waiting(ahead := ahead + 1))
            time.sleep(0.001)
        tell(Waiting(-1))

    shown = list(follow(work, threading.Event()))
    assert 3 <= len(shown) <= 6
    assert shown[-1] == Waiting(-1)


def test_what_fails_in_the_thread_is_raised_outside() -> None:
    def work(tell: object) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(follow(work, threading.Event()))


def test_line_is_first_come_first_served() -> None:
    line = Line(places=1, waiting=2, each=9)
    first, second, third = line.join(), line.join(), line.join()
    assert [line.ahead(ticket) for ticket in (first, second, third)] == [0, 1, 2]
    with pytest.raises(InputError, match="Too many people"):
        line.join()
    line.leave(second)
    assert line.ahead(third) == 1
    line.leave(first)
    assert line.ahead(third) == 0


def test_second_visitor_waits_is_told_so_and_can_give_up(studio: Studio) -> None:
    run(studio, wish(), config())
    first_stop, second_stop = threading.Event(), threading.Event()
    first = studio.run(wish(), config(400), "default", first_stop)
    next(first)
    second = studio.run(wish(), config(), "default", second_stop)
    assert next(second) == Waiting(1)
    second_stop.set()
    assert list(second) == []
    second = studio.run(wish(), config(), "default", threading.Event())
    assert next(second) == Waiting(1)
    first_stop.set()
    assert isinstance(list(first)[-1], Done)
    assert isinstance(list(second)[-1], Done)


def test_visitor_who_goes_away_frees_the_place(studio: Studio) -> None:
    updates = studio.run(wish(), config(400), "default", threading.Event())
    next(updates)
    assert isinstance(updates, Iterator)
    updates.close()  # type: ignore[attr-defined]
    again = list(studio.run(wish(), config(), "default", threading.Event()))
    assert isinstance(again[-1], Done)


def run(studio: Studio, wanted: Wish, how: UpscaleConfig) -> list[Update]:
    return list(studio.run(wanted, how, "default", threading.Event()))


def test_refusals_are_sentences(studio: Studio, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture", "utf-8")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((EXAMPLES / "astronaut.jpg").read_bytes()[:2000])
    plain, large = tmp_path / "plain.png", tmp_path / "large.png"
    Image.new("RGB", (300, 200), "green").save(plain)
    Image.new("RGB", (1000, 401)).save(large)
    heavy = tmp_path / "heavy.png"
    heavy.write_bytes(b"0" * (studio.limits.upload + 1))
    for picture, words in (
        (text, "The picture is not a picture of a known format"),
        (cut, "The picture is damaged"),
        (plain, "No face was found"),
        (large, "1000x401 pixels; at most 0.4 megapixels"),
        (heavy, "at most 20 MB"),
        (tmp_path / "gone.png", "not here any more"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            run(studio, wish(picture), config())
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(InputError, match="At most 3 candidates"):
        run(studio, wish(), config(candidates=4))
    with pytest.raises(InputError, match="At most 400 steps"):
        run(studio, wish(), config(401))
    with pytest.raises(InputError, match="no face 2"):
        run(studio, wish(face=1), config())
    with pytest.raises(InputError, match="choose a size from 4 to 16"):
        run(studio, wish(lr_size=17), config())


def test_generators_that_are_not_offered_cannot_be_asked_for(studio: Studio) -> None:
    assert studio.generators() == ["tiny", "faces"]
    for name in ("stylegan2-ffhq-256", "/etc/passwd"):
        with pytest.raises(InputError, match="No generator is named"):
            studio.face(Wish(FACE, generator=name))


def test_another_generator_is_opened_when_asked_for(studio: Studio) -> None:
    updates = run(studio, Wish(FACE), config(1, 1))
    assert updates[0] == Opening("faces")
    assert isinstance(updates[-1], Done)
    assert updates[-1].result.upscaler.generator.resolution == 128


@pytest.mark.usefixtures("small_networks")
def test_faces_of_a_photo_and_paste_back(studio: Studio) -> None:
    photo = EXAMPLES / "two.jpg"
    assert len(studio.framings(photo, as_it_is=False)) == 2
    updates = run(studio, wish(photo, face=1), config(2, 1))
    assert isinstance(updates[-1], Done)
    visit = studio.visit("someone")
    past = kept(visit, updates[-1], wish(photo, face=1))
    (pasted,) = studio.paste(visit, 0, threading.Event())
    assert isinstance(pasted, Pasted)
    with Image.open(pasted.file) as new, Image.open(photo) as original:
        assert pasted.photo.size == new.size == original.size
        assert "imaginary" in new.info["Description"]
        assert "-x4" in new.info["Finished"]  # The place has more pixels than are drawn,
        box = (0, 0, 280, 300)
        left = (new.crop(box).tobytes(), original.convert("RGB").crop(box).tobytes())
        assert (left[0] == left[1]) != (new.tobytes() == original.tobytes())
    framing = past.face.framing
    assert framing is not None
    assert 4 * 32 < framing.side <= 16 * 32
    assert pasted.note is None  # which a network makes, going over them twice.
    kept(visit, run(studio, wish(), config(2, 1))[-1], wish())
    with pytest.raises(InputError, match="none to replace"):
        next(studio.paste(visit, 1, threading.Event()))
    with pytest.raises(InputError, match="no photo"):
        next(studio.paste(visit, 2, threading.Event()))


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize(
    ("drawn", "side", "size"),
    [
        (128, 100, 128), (128, 300, 300), (128, 512, 512), (128, 1000, 1000), (128, 3000, 1024),
        (32, 3000, 512), (512, 3000, 2048),
    ],
)  # fmt: skip
def test_a_second_pass_fills_a_large_place_in_a_photo(
    studio: Studio, drawn: int, side: int, size: int
) -> None:
    upscaler = studio.first_upscaler(lambda _: None)
    wanted, finisher = upscaler.for_photo(drawn, side, AUTO)
    assert wanted == size
    assert (finisher is None) == (size == drawn)
    assert finisher is None or finisher.passes(drawn, wanted) == 1 + (size > 4 * drawn)
    assert upscaler.for_photo(drawn, side, OFF) == (drawn, None)


def test_real_esrgan_goes_over_a_face_once_on_a_cpu(studio: Studio) -> None:
    upscaler = studio.first_upscaler(lambda _: None)
    network = weights.build(CompactConfig(4, 1, 4))
    upscaler._finishers[AUTO] = Finisher(network, weights.REALESRGAN[0], "")
    assert upscaler.for_photo(128, 1000, AUTO)[0] == 512


@pytest.mark.usefixtures("small_networks")
@pytest.mark.parametrize("size", [512, 1024])
def test_a_face_that_is_found_goes_through_the_network(
    studio: Studio, tiny: Generator, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = tiny.w_mean.expand(1, tiny.num_layers, -1)
    drawn = (tiny.synthesis(ws) / 2 + 0.5).clamp(0, 1)
    picture = tmp_path / "small.png"
    to_image(DegradeConfig().operator(32, 8)(drawn)[0]).save(picture)
    network, given, made = Finisher.enlarge, [], []

    def noted(finisher: Finisher, images: torch.Tensor, size: int) -> torch.Tensor:
        given.append(images)
        made.append(network(finisher, images, size))
        return made[-1]

    monkeypatch.setattr(Finisher, "enlarge", noted)
    how = UpscaleConfig(1, search=SearchConfig(steps=100, draws=2), size=size)
    done = run(studio, wish(picture), how)[-1]
    assert isinstance(done, Done)
    result = done.result
    assert result.state.status == (Status.FOUND,)
    assert given[0].shape == (1, 3, 32, 32)
    blocks = given[0].repeat_interleave(size // 32, 2).repeat_interleave(size // 32, 3)
    smooth = F.interpolate(given[0], (size, size), mode="bicubic")
    far = (smooth - blocks).abs().mean()
    assert (made[0] - blocks).abs().mean() < far / 4  # What the network does: no interpolation.
    assert result.state.images.shape == (1, 3, size, size)
    assert (result.state.images - blocks).abs().mean() < 0.03  # All but the last of the error.

    record = result.record("png")
    assert (record["size"], record["finish"]["network"]) == (size, "srgan-faces-x4")
    assert record["candidates"][0]["mse_exact"] < 1e-5
    past = kept(studio.visit("someone"), done, wish(picture))
    with Image.open(past.file(0)) as image:
        assert image.size == (size, size)
    words = f"made {size}x{size} by the network srgan-faces-x4"
    assert words in html.detail(past, 0)
    assert f"What matches was made {size} pixels large by srgan-faces-x4." in html.outcome(result)


def kept(visit: Visit, done: Update, wanted: Wish, finish: str = AUTO) -> Past:
    assert isinstance(done, Done)
    place = visit.place(Asked(wanted, done.result.config, "default", finish))
    archive(done.result, place.folder)
    past = Past.of(done.result, place, ("",) * done.result.config.candidates)
    visit.keep(past)
    return past


def test_a_visit_keeps_so_many_faces(studio: Studio) -> None:
    visit, (*_, done) = studio.visit("someone"), run(studio, wish(), config(1, 3))
    pasts = [kept(visit, done, wish()) for _ in range(FACES // 3 + 2)]
    assert visit.past == pasts[2:]
    assert sum(len(past.errors) for past in visit.past) == FACES
    assert [past.folder.exists() for past in pasts[:3]] == [False, False, True]
    assert visit.find(5) is None
    assert visit.find(3 * 4 + 2) == (pasts[4], 2)


def test_faces_near_a_liked_one(studio: Studio) -> None:
    first = run(studio, wish(), config(3, 1))[-1]
    assert isinstance(first, Done)
    state = first.result.state
    near = run(studio, wish(near=Near(7, state.ws[0])), config(1, 3))[-1]
    apart = run(studio, wish(), UpscaleConfig(3, 5, search=config(1).search))[-1]
    assert isinstance(near, Done)
    assert isinstance(apart, Done)
    assert (near.result.near, apart.result.near) == (7, None)

    def distances(other: Done) -> torch.Tensor:
        return (other.result.state.ws - state.ws).square().mean((1, 2))

    assert distances(near).max() < distances(apart).min()
    assert distances(near).min() > 0


def test_a_stop_does_not_wait_for_larger_faces(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = UpscaleConfig(2, search=SearchConfig(steps=3, tolerance=1.0), size=64)
    stop, enlarge = threading.Event(), Finisher.enlarge

    def slowly(finisher: Finisher, images: torch.Tensor, size: int) -> torch.Tensor:
        stop.wait(60)
        return enlarge(finisher, images, size)

    monkeypatch.setattr(Finisher, "enlarge", slowly)
    updates = studio.run(wish(), how, "default", stop)
    for update in updates:
        if isinstance(update, Searching) and update.finishing:
            stop.set()
            break
    done = list(updates)[-1]
    assert isinstance(done, Done)
    assert done.result.interrupted
    record = done.result.record("png")
    assert (record["size"], record["finish"], record["config"]["size"]) == (32, None, None)
    done = run(studio, wish(), how)[-1]
    assert isinstance(done, Done)
    record = done.result.record("png")
    assert record["size"] == 64
    assert "-x4" in record["finish"]["network"]


def test_a_command_says_what_is_not_the_default() -> None:
    assert order(FACE, generator="faces").command(None) == "python -m pulse run face.png"
    more = order(
        Path("my face.png"), candidates=2, steps=7, seed=3, generator="a.pt", lr_size=8,
        tolerance=0.002, preset="paper", as_it_is=True, face=ALL, size=512, blur=1.0, grey=True,
    )  # fmt: skip
    assert more.command(more.wish(0).degrade) == (
        "python -m pulse run 'my face.png' -n 2 --steps 7 --seed 3 --generator a.pt --lr-size 8 "
        "--tolerance 0.002 --preset paper --align never --face all --degrade blur:1.0,bicubic,grey "
        "--size 512"
    )


@pytest.mark.usefixtures("small_networks")
def test_a_chosen_network_is_for_the_photo_where_faces_stay_as_drawn(studio: Studio) -> None:
    """Unless a size is asked for it makes no face larger but the one that is put into a photo."""
    named = order(FACE, finish="srresnet-x4").asked()
    assert not named.config.finishes
    assert named.finish == "srresnet-x4"
    assert "--finish" not in order(FACE, finish="srresnet-x4").command(None)  # It would be larger.
    larger = order(FACE, size=512, finish="srresnet-x4").asked()
    assert (larger.config.size, larger.config.finish) == (512, "srresnet-x4")
    assert order(FACE, finish=OFF).command(None).endswith(" --finish off")

    photo, visit = EXAMPLES / "two.jpg", studio.visit("someone")
    done = run(studio, wish(photo, face=1), config(1, 1))[-1]
    made: dict[str, str | None] = {}
    for number, finish in enumerate(("srresnet-x4", AUTO, OFF)):
        asked = order(photo, face=1, finish=finish).asked()
        past = kept(visit, done, asked.wish, asked.finish)
        assert past.finisher is None
        (pasted,) = studio.paste(visit, number, threading.Event())
        assert isinstance(pasted, Pasted)
        with Image.open(pasted.file) as image:
            made[finish] = image.info.get("Finished")
    assert (made["srresnet-x4"] or "").startswith("srresnet-x4 ")
    assert "-x4" in (made[AUTO] or "")
    assert made[AUTO] != made["srresnet-x4"]
    assert made[OFF] is None


PLAIN = Order(
    None, 0, 4, SearchConfig.steps, 0, "tiny", 0, 1e-3, "default", False,
    False, 0, False, 0, 0, 0, "auto",
)  # fmt: skip


def order(picture: Path | None, **more: Any) -> Order:
    return replace(PLAIN, picture=None if picture is None else str(picture), **more)


def test_grey_is_noticed_whatever_else_happened(studio: Studio, tmp_path: Path) -> None:
    grey = tmp_path / "grey.png"
    Image.open(FACE).convert("L").save(grey)
    face = studio.face(wish(grey, degrade=DegradeConfig(blur=1.0)))
    assert face.degrade == DegradeConfig(blur=1.0, grey=True)
    assert face.notes == ()


def test_archive_holds_all_files(studio: Studio, tmp_path: Path) -> None:
    updates = run(studio, wish(), config())
    assert isinstance(updates[-1], Done)
    zipped = archive(updates[-1].result, tmp_path / "out")
    names = {"candidate-00.png", "candidate-01.png", "input.png", "comparison.png", "result.json"}
    assert set(zipfile.ZipFile(zipped).namelist()) == names


def test_visitors_that_left_and_old_files_are_removed(studio: Studio) -> None:
    folders = [studio.visit(name).folder for name in ("a", "b")]
    assert all(folder.is_dir() for folder in folders)
    third = studio.visit("c")
    assert not folders[0].exists()
    studio.leave("b")
    assert not folders[1].exists()
    upload = studio.folder / "upload"
    upload.mkdir()
    (upload / "face.png").write_bytes(b"")
    studio.sweep(60)
    assert upload.exists()
    assert third.folder.exists()
    studio.sweep(0)
    assert list(studio.folder.iterdir()) == []
    assert third.stop.is_set()


def test_time_left_is_that_of_the_steps_to_come(studio: Studio) -> None:
    updates = run(studio, wish(), config(200, 1))
    shown = [update for update in updates if isinstance(update, Searching)]
    assert shown[-1].left == 0 or Status.FOUND in shown[-1].state.status
    for update in shown:
        if update.state.step:
            pace = update.seconds / update.state.step
            assert update.left == pytest.approx(pace * (200 - update.state.step))


def test_one_address_cannot_fill_the_line() -> None:
    line = Line(places=1, waiting=9, each=2)
    first, _ = line.join("1.2.3.4"), line.join("1.2.3.4")
    with pytest.raises(InputError, match="Too many searches of yours"):
        line.join("1.2.3.4")
    assert line.ahead(line.join("5.6.7.8")) == 2
    line.leave(first)
    line.join("1.2.3.4")


def test_a_running_search_is_never_evicted(studio: Studio) -> None:
    runner = studio.visit("runner")
    runner.running += 1
    for number in range(20):
        assert studio.find(f"stranger {number}") is None
        studio.visit(f"other {number}")
    assert studio.find("runner") is runner
    assert not runner.stop.is_set()
    assert studio.find("other 18") is None
    assert studio.find("other 19") is not None
    studio.sweep(0)
    assert studio.find("runner") is runner
    assert studio.find("other 19") is None
    runner.running -= 1
    studio.sweep(0)
    assert studio.find("runner") is None


def test_a_slow_picture_delays_nobody(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    release, read = threading.Event(), studio.read

    def slowly(path: Path) -> Picture:
        if path.name == "slow.png":
            release.wait(20)
            raise InputError("It was slow.")
        return read(path)

    monkeypatch.setattr(studio, "read", slowly)

    def ask() -> None:
        with pytest.raises(InputError, match="It was slow"):
            studio.face(wish(Path("slow.png")))

    slow = threading.Thread(target=ask)
    slow.start()
    assert studio.face(wish()).low.shape == (3, 16, 16)
    assert slow.is_alive()
    release.set()
    slow.join()


class Names:
    """Parts of the page, each of them its name."""

    def __getattr__(self, part: str) -> str:
        return part


class Handlers(FaceView):
    """What the view does when it is touched, without the page."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.parts = studio, Names()  # type: ignore[assignment]


def test_strangers_evict_nobody_and_are_not_kept(studio: Studio) -> None:
    """101 requests, each of another session, stopped another visitor's search."""
    page = Handlers(studio)
    runner = studio.visit("runner")
    runner.running += 1
    studio.visit("reader")
    nothing = astuple(order(None))
    for number in range(101):
        request: Any = SimpleNamespace(session_hash=f"stranger {number}", client=None)
        event: Any = SimpleNamespace(index=0)
        page.halt(request)
        page.choose(event, request)
        list(page.put_back(0, request))
        page.begin(None, request)
        list(page.more(0, request))
        updates = list(page.search(request, *nothing))
        assert "Choose a picture first" in str(updates[-1])
    assert not runner.stop.is_set()
    assert studio.find("reader") is not None
    assert studio.find("stranger 100") is None


def test_who_searches_is_kept(studio: Studio) -> None:
    page = Handlers(studio)
    request: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="1.2.3.4"))
    wanted = astuple(order(FACE, candidates=2, steps=3))
    searched = page.search(request, *wanted)
    while studio.find("me") is None:
        next(searched)
    visit = studio.find("me")
    assert visit is not None
    assert visit.running == 1
    list(searched)
    assert (visit.running, [len(past.errors) for past in visit.past]) == (0, [2])
    gone: Any = page.search(request, *wanted)
    while visit.running == 0:
        next(gone)
    gone.close()  # The visitor went away.
    assert visit.running == 0


def test_another_picture_ends_the_search_and_takes_its_results_away(studio: Studio) -> None:
    page = Handlers(studio)
    request: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="1.2.3.4"))
    list(page.search(request, *astuple(order(FACE, candidates=1, steps=3))))
    searched = page.search(request, *astuple(order(FACE, candidates=1, steps=400)))
    visit = studio.find("me")
    assert visit is not None
    while visit.running == 0:
        next(searched)
    assert page.begin(str(FACE), request).keys() == {"run"}  # It is the same still.
    assert not visit.stop.is_set()
    stop = visit.stop
    cleared = page.begin(None, request)
    assert stop.is_set()
    assert "Here your faces" in cleared["gallery"]
    assert cleared["detail"] == ""
    assert "earlier pictures" in cleared["earlier"]
    (last,) = searched  # What it said before may be shown after the page was cleared.
    assert "Choose a picture to begin." in last["status"]
    assert "Here your faces" in last["gallery"]
    assert (last["run"].visible, last["stop"].visible) == (True, False)
    assert len(visit.past) == 1  # What it found is not kept.
    assert visit.running == 0


@pytest.mark.usefixtures("small_networks")
def test_a_face_of_a_search_that_was_stopped_goes_into_the_photo(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, photo = Handlers(studio), EXAMPLES / "two.jpg"
    request: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="1.2.3.4"))
    side = studio.framings(photo, as_it_is=False)[0].side
    list(page.search(request, *astuple(order(photo, candidates=1, steps=1))))
    page.halt(request)
    last = list(page.put_back(0, request))[-1]
    assert "right of it with an imaginary face" in last["photo"]
    assert "finer than what can be drawn" not in last["photo"]

    # Without a network it is as it was drawn, which is said.
    list(page.search(request, *astuple(order(photo, candidates=1, steps=1, finish=OFF))))
    last = list(page.put_back(1, request))[-1]
    assert (
        f"The photo is finer than what can be drawn: the face takes {side}x{side} of its pixels "
        "and was drawn with 32x32, so that it looks softer than what is around it."
    ) in last["photo"]

    # Another picture ends it, also while a network is at work.
    visit, fitted = studio.find("me"), Finisher.fitted
    assert visit is not None

    def meanwhile(finisher: Finisher, images: torch.Tensor, size: int) -> torch.Tensor:
        visit.turn_to(None, threading.Event())
        return fitted(finisher, images, size)

    monkeypatch.setattr(Finisher, "fitted", meanwhile)
    assert "photo_file" not in str(list(page.put_back(0, request)))


@pytest.mark.usefixtures("small_networks")
def test_who_has_a_face_put_into_the_photo_is_not_evicted(studio: Studio) -> None:
    page, photo = Handlers(studio), EXAMPLES / "two.jpg"
    request: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="1.2.3.4"))
    studio.framings(photo, as_it_is=False)
    list(page.search(request, *astuple(order(photo, candidates=1, steps=1))))
    visit = studio.find("me")
    assert visit is not None
    others = [studio.line.join() for _ in range(studio.limits.searches)]
    pasting = page.put_back(0, request)
    assert "in the line" in str([next(pasting), next(pasting)])
    for name in ("a", "b", "c"):
        studio.visit(name)
    assert studio.find("me") is visit
    for ticket in others:
        studio.line.leave(ticket)
    assert "with an imaginary face" in list(pasting)[-1]["photo"]
    assert visit.running == 0


def test_who_has_not_seen_the_faces_of_a_photo_cannot_search_for_one(studio: Studio) -> None:
    page, photo = Handlers(studio), EXAMPLES / "two.jpg"
    request: Any = SimpleNamespace(session_hash="me", client=SimpleNamespace(host="1.2.3.4"))
    quick = astuple(order(photo, candidates=1, steps=1))
    assert "choose one of them" in str(list(page.search(request, *quick))[-1]["problem"])
    assert "All of them" in page.look(str(photo), False)["faces"]
    list(page.search(request, *astuple(order(photo, candidates=1, steps=1, face=ALL))))
    visit = studio.find("me")
    assert visit is not None
    assert [past.asked.wish.face for past in visit.past] == [0, 1]
    many = astuple(order(photo, candidates=13, steps=1, face=ALL))
    assert "ask for 12" in str(list(page.search(request, *many))[-1]["problem"])


def test_a_folder_that_goes_during_a_sweep_is_no_error(studio: Studio) -> None:
    """The page would end with it."""
    (studio.folder / "gone").symlink_to(studio.folder / "nowhere")
    old = studio.new_folder()
    studio.sweep(-1)
    assert not old.exists()
