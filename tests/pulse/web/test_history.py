"""What is kept of a visit."""

import threading
from pathlib import Path

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
