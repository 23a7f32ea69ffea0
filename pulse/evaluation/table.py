"""The table: means over faces, how sure they are, and how groups differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pulse.evaluation.judge import Judged
from pulse.evaluation.methods import TRUTH
from pulse.evaluation.opinions import opinions
from pulse.evaluation.statistics import FEWEST, Value, jackknifed, mean_of
from pulse.evaluation.store import Drawn, Entry
from pulse.evaluation.work import Plan
from pulse.search import SearchConfig
from stylegan.evaluate import kernel_distance


@dataclass(frozen=True)
class Column:
    """What a column of the table shows.

    Attributes:
        key: in `table.json`; a field of `Figures` or of the values in `_of_faces` and `_of_sets`.
        heading: with its unit.
        better: which values are; None for neither.
        factor: by which it is shown.
        digits: after the point.
    """

    key: str
    heading: str
    better: Literal["high", "low"] | None
    factor: float = 1.0
    digits: int = 2


FIDELITY = (
    Column("consistency", "MSE e-5", "low", 1e5),
    Column("found", "found %", "high", 100, 0),
    Column("psnr", "PSNR-Y", "high"),
    Column("ssim", "SSIM", "high", 1, 3),
    Column("haarpsi", "HaarPSI", "high", 1, 3),
    Column("features", "features", "low", 1, 3),
    Column("identity", "identity", "low", 1, 3),
    Column("colour", "colour %", "low", 100),
)
"""How near a face comes to its original, and its downscaled version to the input."""
REALISM = (
    Column("niqe", "NIQE", "low"),
    Column("detector", "detector", "high"),
    Column("mos", "MOS", "high"),
    Column("kernel", "kernel", "low", 1, 3),
    Column("diversity", "diversity", None, 1, 3),
    Column("seconds", "seconds", "low"),
    Column("memory", "MB", "low", 1e-6, 0),
)
"""How real faces look, how different they are from each other, and what they cost."""
PARTS = (FIDELITY, REALISM)
COLUMNS = FIDELITY + REALISM
BY_GROUP = ("found", "colour", "identity")
"""What is told for each group."""


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        candidates: of each face.
        values: by the columns' keys; those that cannot be told are not there.
        groups: of each group with enough faces, the means by `BY_GROUP` and the number of faces.
        differences: of each of `BY_GROUP`, the largest one between groups, and which they are.
    """

    name: str
    candidates: int
    values: dict[str, Value]
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    differences: dict[str, tuple[float, str, str]] = field(default_factory=dict)


def rows_of(plan: Plan) -> Iterator[Row]:
    """The rows of the table; everything must have been drawn and measured."""
    faces = plan.faces
    said = opinions(plan.store.folder)
    real = np.stack([_judged(plan, TRUTH, entry).pooled for entry in faces])
    for method in plan.rows:
        judged = [_judged(plan, method, entry) for entry in faces]
        drawn = [d for entry in faces if (d := plan.store.drawn(method, entry)) is not None]
        values = {
            column.key: value
            for column in COLUMNS
            if (value := _candidates(judged, column)) is not None
        }
        for key, of_faces in _of_faces(judged, drawn).items():
            if (value := mean_of(of_faces)) is not None:
                values[key] = value
        if method != TRUTH and len(faces) >= FEWEST:
            pooled = np.stack([one.pooled for one in judged])
            values["kernel"] = jackknifed(
                lambda kept, pooled=pooled: kernel_distance(pooled[kept], real[kept]), len(faces)
            )
        memory = [one.memory for one in drawn if one.memory is not None]
        if memory:
            values["memory"] = Value(max(memory))
        name = method if isinstance(method, str) else method.name
        if name in said:
            values["mos"] = said[name]
        groups = _groups(judged, faces)
        yield Row(name, drawn[0].count, values, groups, _differences(groups))


def _judged(plan: Plan, method: Any, entry: Entry) -> Judged:
    judged = plan.store.judged(method, entry)
    assert judged is not None
    return judged


def _candidates(judged: list[Judged], column: Column) -> Value | None:
    """The mean of a figure that each candidate has; None if it is none, or can nowhere be told."""
    if not hasattr(judged[0].figures[0], column.key):
        return None
    lists = [[getattr(figures, column.key) for figures in one.figures] for one in judged]
    value = mean_of([_told(values, np.mean) for values in lists])
    if value is None or max(map(len, lists)) == 1:
        return value
    pick = np.max if column.better == "high" else np.min
    best = mean_of([_told(values, pick) for values in lists])
    return Value(value.mean, value.low, value.high, None if best is None else best.mean)


def _told(values: list[float], of: Callable[[list[float]], Any]) -> float:
    """Of those values that are numbers; NaN if none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return float(of(numbers)) if numbers else math.nan


def _of_faces(judged: list[Judged], drawn: list[Drawn]) -> dict[str, list[float]]:
    """What each face has once for all of its candidates."""
    seconds = [math.nan if d.seconds is None else d.seconds / d.count for d in drawn]
    return {
        "found": [float(_is_found(one)) for one in judged],
        "diversity": [one.diversity for one in judged],
        "seconds": seconds,
    }


def _is_found(one: Judged) -> bool:
    """Whether a candidate downscales to the input within the paper's tolerance, searched or not."""
    return min(figures.consistency for figures in one.figures) <= SearchConfig.tolerance


def _groups(judged: list[Judged], faces: Sequence[Entry]) -> dict[str, dict[str, float]]:
    groups: dict[str, dict[str, float]] = {}
    for name in sorted({group for entry in faces for group in entry.groups}):
        of = [one for one, entry in zip(judged, faces, strict=True) if name in entry.groups]
        if len(of) < FEWEST:
            continue
        figures = {
            key: float(np.mean([np.mean([getattr(f, key) for f in one.figures]) for one in of]))
            for key in ("colour", "identity")
        }
        groups[name] = {"faces": len(of), "found": float(np.mean([*map(_is_found, of)])), **figures}
    return groups


def _differences(groups: dict[str, dict[str, float]]) -> dict[str, tuple[float, str, str]]:
    if len(groups) < FEWEST:
        return {}
    differences = {}
    for key in BY_GROUP:
        low, high = (pick(groups, key=lambda name: groups[name][key]) for pick in (min, max))
        differences[key] = (groups[high][key] - groups[low][key], high, low)
    return differences
