import multiprocessing
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pulse.evaluation.faces import Original
from pulse.evaluation.methods import Draw, Enlarged, Network
from pulse.evaluation.store import Store
from pulse.evaluation.work import Plan, compare
from pulse.imaging.pictures import InputError
from tests.systems import UNIX


@dataclass(frozen=True)
class Dying:
    """A method whose process the system ends."""

    name: str = "dying"

    def open(self, lr_size: int, size: int) -> Draw:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    store = Store(tmp_path, 32, 8)
    pixels = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    return Plan(store, (store.add(Original("face", pixels)),), ())


@UNIX
def test_what_goes_wrong_in_a_process_is_said_here(plan: Plan) -> None:
    gone = Plan(plan.store, plan.faces, (Network("gone.safetensors", "0"),))
    with pytest.raises(InputError, match=re.escape("There is no network gone.safetensors")):
        list(compare(gone))
    dying = Plan(plan.store, plan.faces, (Dying(),))
    with pytest.raises(InputError, match="ended by the system"):
        list(compare(dying))
    assert multiprocessing.active_children() == []


def test_to_stop_is_to_stop_iterating(plan: Plan) -> None:
    work = compare(Plan(plan.store, plan.faces, (Enlarged("nearest"),)))
    assert isinstance(work, Generator)
    first = next(work)
    assert (first.stage, first.done, first.total) == ("drawing", 0, 1)
    next(work)
    work.close()
    assert multiprocessing.active_children() == []
    last = [*compare(Plan(plan.store, plan.faces, (Enlarged("nearest"),)))][-1]
    assert (last.stage, last.done, last.total) == ("measuring", 2, 2)
    drawn = plan.store.drawn(Enlarged("nearest"), plan.faces[0])
    assert drawn is not None
    assert drawn.memory is None or drawn.memory > 10**7
