"""What the page does, without the page: a line of visitors, their searches and their files."""

from __future__ import annotations

import io
import secrets
import shutil
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pulse.devices import Precision
from pulse.faces.framing import MIN_LR_SIZE, Framing, find_framings
from pulse.faces.prepare import FaceSettings, LRFace, prepare
from pulse.imaging.pictures import (
    InputError,
    Picture,
    read_picture,
    to_image,
    to_tensor,
    write_bytes,
)
from pulse.results import Result, facts_of, finished_by, pasted, too_fine, write_result
from pulse.search import Start, State
from pulse.superres.finish import AUTO, OFF
from pulse.upscale import UpscaleConfig, Upscaler
from pulse.web.history import Visit
from pulse.web.line import Line
from pulse.web.updates import (
    Done,
    Limits,
    Opening,
    Pasted,
    Preparing,
    Searching,
    Tell,
    Update,
    Wish,
)
from stylegan import EMBEDDED, CheckpointError, zoo

CLOSE = 4.0
"""A candidate whose error is at most this many times the tolerance is called close."""
KEPT = 3600.0
"""Seconds after which what a visitor gave and got is removed, if he has not left before."""
PICTURE = "The picture"
NO_FACE = (
    "No face was found in the picture. Crop it to a square around one face, or tick 'Take it as it "
    "is' in the settings if it is nothing but a face."
)


