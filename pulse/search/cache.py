"""What is worked out once for a generator and kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylegan import Generator, home
from stylegan.files import whole


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
        with suppress(OSError, SafetensorError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as file:
                save_file({key: value.cpu().contiguous() for key, value in tensors.items()}, file)
    return {key: value.to(device) for key, value in tensors.items()}


def precision_of(generator: Generator) -> str:
    """Type of the generator's larger feature maps, on which what is worked out depends."""
    return str(generator.precision).removeprefix("torch.")
