"""Many pictures: jobs that can be killed at any moment and gone on with.

A `Batch` is an iterable of outcomes, one for each face, as they are done. Who does the work is an
`Engine`: `Local` here, or a cluster's. Either gives `Order`s to `Worker`s, which read a picture,
search for its faces and write what they found; the batch alone writes the manifest.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from pulse import __version__
from pulse.batch.contact_sheet import write_sheet
from pulse.batch.inputs import Inputs, Item
from pulse.batch.manifest import Entry, Manifest
from pulse.batch.storage import Folder, StorageError, open_folder, read_file
from pulse.faces.framing import choose, find_framings
from pulse.imaging.pictures import InputError, decode_picture
from pulse.results import OURS, RECORD, Result, files_of
from pulse.search import State, Status
from pulse.settings import Settings
from pulse.upscale import Face, UpscaleConfig, Upscaler, find_faces
from stylegan import EMBEDDED

AHEAD = 8
"""Pictures that are read, and whose faces are looked for, before the search needs them."""
SUMMARY = "summary.json"
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


class Engine(Protocol):
    """Does the orders of a batch."""

    def work(self, output: str, owner: bytes, orders: Iterator[Order]) -> Reports:
        """Do the orders, of which no more are taken than can be worked on soon.

        Args:
            output: the output folder.
            owner: what its `storage.OWNER` holds.
        """
        ...


class Local:
    """Works in this process, on one device."""

    def __init__(self, upscaler: Upscaler, batch: int | None = None) -> None:
        """
        Args:
            batch: candidates drawn at once, whomever they are of; None takes what is good.
        """
        self.upscaler, self.batch = upscaler, batch

    def work(self, output: str, owner: bytes, orders: Iterator[Order]) -> Reports:
        yield from Worker(self.upscaler, open_folder(output), self.batch).work(orders)


@dataclass(frozen=True)
class Outcome:
    """What became of a face.

    Attributes:
        entry: its line in the manifest.
        fresh: whether it was done now; else it was complete before.
    """

    entry: Entry
    fresh: bool


@dataclass
class Summary:
    """Counts of a batch.

    Attributes:
        inputs: pictures that were done with, those that were complete before included.
        faces: written, now or before; `found` of them have a candidate that matches.
        errors: pictures or faces that could not be used.
        searched: faces that were written now.
        seconds: that it took.
    """

    inputs: int = 0
    faces: int = 0
    found: int = 0
    errors: int = 0
    searched: int = 0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.errors += outcome.entry.failed
        self.faces += not outcome.entry.failed
        self.found += outcome.entry.status == Status.FOUND
        self.searched += outcome.fresh and not outcome.entry.failed

    @property
    def rate(self) -> float:
        """Faces searched for in a minute."""
        return 60 * self.searched / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Whether every face was found and nothing failed."""
        return self.found == self.faces and not self.errors

    def __str__(self) -> str:
        found = f"{self.found} found" + (f" ({self.found / self.faces:.0%})" if self.faces else "")
        before = self.faces - self.searched
        skipped = f", {before} of them done before" if before else ""
        rate = f", {self.rate:.1f} faces a minute" if self.searched else ""
        return (
            f"{self.inputs} pictures, {self.faces} faces{skipped}: {found}, "
            f"{self.faces - self.found} not found, {self.errors} failed; "
            f"{self.seconds:.1f} s{rate}."
        )

    def record(self) -> dict[str, object]:
        return {
            **asdict(self),
            "seconds": round(self.seconds, 2),
            "not_found": self.faces - self.found,
            "found_rate": round(self.found / self.faces, 4) if self.faces else None,
            "faces_a_minute": round(self.rate, 2),
        }


