"""Generators by name."""

from __future__ import annotations

from pathlib import Path

import torch

from stylegan.checkpoints import CheckpointError, open_checkpoint
from stylegan.generator import Generator

EMBEDDED = "faces"
"""The generator that comes with the program."""


def locate(name: str | Path) -> Path:
    """The file of a generator: of a known name, or the path itself."""
    if name == EMBEDDED:
        return Path(__file__).parent / "weights" / "faces.safetensors"
    path = Path(name)
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be looked up ({error.strerror}).") from error
    if folder:
        raise CheckpointError(f"{path} is a folder; give the generator's file inside it.")
    if not there:
        raise CheckpointError(
            f"No generator is named {name} and there is no such file; "
            f"the embedded one is '{EMBEDDED}'."
        )
    return path


def load(
    name: str | Path = EMBEDDED,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> Generator:
    """Open a generator by name or path, ready for inference on a device."""
    return open_checkpoint(locate(name), device, precision)
