"""The table as pictures: a sheet of faces, and realism against fidelity."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from pulse.evaluation.faces import lowered
from pulse.evaluation.methods import TRUTH
from pulse.evaluation.statistics import Value
from pulse.evaluation.store import MADE
from pulse.evaluation.table import Column, Row
from pulse.evaluation.work import Plan
from pulse.imaging.pictures import InputError, read_picture, to_image
from pulse.results import COMPOSITE, TOOL, encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8
"""Faces on a sheet."""
FACTS = {"Software": TOOL, "Description": MADE}
CHARTS = (
    (
        Column("psnr", "PSNR-Y in dB", "high"),
        Column("kernel", "kernel distance from the originals", "low"),
    ),
    (
        Column("identity", "distance of dlib's descriptors", "low"),
        Column("detector", "score of dlib's detector", "high"),
    ),
)
SIDE, GAP, CAPTION = 160, 6, 22


def sheet(plan: Plan) -> bytes:
    """A PNG like PULSE's figure 5: a row for each face, a column for each method.

    The input comes first and the original last; of several candidates the first is shown.
    """
    entries, columns = plan.faces[:MOST], [*plan.methods, TRUTH]
    width = (len(columns) + 1) * (SIDE + GAP) + GAP
    height = len(entries) * (SIDE + GAP) + CAPTION + GAP
    paper = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(12)

    def place(row: int, column: int, image: Image.Image, how: Image.Resampling) -> None:
        corner = (GAP + column * (SIDE + GAP), CAPTION + row * (SIDE + GAP))
        paper.paste(image.resize((SIDE, SIDE), how), corner)

    store = plan.store
    names = [m if isinstance(m, str) else m.name for m in columns]
    for column, name in enumerate((f"input, {store.lr_size}x{store.lr_size}", *names)):
        draw.text((GAP + column * (SIDE + GAP), 4), name[:26], "black", font)
    for row, entry in enumerate(entries):
        low = lowered(store.pictures(TRUTH, entry)[0], store.lr_size)
        place(row, 0, to_image(low), Image.Resampling.NEAREST)
        for column, method in enumerate(columns, 1):
            image = read_picture(store.file(method, entry)).image
            place(row, column, image, Image.Resampling.LANCZOS)
    return encode(paper, "png", FACTS, COMPOSITE)


def ready() -> None:
    """Find out before the work whether its plot can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("The plot needs matplotlib: pip install 'pulse-faces[evaluate]'.")


def plot(rows: Sequence[Row]) -> bytes:
    """`charts` as a PNG."""
    buffer = io.BytesIO()
    charts(rows).savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def charts(rows: Sequence[Row]) -> Figure:
    """Two charts of realism against fidelity; what is better lies up and to the right.

    PSNR-Y against the kernel distance, which knows textures but not where eyes belong, and the
    distance of dlib's descriptors against the score of its detector, which knows faces alone. Blau
    and Michaeli, CVPR 2018, show that no method can have both at once.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for chart, (across, up) in zip(figure.subplots(1, 2), CHARTS, strict=True):
        for number, row in enumerate(rows):
            x, y = row.values.get(across.key), row.values.get(up.key)
            if x is None or y is None or not math.isfinite(x.mean):
                continue
            bars = [_error_bar(value) for value in (x, y)]
            place = (x.mean, y.mean)
            chart.errorbar(*place, *bars[::-1], fmt="o", color=f"C{number}", ecolor="lightgrey")
            chart.annotate(row.name, place, (5, 5), textcoords="offset points", fontsize=8)
        chart.set_xlabel(f"fidelity: {across.heading}")
        chart.set_ylabel(f"realism: {up.heading}")
        chart.margins(0.15)
        chart.grid(alpha=0.3)
        if across.better == "low":
            chart.invert_xaxis()
        if up.better == "low":
            chart.invert_yaxis()
    return figure


def _error_bar(value: Value) -> list[list[float]] | None:
    if value.low is None or value.high is None:
        return None
    return [[value.mean - value.low], [value.high - value.mean]]
