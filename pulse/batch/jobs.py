"""Many pictures: jobs that can be killed at any moment and gone on with.

A `Batch` is an iterable of outcomes, one for each face, as they are done. Who does the work is an
`Engine`: `Local` here, or a cluster's. Either gives `Order`s to `Worker`s, which read a picture,
search for its faces and write what they found; the batch alone writes the manifest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pulse.batch.contact_sheet import write_sheet
from pulse.batch.inputs import Inputs, Item, may_be_right_by_now
from pulse.batch.manifest import Entry, Manifest
from pulse.batch.storage import open_folder
from pulse.batch.worker import Order, Reports, Worker
from pulse.devices import Precision
from pulse.search import Status
from pulse.settings import Settings
from pulse.upscale import Upscaler
from stylegan import EMBEDDED

SUMMARY = "summary.json"


class Engine(Protocol):
    """Does the orders of a batch.

    Attributes:
        generator: its name, for people.
    """

    generator: str

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
        self.upscaler, self.batch, self.generator = upscaler, batch, upscaler.name

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
        earlier: seconds that earlier runs took, of which something is here.
    """

    inputs: int = 0
    faces: int = 0
    found: int = 0
    errors: int = 0
    searched: int = 0
    seconds: float = 0.0
    earlier: float = 0.0

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
        runs = f", {self.earlier + self.seconds:.1f} s with earlier runs" if self.earlier else ""
        return (
            f"{self.inputs} pictures, {self.faces} faces{skipped}: {found}, "
            f"{self.faces - self.found} not found, {self.errors} failed; "
            f"{self.seconds:.1f} s{rate}{runs}."
        )

    def record(self) -> dict[str, object]:
        return {
            **asdict(self),
            "seconds": round(self.seconds, 2),
            "earlier": round(self.earlier, 2),
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
        self._settings: set[Settings] = set()  # Of the pictures, two at most.

    def __iter__(self) -> Iterator[Outcome]:
        """Work; the outcomes come as they are done, which need not be in order.

        Raises:
            StorageError: the output folder cannot be written, or not any more, or another batch
                writes to it. What was done stays, and the next batch goes on from there.
            InputError: the inputs cannot be listed.
            MemoryError: there is too little memory for a single candidate.
        """
        self.summary = summary = Summary()
        self._settings = set()
        start = time.monotonic()
        with self.folder.owned(self.break_lock) as owner:
            if not self.force:
                summary.earlier = self._earlier()
            manifest = Manifest(self.folder)
            for output in manifest.outputs():
                if may_be_right_by_now(output):
                    manifest.settle(output)
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
            if len(self._settings) < 2:
                self._settings.add(item.settings)
            yield Order(number, item, tuple(manifest.of(item.output)), self.force)

    def _finish(self, manifest: Manifest) -> None:
        """What is written once: the summary and the contact sheet."""
        text = json.dumps(self.summary.record(), indent=2) + "\n"
        self.folder.write(SUMMARY, text.encode())
        how = "Settings differ from picture to picture; each result.json has its own."
        if len(self._settings) == 1:
            (settings,) = self._settings
            how = f"Generator {self.engine.generator}, {settings}."
        write_sheet(self.folder, manifest, len(manifest), (str(self.summary), how))

    def _earlier(self) -> float:
        """Seconds that the runs took whose summary is in the folder."""
        try:
            facts = json.loads(self.folder.read(SUMMARY) or b"{}")
            seconds = float(facts["seconds"]) + float(facts.get("earlier", 0.0))
        except (ValueError, LookupError, TypeError, RecursionError):
            return 0.0  # There is none, or none that is known.
        return seconds if 0 <= seconds < float("inf") else 0.0


def run(
    inputs: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    generator: str = EMBEDDED,
    device: str = "auto",
    recursive: bool = False,
    batch: int | None = None,
    force: bool = False,
    precision: Precision = "auto",
) -> Iterator[Outcome]:
    """Work through a folder, pattern or list on this machine, as `pulse batch` does.

    Args:
        batch: candidates drawn at once; None takes what is good.

    Raises:
        InputError, stylegan.CheckpointError, MemoryError: it cannot be done, see `Batch`.
    """
    items = Inputs(str(inputs), settings or Settings(), recursive, str(output))
    engine = Local(Upscaler.load(generator, device, precision), batch)
    yield from Batch(items, str(output), engine, force)
