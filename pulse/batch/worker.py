"""One generator on one device that works through pictures, whoever gives them out."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from pulse import __version__
from pulse.batch.inputs import Item
from pulse.batch.manifest import Entry
from pulse.batch.storage import Folder, StorageError, read_file
from pulse.faces.framing import Framing, choose, find_framings
from pulse.faces.prepare import LRFace, prepare
from pulse.imaging.pictures import InputError, decode_picture
from pulse.results import OURS, RECORD, Result, result_files
from pulse.search import State, Status
from pulse.superres import mending
from pulse.upscale import UpscaleConfig, Upscaler

AHEAD = 8
"""Pictures that are read, and whose faces are looked for, before the search needs them."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class Order:
    """A picture for a worker.

    Attributes:
        known: what the manifest says of it.
        force: whether it is done anew even if it is complete.
    """

    number: int
    item: Item
    known: tuple[Entry, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class Report:
    """What a worker did.

    Attributes:
        number: of the order.
        entries: for the manifest, or, if not `fresh`, those of it that still hold.
        last: whether the order is done with.
    """

    number: int
    entries: tuple[Entry, ...]
    fresh: bool = True
    last: bool = True


Reports = Generator[Report, None, None]


@dataclass(frozen=True)
class _Job:
    """A face to be searched for.

    Attributes:
        entry: all of its line but what comes of the search.
    """

    order: Order
    face: LRFace
    config: UpscaleConfig
    entry: Entry


class Worker:
    """Does orders with one generator on one device."""

    def __init__(self, upscaler: Upscaler, output: Folder, batch: int | None = None) -> None:
        self.upscaler, self.output, self.batch = upscaler, output, batch

    def work(self, orders: Iterator[Order | None]) -> Iterator[Report]:
        """Do orders, several at once where the device has room.

        Args:
            orders: None among them says that there are no more for the moment, so that what is in
                work is reported before the next one is waited for.

        Raises:
            StorageError: the output folder cannot be used any more.
            MemoryError: there is too little memory for a single candidate.
        """
        with _Ahead(map(self._prepare, orders)) as prepared:
            yield from self._search(prepared)

    def _search(self, prepared: _Ahead[list[Report | _Job]]) -> Iterator[Report]:
        """Pass reports on and search for jobs, as many at once as the device has room for."""
        left: dict[int, int] = {}  # Of each order in work, how many faces are not done.
        ready: deque[Report] = deque()
        searched = 0  # Jobs that are searched for at the moment.
        over = False

        def take() -> Iterator[tuple[LRFace, UpscaleConfig, _Job]]:
            """Jobs, until reports have to be passed on first."""
            nonlocal over, searched
            while len(ready) < AHEAD:
                parts = next(prepared, None)
                if parts is None:
                    over = True
                    return
                if not parts and (searched or ready) and prepared.empty():
                    return
                for part in parts:
                    if isinstance(part, Report):
                        ready.append(part)
                    else:
                        left[part.order.number] = left.get(part.order.number, 0) + 1
                for part in parts:
                    if isinstance(part, _Job):
                        searched += 1
                        yield part.face, part.config, part

        while not over:
            for job, state, seconds in self.upscaler.search_many(take(), self.batch):
                searched -= 1
                entry = self._write(job, state, seconds)
                left[job.order.number] -= 1
                done = left[job.order.number] == 0
                if done:
                    del left[job.order.number]
                yield Report(job.order.number, (entry,), last=done)
                while ready:
                    yield ready.popleft()
            while ready:
                yield ready.popleft()

    def _prepare(self, order: Order | None) -> list[Report | _Job]:
        """Read a picture and find its faces: what can be said at once, and what to search for.

        Nothing comes of None alone.
        """
        if order is None:
            return []
        item, settings = order.item, order.item.settings
        blank = Entry(item.output, None, item.source, None, None, None, 0, "error")
        if item.wrong is not None:
            return [Report(order.number, (replace(blank, reason=item.wrong),))]
        try:
            data = read_file(item.place, item.source)
        except StorageError:
            raise
        except InputError as error:
            return [Report(order.number, (replace(blank, reason=str(error)),))]
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            blank = replace(blank, sha256=sha256, key=self._key(item, sha256))
            done = {entry.face: entry for entry in self._complete(order, blank.key)}
            if done and len(done) == next(iter(done.values())).faces:
                return [Report(order.number, tuple(done.values()), fresh=False)]
            picture = decode_picture(data, item.source)
            faces = settings.faces
            found = find_framings(picture, item.source, faces.align, faces.detector)
            chosen = choose(found, faces.which, item.source)
        except StorageError:
            raise
        except Exception as error:  # Whatever a picture does to a reader, others come after it.
            self._discard(order, set(), blank.key)
            return [Report(order.number, (replace(blank, reason=_reason(error)),))]

        blank = replace(blank, faces=len(chosen))
        folders = {_folder(item.output, framing.index) for framing in chosen}
        self._discard(order, folders, blank.key)
        failed: list[Entry] = []

        def refuse(framing: Framing, error: InputError) -> None:
            failed.append(replace(blank, face=framing.index, reason=str(error)))

        low = prepare(
            picture,
            faces,
            self.upscaler.generator.resolution,
            name=item.source,
            framings=[framing for framing in chosen if framing.index not in done],
            refuse=refuse,
        )
        jobs: list[Report | _Job] = []
        for face in low:
            folder = _folder(item.output, face.index)
            entry = replace(blank, face=face.index, folder=folder, notes=face.notes)
            jobs.append(_Job(order, face, settings.config, entry))
        reports: list[Report | _Job] = []
        if done:
            reports.append(Report(order.number, tuple(done.values()), fresh=False, last=False))
        if failed or not jobs:
            reports.append(Report(order.number, tuple(failed), last=not jobs))
        return reports + jobs

    def _key(self, item: Item, sha256: str) -> str:
        """What a result depends on, in one number.

        The device and the batch size are not in it; the precision that they lead to is.
        """
        mask = item.settings.config.degrade and item.settings.config.degrade.mask
        finisher = self.upscaler.finisher(item.settings.config)
        facts = {
            "version": __version__,
            "generator": self.upscaler.sha256,
            "precision": self.upscaler.precision,
            "finish": finisher and finisher.sha256,
            "mending": mending.identity() if item.settings.config.search.mend else None,
            "input": item.source,
            "sha256": sha256,
            "settings": item.settings.record(),
            "mask": mask and hashlib.sha256(read_file(str(mask), str(mask))).hexdigest(),
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _complete(self, order: Order, key: str | None) -> Iterator[Entry]:
        """The faces that are there with all their files, made from the same."""
        for entry in order.known:
            if order.force or entry.key != key or entry.folder is None:
                continue
            if self.output.names(entry.folder) >= set(entry.files):
                yield entry

    def _discard(self, order: Order, kept: set[str], key: str | None) -> None:
        """Remove what was made of another picture or other settings and is not made again."""
        for entry in order.known:
            if entry.folder is None or entry.key == key or entry.folder in kept:
                continue
            try:
                record = json.loads(self.output.read(f"{entry.folder}/{RECORD}") or b"{}")
            except ValueError:
                record = {}
            # Another picture may have been given that folder meanwhile.
            if (record.get("input"), record.get("face")) == (entry.input, entry.face):
                for name in (RECORD, *entry.files):
                    self.output.remove(f"{entry.folder}/{name}")

    def _write(self, job: _Job, state: State, seconds: float) -> Entry:
        """Write a result, the record last, and say what was written."""
        item, settings, folder = job.order.item, job.order.item.settings, job.entry.folder
        assert folder is not None
        result = Result(
            item.source, job.face, state, job.config, settings.preset, self.upscaler, seconds
        )
        try:
            photo = None
            if settings.paste and result.pastable:
                # Read again, since the photos of all that is in work might not fit into memory.
                data = read_file(item.place, item.source)
                if hashlib.sha256(data).hexdigest() != job.entry.sha256:
                    raise InputError(f"{item.source} was changed while it was worked on.")
                photo = decode_picture(data, item.source).image
            record = result.record(settings.format, photo is not None)
            before = self.output.names(folder)
            if RECORD in before:
                self.output.remove(f"{folder}/{RECORD}")
            files: list[str] = []
            for name, data in result_files(result, record, photo):
                self.output.write(f"{folder}/{name}", data)
                files.append(name)
            for name in before - set(files):
                if OURS.fullmatch(name):
                    self.output.remove(f"{folder}/{name}")
        except StorageError:
            raise
        except InputError as error:
            return replace(job.entry, folder=None, reason=str(error))
        status = max(result.state.status, key=_GOODNESS.index)
        mse = tuple(candidate["mse"] for candidate in record["candidates"])
        return replace(
            job.entry,
            status=str(status),
            mse=mse,
            plausibility=result.plausibility,
            ranked=tuple(result.ranked),
            files=tuple(files),
            seconds=round(seconds, 2),
        )


_GOODNESS = (Status.NONFINITE, Status.NOT_CONVERGED, Status.FOUND)


def _folder(output: str, index: int) -> str:
    return output if index == 0 else f"{output}-{index}"


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"It could not be made ready ({type(error).__name__}: {error})."


class _Ahead(Iterator[Value]):
    """Takes from an iterator in a thread, a few ahead, so that whoever needs them need not wait.

    What the iterator raises is raised where it is read. The thread ends with the `with`.
    """

    def __init__(self, source: Iterator[Value]) -> None:
        self._source = source
        self._queue: queue.Queue[tuple[Value] | BaseException | None] = queue.Queue(AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __enter__(self) -> _Ahead[Value]:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):  # It may be waiting for room.
                self._queue.get(timeout=0.05)

    def __next__(self) -> Value:
        got = self._queue.get()
        if isinstance(got, BaseException):
            raise got
        if got is None:
            raise StopIteration
        return got[0]

    def empty(self) -> bool:
        """Whether none is ready."""
        return self._queue.empty()

    def _take(self) -> None:
        try:
            for value in self._source:
                if self._stop.is_set():
                    return
                self._queue.put((value,))
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)
