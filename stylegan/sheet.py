"""Pictures side by side in one file."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan.files import whole


def save_sheet(images: Float[Tensor, "n 3 r r"], path: Path, columns: int | None = None) -> None:
    """Write pictures in [-1, 1] side by side, row by row.

    Args:
        columns: in a row; None makes as square a sheet as their number allows.
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
        Image.fromarray(sheet.numpy()).save(file, "PNG")