class Batch:
    """Works through pictures; iterating is working, and stopping loses only what is in the making.

    What is complete for the same picture, settings, generator and version is not done again.
    """

    def __init__(
        self,
        inputs: Iterable[Item],
        output: str,
        engine: Engine,
        force: bool = False,
        break_lock: bool = False,
    ) -> None:
        """
        Args:
            inputs: as of `Inputs`.
            output: folder, or address of one; it is made.
            force: do everything anew.
            break_lock: work although it cannot be known whether another batch that wrote to the
                same object storage has ended.
        """
        self.inputs, self.engine, self.force, self.break_lock = inputs, engine, force, break_lock
        self.folder = open_folder(output)
        self.summary = Summary()

    def __iter__(self) -> Iterator[Outcome]:
        """Work; the outcomes come as they are done, which need not be in order.

        Raises:
            StorageError: the output folder cannot be written, or not any more, or another batch
                writes to it. What was done stays, and the next batch goes on from there.
            InputError: the inputs cannot be listed.
            MemoryError: there is too little memory for a single candidate.
        """
        self.summary = summary = Summary()
        start = time.monotonic()
        with self.folder.owned(self.break_lock) as owner:
            manifest = Manifest(self.folder)
            sound = False
            try:
                orders = self._orders(manifest)
                with closing(self.engine.work(self.folder.place, owner, orders)) as reports:
                    for report in reports:
                        for entry in report.entries:
                            if report.fresh:
                                manifest.append(entry)
                            elif report.last:
                                manifest.settle(entry.output)
                            outcome = Outcome(entry, report.fresh)
                            summary.add(outcome)
                            summary.seconds = time.monotonic() - start
                            yield outcome
                        summary.inputs += report.last
                sound = True
            except (KeyboardInterrupt, GeneratorExit, MemoryError):
                sound = True
                raise
            finally:
                summary.seconds = time.monotonic() - start
                try:
                    if sound:
                        self._finish(manifest)
                finally:
                    manifest.close(sound)

    def _orders(self, manifest: Manifest) -> Iterator[Order]:
        for number, item in enumerate(self.inputs):
            yield Order(number, item, tuple(manifest.of(item.output)), self.force)

    def _finish(self, manifest: Manifest) -> None:
        """What is written once: the summary and the contact sheet."""
        text = json.dumps(self.summary.record(), indent=2) + "\n"
        self.folder.write(SUMMARY, text.encode())
        write_sheet(self.folder, manifest, len(manifest), str(self.summary))


def run(
    inputs: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    generator: str = EMBEDDED,
    device: str = "auto",
    recursive: bool = False,
    batch: int | None = None,
    force: bool = False,
) -> Iterator[Outcome]:
    """Work through a folder, pattern or list on this machine, as `pulse batch` does.

    Args:
        batch: candidates drawn at once; None takes what is good.

    Raises:
        InputError, stylegan.CheckpointError, MemoryError: it cannot be done, see `Batch`.
    """
    items = Inputs(str(inputs), settings or Settings(), recursive, str(output))
    engine = Local(Upscaler.load(generator, device), batch)
    yield from Batch(items, str(output), engine, force)


@dataclass(frozen=True)
class _Job:
    """A face to be searched for.

    Attributes:
        entry: all of its line but what comes of the search.
    """

    order: Order
    face: Face
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

        def take() -> Iterator[tuple[Face, UpscaleConfig, _Job]]:
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
            config = settings.config
            picture = decode_picture(data, item.source)
            framings = find_framings(picture, item.source, settings.align, settings.detector)
            chosen = choose(framings, settings.which, item.source)
        except StorageError:
            raise
        except Exception as error:  # Whatever a picture does to a reader, others come after it.
            self._discard(order, set(), blank.key)
            return [Report(order.number, (replace(blank, reason=_reason(error)),))]

        blank = replace(blank, faces=len(chosen))
        folders = {_folder(item.output, framing.index) for framing in chosen}
        self._discard(order, folders, blank.key)
        failed: list[Entry] = []
        jobs: list[Report | _Job] = []
        for framing in chosen:
            if framing.index in done:
                continue
            entry = replace(blank, face=framing.index)
            resolution = self.upscaler.generator.resolution
            try:
                (face,) = find_faces(
                    picture, config.lr_size, resolution, item.source, [framing], config.degrade
                )
            except InputError as error:
                failed.append(replace(entry, reason=str(error)))
            else:
                entry = replace(entry, folder=_folder(item.output, face.index), notes=face.notes)
                jobs.append(_Job(order, face, config, entry))
        reports: list[Report | _Job] = []
        if done:
            reports.append(Report(order.number, tuple(done.values()), fresh=False, last=False))
        if failed or not jobs:
            reports.append(Report(order.number, tuple(failed), last=not jobs))
        return reports + jobs

    def _key(self, item: Item, sha256: str) -> str:
        """What a result depends on, in one number. The device and the batch size are not in it."""
        mask = item.settings.config.degrade and item.settings.config.degrade.mask
        facts = {
            "version": __version__,
            "generator": self.upscaler.sha256,
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
            for name, data in files_of(result, record, photo):
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
            job.entry, status=str(status), mse=mse, files=tuple(files), seconds=round(seconds, 2)
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
