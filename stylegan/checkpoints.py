"""Generators in files: safetensors whose metadata tells how to rebuild the network."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylegan.discriminator import Discriminator
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config

FORMAT = "pulse-generator-1"


class CheckpointError(ValueError):
    """The file is not a generator that can be opened; the message says why."""


def save(
    generator: StyleGAN2,
    path: Path,
    notes: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a generator to a safetensors file, whole or not at all.

    Args:
        notes: what else to say in the metadata, for example how it was trained.
        dtype: type of the stored weights.
    """
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "family": "stylegan2",
        "config": json.dumps(asdict(generator.config)),
    }
    _write(generator.state_dict(), path, metadata, dtype)


def save_discriminator(discriminator: Discriminator, path: Path) -> None:
    """Write the judge that a generator was trained with, for training to go on from both."""
    _write(discriminator.state_dict(), path, {"format": "pulse-discriminator-1"}, torch.float16)


def load_discriminator(discriminator: Discriminator, path: Path) -> None:
    """Fill a judge of the same shape with what `save_discriminator` wrote."""
    try:
        tensors = load_file(path)
        discriminator.load_state_dict({name: x.float() for name, x in tensors.items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a discriminator for such pictures.") from error


def _write(
    state: dict[str, Tensor], path: Path, metadata: dict[str, str], dtype: torch.dtype
) -> None:
    tensors = {name: x.detach().to("cpu", dtype).contiguous() for name, x in state.items()}
    temporary = path.with_name(path.name + ".part")
    save_file(tensors, temporary, metadata)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def read_metadata(path: Path) -> dict[str, str]:
    """What a generator file says of itself: format, family, config and notes."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file that can be read.") from error
    if metadata.get("format") != FORMAT or metadata.get("family") != "stylegan2":
        raise CheckpointError(f"{path} is a safetensors file but not a generator of this program.")
    return metadata


def open_checkpoint(
    path: Path, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32
) -> StyleGAN2:
    """Open a generator for inference: no gradients for its weights.

    Args:
        precision: type in which the feature maps are computed.
    """
    metadata = read_metadata(path)
    try:
        values = json.loads(metadata["config"])
        config = StyleGAN2Config(**{**values, "channels": tuple(values["channels"])})
        generator = StyleGAN2(config, precision)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        generator.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} names a network that its weights do not fit.") from error
    return generator.requires_grad_(False).eval().to(device)