class Studio:
    """The generators, the line before them, and the visitors' folders."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        generator: str = EMBEDDED,
        device: str = "auto",
        precision: Precision = "auto",
        upscaler: Upscaler | None = None,
    ) -> None:
        """Open the first generator.

        Args:
            folder: for temporary files; what lies in it for longer than `KEPT` is removed.
            generator: name or file of the one that is chosen at first.
            upscaler: that generator if it is open already.

        Raises:
            InputError: there is no such device.
            stylegan.CheckpointError: there is no such generator, or it cannot be opened.
        """
        self.folder, self.limits = folder, limits or Limits()
        self.device = device
        self.precision: Precision = precision
        self.first = generator
        self._loaded = OrderedDict(
            {generator: upscaler or Upscaler.load(generator, device, precision)}
        )
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._looking = threading.Lock()
        self._framings: OrderedDict[tuple[Path, bool], list[Framing]] = OrderedDict()
        self.line = Line(self.limits.searches, self.limits.waiting, self.limits.each)
        self._visits: OrderedDict[str, Visit] = OrderedDict()

    def generators(self) -> list[str]:
        """Names that may be asked for: the first one's, those here, and those to be fetched."""
        names = [model.name for model in zoo.MODELS if self.limits.fetch or zoo.is_here(model)]
        return [self.first, *(name for name in names if name != self.first)]

    def read(self, path: Path) -> Picture:
        """A visitor's picture.

        Raises:
            InputError: it is too large, or none that can be read.
        """
        if not path.is_file():
            raise InputError("The picture is not here any more; please give it again.")
        if path.stat().st_size > self.limits.upload:
            raise InputError(
                f"The file has {path.stat().st_size / 1e6:.1f} MB; at most "
                f"{self.limits.upload / 1e6:.3g} MB are taken here: make the picture smaller."
            )
        return read_picture(path, PICTURE, self.limits.pixels)

    def framings(self, path: Path, as_it_is: bool) -> list[Framing]:
        """Where the faces of a picture are, largest first.

        Args:
            as_it_is: whether no face is looked for, and the picture taken as one.

        Raises:
            InputError: the picture cannot be used, or shows none.
        """
        key = (path, as_it_is)
        found = self._framings.get(key)
        if found is None:
            picture = self.read(path)  # Beside others, who need not wait for a slow one.
            with self._looking:  # The detector serves one at a time.
                try:
                    found = find_framings(picture, PICTURE, "never" if as_it_is else "auto")
                except InputError:
                    found = []
                self._framings[key] = found
                while len(self._framings) > self.limits.visitors:
                    self._framings.popitem(last=False)
        if not found:
            raise InputError(NO_FACE)
        return found

    def has_looked(self, path: Path, as_it_is: bool) -> bool:
        """Whether it is known already where the faces of a picture are."""
        return (path, as_it_is) in self._framings

    def face(self, wish: Wish) -> LRFace:
        """The face as it would be matched.

        Raises:
            InputError: the picture or the generator cannot be used, or not like that.
        """
        framings = self.framings(wish.picture, wish.as_it_is)
        if not 0 <= wish.face < len(framings):
            raise InputError(f"The picture has no face {wish.face + 1}; choose another.")
        framing, size = framings[wish.face], wish.lr_size
        resolution = self._resolution(wish.generator)
        if size is not None and not MIN_LR_SIZE <= size <= min(framing.side, resolution):
            raise InputError(
                f"The face has {framing.side} pixels per side and the generator draws "
                f"{resolution}, so it cannot be matched at {size}: choose a size from "
                f"{MIN_LR_SIZE} to {min(framing.side, resolution)}, or 0."
            )
        settings = FaceSettings(size, wish.degrade, find_grey=True)
        picture = self.read(wish.picture)
        (face,) = prepare(picture, settings, resolution, PICTURE, [framing])
        return face

    def run(
        self,
        wish: Wish,
        config: UpscaleConfig,
        preset: str,
        stop: threading.Event,
        address: str = "",
    ) -> Iterator[Update]:
        """Wait, open the generator and search; the last update is `Done`.

        Args:
            preset: that `config.search` was made from.
            stop: ends it when set.
            address: of who asks, of whom only so many are taken.

        It ends within a second after `stop` is set, without `Done` if the search had not begun.
        The place in the line is free again when the step that is being computed is over.

        Raises:
            InputError, stylegan.CheckpointError, MemoryError: it cannot be done.
        """
        self.limits.check(config)
        face = self.face(wish)  # Before the line: whoever gave what is no face need not wait.
        upscaler: Upscaler | None = None
        searched: State | None = None
        complete = False

        def work(tell: Tell) -> None:
            nonlocal upscaler, searched, complete
            upscaler = self._open(wish.generator, tell)
            if not upscaler.ready(face, config.search):
                tell(Preparing())
            tolerance = config.search.with_noise(face.degrade.noise).tolerance
            near = wish.near
            ws = None if near is None else near.ws.to(upscaler.generator.device)
            begin = None if ws is None else Start.near(ws, upscaler.prior, config.seeds)
            start = time.monotonic()
            for state in upscaler.search(face, config, start=begin):
                finishing = config.finishes and state.exact is not None
                searched = state if state.exact is None else searched
                seconds = time.monotonic() - start
                tell(Searching(state, seconds, tolerance, finishing))
            complete = True

        shown: Searching | None = None
        for update in self.line.serve(work, stop, address):
            yield update
            if isinstance(update, Searching):
                shown = update
        if shown is not None:
            assert upscaler is not None
            assert searched is not None
            source, state = wish.picture.name, shown.state
            if not complete:  # Who stops does not want to wait for larger faces.
                config = replace(config, size=None, finish=AUTO)
                state = upscaler.finished(face, searched, config)
            stopped, seed = not complete, None if wish.near is None else wish.near.seed
            yield Done(
                Result(source, face, state, config, preset, upscaler, shown.seconds, stopped, seed)
            )

    def _resolution(self, generator: str) -> int:
        loaded = self._loaded.get(generator)
        if loaded is not None:
            return loaded.generator.resolution
        model = zoo.find(generator)
        if model is None or generator not in self.generators():
            raise InputError(f"No generator is named {generator} here; choose one of the list.")
        return model.resolution

    def _open(self, name: str, tell: Tell) -> Upscaler:
        """The generator of that name; the two that were used last are kept open."""
        with self._opening:
            if name not in self._loaded:
                tell(Opening(name))
                model = zoo.find(name)
                if model is not None and not zoo.is_here(model):
                    zoo.fetch(model, lambda _, done, total: tell(Opening(name, done, total)))
                self._loaded[name] = Upscaler.load(name, self.device, self.precision)
            self._loaded.move_to_end(name)
            while len(self._loaded) > 2:
                self._loaded.popitem(last=False)
            return self._loaded[name]

    def first_upscaler(self, tell: Tell) -> Upscaler:
        """The generator that is chosen at first, ready to search."""
        return self._open(self.first, tell)

    def find(self, key: str) -> Visit | None:
        """What is kept of the visitor of that key, if he has searched here."""
        with self._lock:
            visit = self._visits.get(key)
            if visit is not None:
                visit.used = time.monotonic()
                self._visits.move_to_end(key)
            return visit

    def visit(self, key: str) -> Visit:
        """The same for one who searches, after whom others may have to be forgotten."""
        visit = self.expect(key)
        self.make_room(key)
        return visit

    def expect(self, key: str) -> Visit:
        """The same for one who may yet be refused, and for whom nobody is forgotten before."""
        visit = self.find(key)
        if visit is not None:
            return visit
        with self._lock:
            return self._visits.setdefault(key, Visit(self.new_folder()))

    def make_room(self, key: str) -> None:
        """Forget those who were idle longest, if there are too many visitors with that one."""
        with self._lock:
            idle = [k for k, one in self._visits.items() if not one.running and k != key]
            excess = max(len(self._visits) - self.limits.visitors, 0)
        for other in idle[:excess]:
            self.leave(other)

    def new_folder(self) -> Path:
        """A folder for files to fetch, whose name nobody else can guess."""
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        return folder

    def leave(self, key: str) -> None:
        """Stop what the visitor has going on and remove what is kept of him."""
        with self._lock:
            visit = self._visits.pop(key, None)
        if visit is not None:
            for stop in (visit.stop, *visit.stops.values()):
                stop.set()
            shutil.rmtree(visit.folder, ignore_errors=True)

    def paste(
        self, visit: Visit, number: int, stop: threading.Event, address: str = ""
    ) -> Iterator[Waiting | Pasted]:
        """The visitor's photo with a face of his visit in the place of the one that was there.

        The face is made as large as that place by a network, in its turn like a search.

        Raises:
            InputError: there is no such photo any more, or no face was found in it.
        """
        found = visit.find(number)
        if found is None or found[0].face.framing is None:
            raise InputError("There is no photo to paste into any more; please give it again.")
        past, index = found
        framing = past.face.framing
        assert framing is not None
        if framing.found is None:
            raise InputError("No face was found in the picture, so there is none to replace.")
        photo = self.read(past.asked.wish.picture).image
        finish = OFF if past.finisher is not None else past.asked.finish
        ticket = self.line.join(address)
        try:
            yield from self.line.turn(ticket, stop)
            if stop.is_set():
                return
            upscaler = [*self._loaded.values()][-1]  # Whichever: the networks are the same.
            facts = facts_of(past.file(index))
            with Image.open(past.file(index)) as image:
                new = image.convert("RGB")
            size, finisher = upscaler.for_photo(new.width, framing.side, finish)
            if finisher is not None:
                small = to_tensor(new)[None].to(upscaler.generator.device)
                new = to_image(finisher.fitted(small, size)[0])
                facts |= finished_by(finisher)
            if stop.is_set():  # Meanwhile, which can have been long, there is another picture.
                return
            target = past.folder / f"photo-{index:02d}.png"
            write_bytes(target, pasted(new, facts, framing, photo))
        finally:
            self.line.leave(ticket)
        yield Pasted(target, photo, too_fine(framing.side, size))

    def sweep(self, age: float = KEPT) -> None:
        """Remove what was not used for so many seconds, uploads included."""
        with self._lock:
            idle = [(k, v) for k, v in self._visits.items() if not v.running]
            old = [k for k, v in idle if time.monotonic() - v.used > age]
            kept = {visit.folder for visit in self._visits.values()}
        for key in old:
            self.leave(key)
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # Its visitor may be leaving just now.
                if path not in kept and time.time() - path.stat().st_mtime > age:
                    shutil.rmtree(path, ignore_errors=True)


def archive(result: Result, folder: Path) -> Path:
    """Write a result into a folder, and all its files into `pulse.zip` beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    write_result(result, folder)
    return packed(folder)


def packed(folder: Path) -> Path:
    """Write all files of a folder into `pulse.zip` beside them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:  # PNG is compressed already.
        for path in sorted(folder.iterdir()):
            if not path.name.startswith("."):  # Not whole yet.
                file.write(path, path.name)
    target = folder / "pulse.zip"
    write_bytes(target, buffer.getvalue())
    return target


def apology(error: BaseException, word: Callable[[str], str] = str) -> str | None:
    """What to tell a visitor, in a sentence; None if the fault is not his.

    Args:
        word: what the front end calls a setting.
    """
    if isinstance(error, InputError):
        return error.worded(word)
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is too little memory: ask for fewer candidates, or for a smaller generator."
    return None
