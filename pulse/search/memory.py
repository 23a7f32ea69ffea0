"""Work in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from stylegan.memory import ran_out

Result = TypeVar("Result")


def in_chunks(
    work: Callable[[Tensor], Result], items: Tensor, size: int
) -> tuple[list[Result], int]:
    """Work on `size` items at a time, and on half as many whenever memory runs out.

    Args:
        work: what to do with some of the items.

    Returns:
        What came of each part, in order, and the size that fitted in the end.

    Raises:
        MemoryError: not even one fits.
    """
    done: list[Result] = []
    while len(items):
        try:
            done.append(work(items[:size]))
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if size == 1:
                raise MemoryError("not even one picture fits into memory") from error
        else:
            items = items[size:]
            continue
        # Outside the handler, whose error keeps what was allocated alive.
        size = max(1, min(size, len(items)) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return done, size
