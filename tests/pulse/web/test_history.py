"""What is kept of a visit."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pulse.web.face import FaceView
from pulse.web.history import Visit


def test_a_search_that_is_told_to_end_knows_that_something_else_is_wanted(tmp_path: Path) -> None:
    """Else it would tell of its end over what the page says of the next picture."""
    seen: list[bool] = []

    class Watched(threading.Event):
        def set(self) -> None:
            seen.append(visit.stop is self)
            super().set()

    visit, old, new = Visit(tmp_path), Watched(), threading.Event()
    visit.turn_to(tmp_path / "face.png", old)
    visit.turn_to(None, new)
    assert seen == [False]
    assert old.is_set()
    assert not new.is_set()
    assert (visit.picture, visit.stop) == (None, new)


@pytest.mark.parametrize("taken_away", [False, True])
def test_a_search_that_ends_before_its_first_update(tmp_path: Path, taken_away: bool) -> None:
    """It tells of its end, but not where the picture was taken away, which is told already."""
    visit = Visit(tmp_path)

    def run(wish: Any, config: Any, preset: Any, stop: threading.Event, address: str) -> Any:
        if taken_away:
            visit.turn_to(None, threading.Event())
        else:
            stop.set()
        nothing: Iterator[Any] = iter(())
        return nothing

    view = FaceView.__new__(FaceView)
    view.studio, view.parts = Mock(run=run, find=Mock(return_value=visit)), Mock()
    told = list(view._search(Mock(), lambda: [Mock()], tmp_path / "face.png"))
    assert view.parts.run in told[0]
    assert len(told) == (1 if taken_away else 2)
    assert taken_away or "Stopped before anything was found." in told[1][view.parts.status]
