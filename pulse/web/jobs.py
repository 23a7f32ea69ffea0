"""Jobs of the tabs beside Face: each waits its turn, says how far it is, and can be stopped."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import gradio as gr

from pulse import superres
from pulse.imaging.pictures import InputError
from pulse.superres import weights
from pulse.superres.weights import AnyNetwork
from pulse.upscale import Precision, choose_device, network_precision
from pulse.web import html
from pulse.web.blocks import address_of
from pulse.web.controls import sentence
from pulse.web.line import RefusedError
from pulse.web.studio import Studio
from pulse.web.updates import Updates, Waiting

KEPT_OPEN = 2
"""Networks that stay in memory."""
WORDS = {
    "frvsr-x4": "for films, steady",
    "srresnet-x4": "true, but soft",
    "compact-x4": "true, soft, quick",
    "realesrgan-x4plus": "sharp, but slow",
    "realesrgan-x4plus-anime": "for drawings",
    "realesr-animevideov3-x2": "cartoons, quick",
    "realesr-animevideov3-x3": "cartoons, quick",
    "realesr-animevideov3-x4": "cartoons, quick",
}
"""What networks are good for."""


@dataclass(frozen=True)
class Note:
    """What is going on, in a sentence, and how far it is if that is known."""

    text: str
    share: float | None = None


@dataclass(frozen=True)
class Made:
    """What came of a job, or of a part of it.

    Attributes:
        record: the facts, for programs.
        file: to download, at the end of the job.
        folder: where its files are.
        shown: pictures of it before and after.
        cut: whether it was stopped before it was done.
    """

    record: dict[str, Any]
    file: Path | None = None
    folder: Path | None = None
    shown: tuple[Path, Path] | None = None
    cut: bool = False


Step: TypeAlias = Waiting | Note | Made


@dataclass(frozen=True)
class Place:
    """Where a job is done.

    Attributes:
        folder: of its files.
        stop: ends it when set.
        address: of who asks.
    """

    folder: Path
    stop: threading.Event
    address: str = ""


class Job(Protocol):
    """What a visitor asks for, once it is known that it can be done."""

    def run(self, place: Place) -> Iterator[Step]:
        """Wait, and do it.

        Raises:
            InputError, stylegan.CheckpointError, MemoryError: it cannot be done after all.
        """
        ...


class Networks:
    """The networks that visitors may name; those that were used last are kept open."""

    def __init__(self, device: str, precision: Precision) -> None:
        self._device = device
        self._precision: Precision = precision
        self._open: OrderedDict[str, AnyNetwork] = OrderedDict()
        self._lock = threading.Lock()

    def choices(self, best_first: Sequence[str]) -> list[tuple[str, str]]:
        """What each is called on the page, and its name; the best first."""
        here = superres.names()
        names = [name for name in best_first if name in here]
        names += [name for name in here if name not in names]
        return [(f"{n}: {WORDS[n]}" if n in WORDS else n, n) for n in names]

    def check(self, name: str) -> str:
        """The name, if visitors may use it; a file of the server they may not.

        Raises:
            InputError: they may not.
        """
        if name not in superres.names():
            raise InputError(f"No network is named {name} here; choose one of the list.")
        return name

    def open(self, name: str) -> AnyNetwork:
        with self._lock:
            if name not in self._open:
                place = choose_device(self._device)
                precision = network_precision(self._precision, place)
                self._open[name] = weights.load(self.check(name), place, precision)
            self._open.move_to_end(name)
            while len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)
            return self._open[name]


@dataclass(frozen=True)
class Stage:
    """The parts of a tab that tell of a job.

    Attributes:
        begin: all buttons that begin one.
    """

    problem: gr.HTML
    status: gr.HTML
    begin: tuple[gr.Button, ...]
    stop: gr.Button

    def busy(self) -> Updates:
        return {
            self.problem: "",
            self.status: html.status("Starting."),
            **{button: gr.Button(visible=False) for button in self.begin},
            self.stop: gr.Button(visible=True, interactive=True),
        }

    def ended(self) -> Updates:
        buttons: Updates = {button: gr.Button(visible=True) for button in self.begin}
        return {**buttons, self.stop: gr.Button(visible=False)}

    def failed(self, error: Exception) -> Updates:
        words = html.message(sentence(error))
        return {self.problem: words, self.status: html.status("Nothing was made."), **self.ended()}

    @property
    def parts(self) -> list[Any]:
        return [self.problem, self.status, *self.begin, self.stop]


@dataclass(frozen=True)
class Desk:
    """What visitors have going on in one tab: one job each."""

    studio: Studio
    tab: str

    def stop(self, request: gr.Request) -> None:
        """Stop the visitor's job, if there is one."""
        visit = self.studio.find(str(request.session_hash))
        if visit is not None and self.tab in visit.stops:
            visit.stops[self.tab].set()

    def halt(self, request: gr.Request) -> Any:
        """The same by a button, which is then idle."""
        self.stop(request)
        return gr.Button(interactive=False)

    def attend(
        self,
        request: gr.Request,
        stage: Stage,
        prepare: Callable[[], Job],
        show: Callable[[Made], Updates],
    ) -> Iterator[Updates]:
        """Do a job for a visitor of the page and show how far it is."""
        stop = threading.Event()
        self.stop(request)  # An earlier one, should it go on.
        yield stage.busy()
        try:
            job, made = prepare(), None  # Who asks for what cannot be is not kept.
            with self._at_work(request, stop) as place:
                for number, step in enumerate(job.run(place)):
                    if number == 0:  # It was let into the line.
                        self.studio.make_room(str(request.session_hash))
                    if isinstance(step, Made):
                        made = step
                        yield show(step)
                    else:
                        yield {stage.status: _told(step)}
            if made is None:
                yield {stage.status: html.status("Stopped before anything was made.")}
            elif made.cut:
                yield {stage.status: html.status("Stopped. What was made so far is kept.")}
            yield stage.ended()
        except Exception as error:
            if stop.is_set() and self.studio.find(str(request.session_hash)) is None:
                return  # Who left took the folder along: nobody is there to be told.
            yield stage.failed(error)

    def answer(
        self, request: gr.Request, prepare: Callable[[], Job]
    ) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The same for a program: records, and at last one with a file."""
        try:
            job = prepare()
            place = Place(self.studio.new_folder(), threading.Event(), address_of(request))
            for step in job.run(place):
                if isinstance(step, Waiting):
                    yield {"ahead": step.ahead}, None
                elif isinstance(step, Note):
                    yield {"doing": step.text, "share": step.share}, None
                else:
                    yield step.record, None if step.file is None else str(step.file)
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    @contextmanager
    def _at_work(self, request: gr.Request, stop: threading.Event) -> Iterator[Place]:
        """A visitor's place; one who is new and whom the line refuses is not kept."""
        key = str(request.session_hash)
        new, visit = self.studio.find(key) is None, self.studio.expect(key)
        visit.stops[self.tab], visit.running = stop, visit.running + 1
        try:
            yield Place(visit.folder / self.tab, stop, address_of(request))
        except RefusedError:
            if visit.stops.get(self.tab) is stop:
                del visit.stops[self.tab]  # So that it is not taken for a job that was stopped.
            if new and visit.running == 1:
                self.studio.leave(key)
            raise
        finally:
            visit.running -= 1


