"""What became of every face of a batch, one line each, in a file that a killed run leaves valid."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pulse.batch.storage import WORK, Folder, StorageError
from pulse.imaging.pictures import InputError

MANIFEST = "manifest.jsonl"
PARTS = "manifest"
"""Folder in an object storage, which cannot append, for lines that are not in the file yet."""
SECONDS, LINES = 10.0, 200
"""How long, and how many, lines wait until they are sent to an object storage."""


_NEWER = ("plausibility", "ranked")
"""Of an entry, what earlier versions did not write."""


@dataclass(frozen=True)
class Entry:
    """What became of one face, or of a picture that could not be used.

    Attributes:
        output: folder of the picture's first face, which tells pictures of a batch apart.
        folder: of this face; None if nothing was written.
        input: the picture as it was named.
        sha256: of the picture's bytes; None if they could not be read.
        key: of picture, settings, generator and version together; None without the bytes.
        face: its number in the picture; None if the picture as a whole could not be used.
        faces: of the picture that were asked for.
        status: `found`, `not_converged` or `nonfinite` as the best candidate, or `error`.
        mse: the candidates' errors; None where one is not finite.
        plausibility: the candidates'; None where it cannot be told.
        ranked: the candidates' numbers, the best first.
        files: in `folder`.
        seconds: that the search took.
        reason: why nothing was written.
        notes: what was done to the picture, one sentence each.
    """

    output: str
    folder: str | None
    input: str
    sha256: str | None
    key: str | None
    face: int | None
    faces: int
    status: str
    mse: tuple[float | None, ...] = ()
    files: tuple[str, ...] = ()
    seconds: float = 0.0
    reason: str | None = None
    notes: tuple[str, ...] = ()
    plausibility: tuple[float | None, ...] = ()
    ranked: tuple[int, ...] = ()

    @property
    def failed(self) -> bool:
        return self.reason is not None

    def line(self) -> bytes:
        return (json.dumps(asdict(self)) + "\n").encode()

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Raises ValueError if it is none."""
        facts = json.loads(line)
        if not isinstance(facts, dict):
            raise ValueError("not a line of a manifest")
        facts = {**dict.fromkeys(_NEWER, ()), **facts}
        if set(facts) != {field.name for field in fields(cls)}:
            raise ValueError("not a line of a manifest")
        lists = {name: tuple(facts[name]) for name in ("mse", "files", "notes", *_NEWER)}
        return cls(**{**facts, **lists})


