"""What is told to a browser that draws fewer updates than it is given."""

from collections.abc import Iterator

import pytest

from pulse.web import updates
from pulse.web.updates import LATELY, Updates, repeating


def test_what_was_said_just_before_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that an update does not speak of keeps what the one before it made of it."""
    now = 0.0
    monkeypatch.setattr(updates, "monotonic", lambda: now)

    @repeating
    def events(first: str) -> Iterator[Updates]:
        nonlocal now
        yield {"status": first, "stop": "shown"}
        now += LATELY / 4
        yield {"status": "step 1"}
        now += LATELY
        yield {"status": "step 2"}
        yield {"stop": "hidden", "file": "made"}

    assert list(events("starting")) == [
        {"status": "starting", "stop": "shown"},
        {"status": "step 1", "stop": "shown"},
        {"status": "step 2"},
        {"status": "step 2", "stop": "hidden", "file": "made"},
    ]
