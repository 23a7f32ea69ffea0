"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under, which then takes the place of `path` in one step.

    If the writing fails, nothing is left of it, and what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_weights(
    state: Mapping[str, Tensor], path: Path, metadata: dict[str, str], dtype: torch.dtype
) -> None:
    """Write a safetensors file whose floating point numbers are of one type.

    Raises:
        OverflowError: a weight is too large for the type; the message says which.
    """
    tensors: dict[str, Tensor] = {}
    for name, x in state.items():
        tensors[name] = x.detach().to("cpu", dtype if x.is_floating_point() else None).contiguous()
        if not tensors[name].isfinite().all() and x.isfinite().all():
            raise OverflowError(f"The weight {name} is too large for {dtype}; use float32.")
    with whole(path) as file:
        save_file(tensors, file, metadata)
        file.chmod(0o644)
