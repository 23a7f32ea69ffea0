"""What is worked out once for a generator and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylegan import home


def kept(
    name: str, version: int, make: Callable[[], dict[str, Tensor]], device: torch.device
) -> dict[str, Tensor]:
    """Tensors that are kept in a file of that name under `stylegan.home()`, or made.

    The version is that of how they are worked out: what an earlier one left is not used.

    Where the folder cannot be written they are made again the next time. The name has to tell
    everything that they depend on; one that was damaged is replaced.
    """
    path = home() / f"{name}-v{version}.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):  # Not there, or damaged.
        tensors = make()
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        with suppress(OSError, SafetensorError):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, temporary)
            os.replace(temporary, path)
    return {key: value.to(device) for key, value in tensors.items()}
