"""Where to compute, and with which numbers."""

from __future__ import annotations

from typing import Literal

import torch

from pulse.imaging.pictures import InputError, setting
from stylegan import Generator
from stylegan.precision import multiplies_bfloat16

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BFLOAT16_FROM = 256
"""Resolution from which `auto` takes bfloat16: below, calls and not products take the time."""


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes the fastest that is here."""
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, available in here.items() if available))
    if not here.get(name.partition(":")[0], False):
        raise InputError(f"There is no device {name} here; give {setting('device')} auto or cpu.")
    return torch.device(name)


def choose_precision(name: Precision, generator: Generator) -> torch.dtype:
    """The precision of that name; `auto` is bfloat16 where that is much faster, else float32.

    That is for large StyleGAN2s, on processors that multiply in bfloat16. Small ones stay in
    float32, and so do the other families: StyleGAN gains little by it, and StyleGAN3's pictures
    would differ most. `benchmarks/network.py` has times and differences.
    """
    if name != "auto":
        return PRECISIONS[name]
    large = generator.resolution >= BFLOAT16_FROM and generator.family == "StyleGAN2"
    fast = large and multiplies_bfloat16(generator.device)
    return torch.bfloat16 if fast else torch.float32


def network_precision(name: Precision, device: torch.device) -> torch.dtype:
    """The same of a network that upscales in one pass, whatever its size."""
    if name != "auto":
        return PRECISIONS[name]
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
