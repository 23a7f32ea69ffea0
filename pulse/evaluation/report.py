"""The table as text, Markdown and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pulse import __version__
from pulse.evaluation.statistics import Value
from pulse.evaluation.table import BY_GROUP, COLUMNS, PARTS, Column, Row
from pulse.evaluation.work import Plan

LEGEND = (
    "MSE: of the downscaled face against the input, on [0, 1], in 1e-5; found: faces of which a "
    "candidate has at most 1e-3. PSNR-Y, SSIM, HaarPSI: against the original. features: distance "
    "of EfficientNet-Lite0's features; identity: distance of dlib's descriptors, people count as "
    "different from 0.6; colour: difference of mean colours. NIQE: distance from natural pictures, "
    "to compare pictures of one size; detector: score of dlib's face detector; MOS: what people "
    "said, from 1 to 5 (--rate); kernel: distance of the set from the originals, by pooled "
    "features; diversity: how far candidates of a face are apart, by dlib. seconds: for a "
    "candidate; MB: that the drawing process grew to."
)
CELLS = list[list[str]]


def text(rows: Sequence[Row], width: int, parts: Sequence[Sequence[Column]] = PARTS) -> str:
    """The table for a terminal of that many characters; without intervals if it is too narrow."""
    for intervals in (True, False):
        tables = [_lines(_cells(rows, columns, intervals)) for columns in parts]
        if max(len(line) for lines in tables for line in lines) <= width:
            break
    shown = [line for lines in tables for line in (*lines, "")]
    return "\n".join([*shown, *_group_lines(rows)]).rstrip()


def markdown(
    rows: Sequence[Row],
    title: str,
    parts: Sequence[Sequence[Column]] = PARTS,
    legend: str = LEGEND,
) -> str:
    """The same, between a sentence on what it is of and one on what it shows."""
    shown = [f"{title}; means, and half the width of their 95% intervals.", ""]
    for columns in parts:
        head, *body = _cells(rows, columns)
        rule = ["---", *("---:" for _ in head[1:])]
        shown += [f"| {' | '.join(line)} |" for line in (head, rule, *body)] + [""]
    shown += [line for part in _group_lines(rows) for line in (part, "")]
    return "\n".join([*shown, legend]) + "\n"


def title_of(plan: Plan, source: str) -> str:
    store = plan.store
    return (
        f"{len(plan.faces)} faces ({source}), {store.lr_size}x{store.lr_size} to "
        f"{store.size}x{store.size} pixels"
    )


def record(rows: Sequence[Row], plan: Plan, source: str) -> dict[str, Any]:
    """What `table.json` holds; numbers in the units of `Figures`, seconds and bytes."""
    store = plan.store
    return {
        "version": __version__,
        "data": source,
        "faces": [{"name": entry.name, "groups": list(entry.groups)} for entry in plan.faces],
        "size": store.size,
        "lr_size": store.lr_size,
        "workers": plan.workers,
        "columns": headings(COLUMNS),
        "methods": [
            {
                "name": row.name,
                "settings": repr(method),
                "candidates": row.candidates,
                "values": plain(row.values),
                "groups": row.groups,
                "differences": {
                    key: {"difference": apart, "high": high, "low": low}
                    for key, (apart, high, low) in row.differences.items()
                },
            }
            for row, method in zip(rows, plan.rows, strict=True)
        ],
        "legend": LEGEND,
    }


def headings(columns: Sequence[Column]) -> dict[str, Any]:
    return {c.key: {"heading": c.heading, "better": c.better} for c in columns}


def plain(values: dict[str, Value]) -> dict[str, Any]:
    """Values as JSON, which has no infinity."""
    return {
        key: {name: x if x is None or math.isfinite(x) else None for name, x in asdict(v).items()}
        for key, v in values.items()
    }


def _cells(rows: Sequence[Row], columns: Sequence[Column], intervals: bool = True) -> CELLS:
    """Headings and lines; a second line for a method tells of each face's best candidate.

    Columns of which nothing is known are left out.
    """
    columns = [c for c in columns if any(c.key in row.values for row in rows)]
    cells = [["", *(column.heading for column in columns)]]
    for row in rows:
        cells.append([row.name, *(_cell(row.values.get(c.key), c, intervals) for c in columns)])
        best = [row.values[c.key].best if c.key in row.values else None for c in columns]
        if any(value is not None for value in best):
            shown = (
                "" if value is None else f"{value * column.factor:.{column.digits}f}"
                for value, column in zip(best, columns, strict=True)
            )
            cells.append([f"  best of {row.candidates}", *shown])
    return cells


def _cell(value: Value | None, column: Column, interval: bool) -> str:
    if value is None:
        return "-"
    shown = f"{value.mean * column.factor:.{column.digits}f}"
    if not interval or value.low is None or value.high is None:
        return shown
    return f"{shown} ±{(value.high - value.low) / 2 * column.factor:.{column.digits}f}"


def _lines(cells: CELLS) -> list[str]:
    """Names to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            [name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(some, widths[1:], strict=True))]
        )
        for name, *some in cells
    ]


def _group_lines(rows: Sequence[Row]) -> Iterator[str]:
    """For each method with groups: theirs, then the largest differences."""
    columns = {column.key: column for column in COLUMNS}

    def shown(key: str, value: float) -> str:
        column = columns[key]
        return f"{column.heading} {value * column.factor:.{column.digits}f}"

    for row in rows:
        for group, values in row.groups.items():
            words = ", ".join(shown(key, values[key]) for key in BY_GROUP)
            yield f"{row.name}, {group} ({values['faces']:.0f} faces): {words}"
        if row.differences:
            words = ", ".join(
                f"{shown(key, apart)} ({high} above {low})"
                for key, (apart, high, low) in row.differences.items()
            )
            yield f"{row.name}, largest differences: {words}"