class Manifest:
    """The lines of an output folder; at any time at most one of each face.

    In memory there is no more than where in the file a line is. Whoever works beside may read.
    """

    def __init__(self, folder: Folder) -> None:
        """Read what is there. What a killed run left torn, and what newer lines replace, goes.

        Raises:
            InputError: the file there is not one of ours.
            StorageError: it cannot be read or written.
        """
        self._folder, self._lock = folder, threading.Lock()
        self._scratch = None if folder.path is not None else tempfile.TemporaryDirectory()
        self._path = Path(self._scratch.name if self._scratch else str(folder.path)) / MANIFEST
        # Of each output: a number for the key, then where its lines begin.
        self._index: dict[str, tuple[int, ...]] = {}
        self._replaced = 0
        self._unsent: list[bytes] = []
        self._parts, self._sent = 0, time.monotonic()
        with self._guarded():
            if self._scratch:
                self._gather()
            self._file = self._path.open("a+b", buffering=0)
            try:
                torn = self._load()
                if torn or self._replaced:
                    self._rewrite()
            except BaseException:
                self.close(whole=False)
                raise

    def of(self, output: str) -> list[Entry]:
        """The lines of a picture, by its output."""
        with self._lock:
            return [self._at(offset) for offset in self._index.get(output, ())[1:]]

    def __iter__(self) -> Iterator[Entry]:
        """All lines, sorted by output and face."""
        for output in sorted(self._index):
            yield from sorted(self.of(output), key=lambda entry: (entry.face is None, entry.face))

    def __len__(self) -> int:
        return sum(len(group) - 1 for group in self._index.values())

    def append(self, entry: Entry) -> None:
        """Add a line in place of older ones of the same face or of other contents of the picture.

        Raises:
            StorageError: it cannot be written; the lines so far stay valid.
        """
        line = entry.line()
        with self._lock, self._guarded():
            end = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(line) != len(line):
                    raise OSError(28, os.strerror(28))
            except BaseException:
                self._file.truncate(end)
                raise
            self._note(entry, end)
            if self._scratch:
                self._unsent.append(line)
                if len(self._unsent) >= LINES or time.monotonic() - self._sent > SECONDS:
                    self._send()

    def outputs(self) -> list[str]:
        """The pictures that there are lines of, by their outputs."""
        with self._lock:
            return list(self._index)

    def settle(self, output: str) -> None:
        """Forget that a picture could not be read, since now it can."""
        with self._lock:
            group = self._index.get(output, ())
            kept = tuple(offset for offset in group[1:] if self._at(offset).face is not None)
            if len(kept) < len(group) - 1:
                self._replaced += 1
                self._index[output] = (group[0], *kept)

    def close(self, whole: bool = True) -> None:
        """Sort the lines and leave the file as it is read by others.

        Args:
            whole: False where nothing can be written any more; what is there is valid already.
        """
        try:
            if whole:
                with self._lock, self._guarded():
                    self._rewrite()
        finally:
            self._file.close()
            if self._scratch:
                self._scratch.cleanup()

    def _load(self) -> bool:
        """Index the file; whether its last line is torn."""
        offset = self._file.seek(0)
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return True
                try:
                    self._note(Entry.parse(line), offset)
                except (ValueError, TypeError, RecursionError) as error:
                    raise InputError(
                        f"{self._folder.place}/{MANIFEST} is not a manifest of this program's; "
                        "move it away or give another output folder."
                    ) from error
                offset += len(line)
        return False

    def _note(self, entry: Entry, offset: int) -> None:
        """Put a line into the index, and those out of it that it replaces."""
        group = self._index.get(entry.output, (0,))
        mark = group[0] if entry.key is None else int(entry.key[:15], 16)
        same = mark == group[0] or group[0] == 0
        kept: list[int] = []
        for other in group[1:]:
            # A picture that cannot be read for the moment costs nothing that was made from it.
            if same and self._at(other).face not in (None, entry.face):
                kept.append(other)
        self._replaced += len(group) - 1 - len(kept)
        self._index[entry.output] = (mark, *kept, offset)

    def _at(self, offset: int) -> Entry:
        """The line that begins there. Whoever calls it holds the lock, as it moves in the file."""
        self._file.seek(offset)
        data = b""
        while b"\n" not in data:
            if not (more := self._file.read(4096)):
                raise StorageError(f"{self._folder.place}/{MANIFEST} was changed by another.")
            data += more
        return Entry.parse(data.partition(b"\n")[0])

    def _rewrite(self) -> None:
        """Write the lines anew, sorted, in place of the file."""
        # Not by `stylegan.files.whole`: what a kill leaves of it has to lie where `owned` sweeps.
        inside = self._path.parent / (WORK if self._scratch is None else "")
        temporary = inside / "manifest.part"
        index: dict[str, tuple[int, ...]] = {}
        with temporary.open("wb") as file:
            offset = 0
            for output in sorted(self._index):
                mark, *offsets = self._index[output]
                entries = [self._at(place) for place in offsets]
                places = []
                for entry in sorted(entries, key=lambda e: (e.face is None, e.face)):
                    places.append(offset)
                    offset += file.write(entry.line())
                index[output] = (mark, *places)
        self._file.close()  # Windows lets nothing take the place of a file that is open.
        os.replace(temporary, self._path)
        self._file = self._path.open("a+b", buffering=0)
        self._index, self._replaced = index, 0
        if self._scratch:
            self._folder.write(MANIFEST, self._path.read_bytes())
            for name in self._folder.names(PARTS):
                self._folder.remove(f"{PARTS}/{name}")
            self._unsent, self._parts, self._sent = [], 0, time.monotonic()

    def _gather(self) -> None:
        """Fetch the file of an object storage and the lines that are not in it yet."""
        names = sorted(self._folder.names(PARTS))
        parts = [MANIFEST, *(f"{PARTS}/{name}" for name in names)]
        self._path.write_bytes(b"".join(self._folder.read(name) or b"" for name in parts))
        self._replaced = len(names)

    def _send(self) -> None:
        self._folder.write(f"{PARTS}/{self._parts:08d}.jsonl", b"".join(self._unsent))
        self._unsent, self._parts, self._sent = [], self._parts + 1, time.monotonic()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Says of the manifest that it cannot be written, where that turns out."""
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._folder.place}/{MANIFEST} cannot be written "
                f"({error.strerror or error}); mend that and give the same command again, which "
                "goes on from here."
            ) from error
