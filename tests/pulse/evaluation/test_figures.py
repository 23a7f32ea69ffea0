import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Annotation
from PIL import Image
from torch import Tensor

from pulse.evaluation import figures
from pulse.evaluation.faces import Original
from pulse.evaluation.methods import Enlarged
from pulse.evaluation.statistics import Value
from pulse.evaluation.store import Drawn, Store
from pulse.evaluation.table import Row
from pulse.evaluation.work import Plan

COLOURS = {"truth": (0, 0, 200), "nearest": (200, 0, 0), "bicubic": (0, 200, 0)}


def plain(red: int, green: int, blue: int) -> UInt8[Tensor, "3 32 32"]:
    return torch.tensor([red, green, blue], dtype=torch.uint8)[:, None, None].expand(3, 32, 32)


def test_the_sheet_has_a_row_for_each_face_and_a_column_for_each_method(tmp_path: Path) -> None:
    """Every method has a colour, every face a shade of it; each cell is the picture of both."""
    store, methods = Store(tmp_path, 32, 8), (Enlarged("bicubic"), Enlarged("nearest"))

    def shade(name: str, number: int) -> tuple[int, int, int]:
        red, green, blue = (value - 40 * number if value else 0 for value in COLOURS[name])
        return red, green, blue

    entries = []
    for number in range(3):
        entries.append(store.add(Original(f"face-{number}", plain(*shade("truth", number)))))
        for method in methods:
            first = plain(*shade(method.name, number)).float() / 255
            candidates = torch.stack((first, torch.ones_like(first)))  # The first is shown.
            store.put_drawn(method, entries[-1], candidates, Drawn(2))
    with Image.open(io.BytesIO(figures.sheet(Plan(store, tuple(entries), methods)))) as sheet:
        sheet.load()
    cell = figures.SIDE + figures.GAP
    assert sheet.size == (4 * cell + figures.GAP, 3 * cell + figures.CAPTION + figures.GAP)
    for row in range(3):
        shown = [
            sheet.getpixel((figures.GAP + figures.SIDE // 2 + column * cell,
                            figures.CAPTION + figures.SIDE // 2 + row * cell))
            for column in range(4)
        ]  # fmt: skip
        names = ("truth", "bicubic", "nearest", "truth")  # The input is as blue as the original.
        assert shown == [shade(name, row) for name in names]
    captions = sheet.crop((0, 0, sheet.width, figures.CAPTION)).convert("L")
    for column in range(4):
        left = figures.GAP + column * cell
        darkest, _ = captions.crop((left, 0, left + figures.SIDE, captions.height)).getextrema()
        assert darkest == 0


def row(name: str, psnr: float, kernel: float | None, identity: float, detector: float) -> Row:
    values = {
        "psnr": Value(psnr, psnr - 1, psnr + 2),
        "identity": Value(identity),
        "detector": Value(detector, detector - 0.1, detector + 0.1),
    }
    if kernel is not None:
        values["kernel"] = Value(kernel)
    return Row(name, 1, values)


def points(chart: Axes) -> dict[str, tuple[float, float]]:
    """What is drawn, by the name beside it."""
    found = {}
    for container, text in zip(chart.containers, chart.texts, strict=True):
        assert isinstance(container, ErrorbarContainer)
        x, y = np.asarray(container.lines[0].get_xydata(), float).ravel()
        assert isinstance(text, Annotation)
        assert text.xy == (x, y)
        found[text.get_text()] = (x, y)
    return found


def test_points_of_the_plot_are_the_numbers_of_the_table() -> None:
    rows = [
        row("truth", math.inf, None, 0.0, 2.3),
        row("bicubic", 23.5, 0.31, 0.62, 0.9),
        row("default", 24.5, 0.04, 0.55, 2.2),
    ]
    first, second = figures.charts(rows).axes
    # The original has no finite PSNR, and no distance from itself.
    assert points(first) == {"bicubic": (23.5, 0.31), "default": (24.5, 0.04)}
    assert points(second) == {"truth": (0, 2.3), "bicubic": (0.62, 0.9), "default": (0.55, 2.2)}
    assert "PSNR" in first.get_xlabel()
    assert "kernel" in first.get_ylabel()
    assert "descriptors" in second.get_xlabel()
    assert "detector" in second.get_ylabel()
    # What is better lies up and to the right.
    assert not first.xaxis_inverted()
    assert first.yaxis_inverted()
    assert second.xaxis_inverted()
    assert not second.yaxis_inverted()
    bars = first.containers[0]
    assert isinstance(bars, ErrorbarContainer)
    (across,) = bars.lines[2]  # No interval of the kernel distance is known.
    (segment,) = across.get_segments()
    assert segment[:, 0].tolist() == pytest.approx([22.5, 25.5])


def test_the_plot_is_a_picture() -> None:
    data = figures.plot([row("bicubic", 23.5, 0.31, 0.62, 0.9)])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        assert picture.width > 500
