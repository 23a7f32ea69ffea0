"""Pictures side by side in one file."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan.files import whole
from stylegan.marks import SOURCE_TYPE, png_marks

MADE = "Made by a neural network; nobody it may show exists."


def save_sheet(
    images: Float[Tensor, "n 3 r r"],
    path: Path,
    columns: int | None = None,
    source: str = SOURCE_TYPE,
) -> None:
    """Write pictures in [-1, 1] side by side, row by row, as PNG that says that a network made it.

    Args:
        columns: in a row; None makes as square a sheet as their number allows.
        source: IPTC's type of it, see `stylegan.marks`.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    side = images.shape[-1]
    rows = math.ceil(len(images) / columns)
    sheet = torch.zeros(rows * side, columns * side, 3, dtype=torch.uint8)
    for index, tile in enumerate(pixels):
        row, column = divmod(index, columns)
        area = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        sheet[area] = tile.permute(1, 2, 0)
    with whole(path) as file:
        info = png_marks(source, "PULSE", {"Description": MADE, "Synthetic": "yes"})
        Image.fromarray(sheet.numpy()).save(file, "PNG", pnginfo=info)