def _told(step: Waiting | Note) -> str:
    if isinstance(step, Note):
        return html.status(step.text, step.share)
    come = "One comes" if step.ahead == 1 else f"{step.ahead} come"
    return html.status(f"You are number {step.ahead + 1} in the line. {come} first.")


def emptied(folder: Path, kept: str = "") -> Path:
    """A folder without what an earlier job left in it, but for what has that name."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name == kept:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    return folder


def check_upload(path: Path | None, most: int, what: str) -> Path:
    """A visitor's file.

    Args:
        most: bytes that it may have.
        what: it is, as in "film".

    Raises:
        InputError: it is not there or too large.
    """
    if path is None:
        raise InputError(f"Choose a {what} first.")
    if not path.is_file():
        raise InputError(f"The {what} is not here any more; please give it again.")
    size = path.stat().st_size
    if size > most:
        raise InputError(
            f"The file has {size / 1e6:.1f} MB; at most {most / 1e6:.3g} MB are taken here: make "
            f"the {what} smaller."
        )
    return path


@contextmanager
def reworded(words: Mapping[str, str]) -> Iterator[None]:
    """Errors in the page's words: what visitors know, and not where files lie here."""
    try:
        yield
    except InputError as error:
        text = str(error.args[0])
        for said, better in words.items():
            text = text.replace(said, better)
        raise InputError(text) from error
