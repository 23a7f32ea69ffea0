"""`pulse evaluate FILM --video`: what enlarges films, in one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from pulse import __version__
from pulse.cli.outputs import write_file
from pulse.cli.progress import display
from pulse.evaluation import report
from pulse.evaluation.films import (
    BORDER,
    COLUMNS,
    FRAMES,
    LEGEND,
    Film,
    FilmMethod,
    Shrinking,
    compare_film,
    film_methods,
)
from pulse.evaluation.methods import Enlarged, Network
from pulse.imaging.pictures import InputError
from stylegan.memory import keep_freed_memory

FACTOR = 4


def evaluate_film(
    film: Path,
    output: Path,
    methods: list[str] | None,
    *,
    factor: float | None,
    count: int | None,
    degradation: Shrinking | None,
) -> tuple[str, str]:
    """Compare, and write the tables.

    Returns:
        The table as text and as JSON.

    Raises:
        InputError: the film or a method cannot be used.
    """
    scale = FACTOR if factor is None else int(factor)
    if factor is not None and (factor != scale or scale < 2):
        raise InputError("--factor takes a whole number from 2 on with --video.")
    chosen = film_methods(scale) if methods is None else [_method(name) for name in methods]
    keep_freed_memory()
    try:
        small = Film.read(film, scale, count or FRAMES, degradation)
        rows = []
        with display() as shown:
            shown.bar("films", 0, len(chosen) + 1)
            for row, done, total in compare_film(small, chosen, output):
                rows.append(row)
                shown.bar("films", done, total, f"{done}/{total} {row.name}")
                shown.line(f"films: {done}/{total} {row.name}")
    except MemoryError as error:
        raise InputError(
            "There is too little memory for so many frames: give fewer with --count."
        ) from error
    height, wide = small.hr.shape[-2:]
    title = (
        f"{film.name}, {len(small.hr)} frames of {wide}x{height} pixels from 1/{scale} of that "
        f"({small.degradation})"
    )
    record = {
        "version": __version__,
        "data": film.name,
        "frames": len(small.hr),
        "size": [wide, height],
        "factor": scale,
        "degradation": small.degradation,
        "border": BORDER,
        "counted": len(small.hr[small.counted]),
        "columns": report.headings(COLUMNS),
        "methods": [{"name": row.name, "values": report.plain(row.values)} for row in rows],
        "legend": LEGEND,
    }
    text = json.dumps(record, indent=2)
    write_file(output / "film.md", report.markdown(rows, title, (COLUMNS,), LEGEND).encode())
    write_file(output / "film.json", f"{text}\n".encode())
    width = shutil.get_terminal_size((1000, 0)).columns
    return report.text(rows, width, (COLUMNS,)), text


def _method(name: str) -> FilmMethod:
    match name:
        case "nearest" | "bicubic":
            return Enlarged(name)
        case _:
            return Network.of(name)
