import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pulse.evaluation import report
from pulse.evaluation.faces import Original
from pulse.evaluation.judge import Figures, Judged
from pulse.evaluation.methods import Enlarged
from pulse.evaluation.statistics import jackknifed, mean_of
from pulse.evaluation.store import Drawn, Store
from pulse.evaluation.table import rows_of
from pulse.evaluation.work import Plan


def figures(consistency: float, psnr: float, colour: float = 0.1) -> Figures:
    return Figures(consistency, psnr, 0.5, 0.5, 1.0, 0.4, colour, math.nan, 1.0)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four faces of two groups; of two candidates the second one matches, in one group."""
    store, method = Store(tmp_path, 32, 8), Enlarged("bicubic")
    rng = np.random.default_rng(0)
    entries = []
    for number in range(4):
        group = ("red",) if number < 2 else ("blue",)
        pixels = torch.full((3, 32, 32), number, dtype=torch.uint8)
        entry = store.add(Original(f"face-{number}", pixels, group))
        entries.append(entry)
        own = rng.normal(size=1280)
        truth = Judged([figures(0, math.inf, 0)], math.nan, own)
        store.put_judged("truth", entry, truth)
        store.put_drawn(method, entry, torch.zeros(2, 3, 32, 32), Drawn(2, 3.0, 10**8 + number))
        matches = 1e-4 if group == ("red",) else 2e-3
        both = [figures(5e-3, 20 + number, 0.3), figures(matches, 22 + number, 0.1 * number)]
        store.put_judged(method, entry, Judged(both, 0.5, own + 0.1))
    return Plan(store, tuple(entries), (method,))


def test_means_and_best(plan: Plan) -> None:
    truth, row = rows_of(plan)
    assert truth.values["psnr"].mean == math.inf
    assert "seconds" not in truth.values
    assert "kernel" not in truth.values
    assert row.candidates == 2
    values = row.values
    assert values["psnr"].mean == pytest.approx(22.5)
    assert values["psnr"].best == pytest.approx(23.5)
    assert values["consistency"].mean == pytest.approx((4 * 5e-3 + 2 * 1e-4 + 2 * 2e-3) / 8)
    assert values["consistency"].best == pytest.approx((1e-4 + 2e-3) / 2)
    assert values["found"].mean == 0.5
    assert values["seconds"].mean == 1.5
    assert values["memory"].mean == 10**8 + 3
    assert values["diversity"].mean == 0.5
    assert "niqe" not in values  # It could be told for none.
    low, high = values["psnr"].low, values["psnr"].high
    assert low is not None
    assert high is not None
    assert 21 < low < 22 < 23 < high < 24


def test_groups_and_their_largest_differences(plan: Plan) -> None:
    _, row = rows_of(plan)
    assert row.groups["red"]["found"] == 1
    assert row.groups["blue"]["found"] == 0
    assert row.groups["blue"]["faces"] == 2
    assert row.differences["found"] == (1, "red", "blue")
    apart, high, low = row.differences["colour"]
    assert (high, low) == ("blue", "red")
    assert apart == pytest.approx((0.3 + 0.25) / 2 - (0.3 + 0.05) / 2)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        value = mean_of(rng.normal(3, 2, size=40).tolist())
        assert value is not None
        assert value.low is not None
        assert value.high is not None
        held += value.low < 3 < value.high
    assert 0.88 < held / 200 < 0.99


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(2).normal(size=50)
    value = jackknifed(lambda kept: float(x[kept].mean()), len(x))
    assert value.mean == pytest.approx(x.mean())
    assert value.high is not None
    assert value.high - value.mean == pytest.approx(1.96 * x.std(ddof=1) / math.sqrt(50))
    assert mean_of([math.nan]) is None
    assert mean_of([1.0, math.nan]) is not None


def test_text_and_markdown(plan: Plan) -> None:
    rows = list(rows_of(plan))
    wide, narrow = report.text(rows, 1000), report.text(rows, 90)
    assert "22.50 ±1." in wide
    assert "22.50" in narrow
    assert "±" not in narrow
    assert max(map(len, narrow.splitlines()[:5])) <= 90
    assert "best of 2" in wide
    assert "bicubic, largest differences: found % 100 (red above blue)" in wide
    table = [
        line
        for line in report.markdown(rows, report.title_of(plan, "x")).splitlines()
        if line[:1] == "|"
    ]
    assert len({line.count("|") for line in table[:5]}) == 1
    record = report.record(rows, plan, "x")
    assert record["methods"][0]["values"]["psnr"]["mean"] is None  # JSON has no infinity.
    assert record["methods"][1]["differences"]["found"]["difference"] == 1


def test_what_was_measured_of_other_pictures_does_not_count(plan: Plan) -> None:
    store, entry, method = plan.store, plan.faces[0], plan.methods[0]
    again = store.judged(method, entry)
    assert again is not None
    assert math.isnan(again.figures[0].niqe)
    assert again.figures[0].psnr == 20
    assert store.judged(Enlarged("nearest"), entry) is None
    assert Store(store.folder, 32, 4).judged(method, entry) is None
    other = store.add(Original(entry.name, torch.ones(3, 32, 32, dtype=torch.uint8)))
    assert store.judged(method, other) is None
    store.file(method, entry, 1).unlink()
    assert store.drawn(method, entry) is None
