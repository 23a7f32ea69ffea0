import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from pulse.evaluation import memory
from pulse.evaluation.memory import peak_memory
from tests.systems import UNIX

MB = 10**6


@pytest.fixture
def no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")


def test_it_is_the_most_that_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(memory, "STATUS", status)
    status.write_text(
        "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n", "utf-8"
    )
    assert peak_memory() == 300 * 1024


@UNIX
@pytest.mark.usefixtures("no_proc")
def test_without_proc_it_is_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after what was taken is given back."""
    taken = torch.ones(100 * MB // 4)
    resident = psutil.Process().memory_info().rss
    del taken
    most = peak_memory()
    assert most is not None
    assert most > resident - 20 * MB
    assert most < psutil.virtual_memory().total


@UNIX
@pytest.mark.usefixtures("no_proc")
@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_units_differ_between_systems(
    system: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    usage = SimpleNamespace(ru_maxrss=300_000)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", system)
    assert peak_memory() == 300_000 * unit


@pytest.mark.usefixtures("no_proc")
@pytest.mark.parametrize(("told", "expected"), [({"peak_wset": 7 * MB}, 7 * MB), ({}, None)])
def test_windows_has_its_own_number_and_others_may_have_none(
    told: dict[str, int], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(**told))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert peak_memory() == expected
