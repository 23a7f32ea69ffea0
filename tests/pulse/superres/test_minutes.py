"""A training that ends by time, which is told here and not waited for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pulse.superres.networks import SRResNetConfig
from pulse.superres.pairs import PairConfig, Pairs
from pulse.superres.shelf import Shelf
from pulse.superres.train import train
from pulse.superres.training_config import TrainConfig, TrainingProgress

SIX = TrainConfig(
    network=SRResNetConfig(4, 1, 8, kernel=3), steps=None, minutes=6 / 60, batch=2, warmup=1,
    precision="float32",
)  # fmt: skip
"""Six seconds."""
NEVER = 1e9


class Clock:
    """Each look at it takes a second, so a step does, and so does a measurement."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Pairs:
    clock = Clock()
    monkeypatch.setattr("pulse.superres.training.time", clock)
    monkeypatch.setattr("pulse.superres.train.time", clock)
    shelves = []
    for seed in range(2):
        shelf = Shelf()
        shelf.add(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))
        shelves.append(shelf)
    return Pairs(PairConfig(patch=8), shelves[0], torch.ones(1), shelves[1])


def test_it_ends_when_the_time_is_over(pairs: Pairs, tmp_path: Path) -> None:
    told = list(train(SIX, pairs, tmp_path, every=NEVER))
    assert [p.step for p in told] == [1, 2, 3, 4, 5, 6]
    assert [p.done for p in told] == pytest.approx([n / 6 for n in range(1, 7)])
    assert [p.psnr_y is not None for p in told] == [False] * 5 + [True]
    assert {p.rate for p in told} == {1.0}


def test_time_before_a_stop_counts(pairs: Pairs, tmp_path: Path) -> None:
    steps: list[TrainingProgress] = []
    for stop in (2, 3, 9):
        run = train(SIX, pairs, tmp_path, every=NEVER)
        for number, progress in enumerate(run, 1):
            steps.append(progress)
            if number == stop:
                run.close()  # type: ignore[attr-defined]
                break
    assert [p.step for p in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].done == 1
    # Another minute, and it goes on from there.
    longer = replace(SIX, minutes=8 / 60)
    more = list(train(longer, pairs, tmp_path, every=NEVER))
    # The last measurement took the seventh second.
    assert [p.step for p in more] == [7]


def test_measuring_takes_of_the_time(pairs: Pairs, tmp_path: Path) -> None:
    told = list(train(SIX, pairs, tmp_path, every=0))
    assert [p.step for p in told] == [1, 2, 3]
    assert all(p.psnr_y is not None for p in told)


def test_the_first_of_steps_and_minutes_is_the_end(pairs: Pairs, tmp_path: Path) -> None:
    for steps, expected in ((4, 4), (40, 6)):
        folder = tmp_path / str(steps)
        told = list(train(replace(SIX, steps=steps), pairs, folder, every=NEVER))
        assert len(told) == expected


def test_stages_and_rates_go_by_time(pairs: Pairs, tmp_path: Path) -> None:
    told = list(train(replace(SIX, gan=True, pretrain=0.5), pairs, tmp_path, every=NEVER))
    # Three steps, their measurement, and what is left.
    assert [p.stage for p in told] == ["content"] * 3 + ["gan"] * 2
