"""How far a command is, on stderr: bars where somebody watches, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pulse.cli.outputs import say


class Display:
    """A bar for each name, with words behind it; plain lines where there are no bars."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._last = time.monotonic()

    @property
    def watched(self) -> bool:
        """Whether there are bars; then `line` says nothing, else `bar` does not."""
        return self._bars is not None

    def bar(self, name: str, done: float, total: float | None, words: str = "") -> None:
        """How far `name` is; a total of None is not known yet."""
        if self._bars is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, words=words)
        self._bars.update(self._tasks[name], completed=done, total=total, words=words)

    def line(self, text: str) -> None:
        if self._bars is None:
            say(text)

    def due(self, seconds: float) -> bool:
        """Whether so much time has passed since this last was so, or since the beginning."""
        now = time.monotonic()
        if now - self._last <= seconds:
            return False
        self._last = now
        return True

    def say(self, text: str) -> None:
        """Something that is to be read in either case."""
        if self._bars is None:
            say(text)
        else:
            self._bars.console.print(text, markup=False)


@contextmanager
def display() -> Iterator[Display]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Display(None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[words]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield Display(bars)
