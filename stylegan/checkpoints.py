"""Generators in files: ours, which are safetensors, and those of other programs.

Nothing in a file is ever executed. Ours say in their metadata how to rebuild the network; of the
others `stylegan.foreign` reads it off the weights.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stylegan import archive, named_tensors
from stylegan.discriminator import Discriminator
from stylegan.files import write_weights
from stylegan.foreign import translate
from stylegan.foreign_parts import LARGEST, Config, Weights
from stylegan.mapping import SEED
from stylegan.named_tensors import NamedTensorsError, is_safetensors, read_tensors
from stylegan.source import MOST, merge
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from stylegan.stylegan3 import LayerConfig, StyleGAN3, StyleGAN3Config
from stylegan.unpickle import UnpickleError

StyleGAN: TypeAlias = StyleGAN1 | StyleGAN2 | StyleGAN3

FORMAT = "pulse-generator-1"
WIDEST = 8192
"""Numbers in z, in w and channels of a layer; known networks have up to 1024."""
W_SAMPLES, W_PART = 10_000, 400
"""Latents whose mean is taken where a checkpoint does not have that of w, and how many at once."""


class CheckpointError(ValueError):
    """The file is not a generator that can be opened; the message says why."""


def save(
    generator: StyleGAN,
    path: Path,
    notes: dict[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a generator to a safetensors file, whole or not at all.

    Args:
        notes: what else to say in the metadata, for example how it was trained.
        dtype: type of the stored weights.

    Raises:
        CheckpointError: a weight is too large for the type.
    """
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "family": _FAMILIES[type(generator)],
        "config": json.dumps(asdict(generator.config)),
    }
    _write(generator.state_dict(), path, metadata, dtype)


_FAMILIES = {StyleGAN1: "stylegan1", StyleGAN2: "stylegan2", StyleGAN3: "stylegan3"}


def save_judge(judge: nn.Module, path: Path) -> None:
    """Write a judge that a generator was trained with, for training to go on from both."""
    _write(judge.state_dict(), path, {"format": "pulse-judge-1"}, torch.float16)


def load_judge(judge: nn.Module, path: Path) -> None:
    """Fill a judge of the same shape with what `save_judge` wrote."""
    try:
        judge.load_state_dict(_read_judge(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not a judge for such pictures.") from error


def open_discriminator(
    path: Path, resolution: int, channels: tuple[int, ...] | None
) -> Discriminator:
    """The discriminator that `save_judge` wrote, its sizes read off its weights.

    Args:
        resolution: of the pictures that it has to judge.
        channels: what its own have to be the first of; None takes any.

    Raises:
        CheckpointError: it is none, or another.
    """
    try:
        judge = Discriminator.of(_read_judge(path))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not a judge for such pictures.") from error
    wanted = judge.channels if channels is None else channels[: len(judge.channels)]
    if judge.resolution != resolution or judge.channels != wanted:
        raise CheckpointError(
            f"{path} judges {judge.resolution} pixels with channels {judge.channels}; ask for the "
            "same, or leave them out."
        )
    return judge


def _read_judge(path: Path) -> dict[str, Tensor]:
    try:
        return {name: x.float() for name, x in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a judge that can be read.") from error


def _write(
    state: dict[str, Tensor], path: Path, metadata: dict[str, str], dtype: torch.dtype
) -> None:
    try:
        write_weights(state, path, metadata, dtype)
    except OverflowError as error:
        raise CheckpointError(str(error)) from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a generator file of ours says of itself: format, family, config and notes."""
    try:
        metadata = named_tensors.read_metadata(path)
    except (NamedTensorsError, OSError) as error:
        raise CheckpointError(f"{path} is not a safetensors file that can be read.") from error
    if metadata.get("format") != FORMAT or metadata.get("family") not in _FAMILIES.values():
        raise CheckpointError(f"{path} is a safetensors file but not a generator of this program.")
    return metadata


def open_checkpoint(
    path: Path, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32
) -> StyleGAN:
    """Open a generator for inference: no gradients for its weights.

    Args:
        path: a file, or a folder that holds one network in two files (see `files_of`).
        precision: type in which the feature maps are computed.

    Raises:
        CheckpointError: it is not a generator that can be opened.
    """
    files = files_of(path)
    try:
        foreign = None if is_safetensors(files[0]) else _read_foreign(files)
        config = _read_config(path) if foreign is None else foreign.config
        # The network is laid out without memory of its own and then takes the file's tensors, so
        # a file that claims more than it holds fails before anything is allocated. (The networks
        # are made of factory functions alone: arithmetic without memory would load torch's
        # compiler, which takes seconds.)
        with torch.device("meta"):
            generator = _build(config, precision)
        if foreign is None:
            tensors, averaged = read_tensors(path, generator.state_dict()), True
        else:
            tensors, averaged = foreign.tensors, foreign.averaged
        # In one layout in memory, so that rounding does not depend on where the weights came from.
        for name, tensor in tensors.items():
            tensors[name] = tensor.contiguous()
        if not averaged:
            tensors["w_mean"] = torch.zeros(generator.w_dim)
        generator.load_state_dict(tensors, assign=True)
        generator.requires_grad_(False).eval()
        if not averaged:
            generator.w_mean.copy_(_mean_w(generator))
    except UnpickleError as error:
        raise CheckpointError(f"{path} cannot be opened as a generator: {error}.") from error
    except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} names a network that its weights do not fit.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    return generator.to(device)


def _mean_w(generator: StyleGAN) -> Tensor:
    """The mean of w, in parts, so that a wide z takes no more memory than its weights."""
    rng, total = torch.Generator().manual_seed(SEED), torch.zeros(generator.w_dim)
    for _ in range(W_SAMPLES // W_PART):
        z = torch.randn(W_PART, generator.z_dim, generator=rng)
        total += generator.mapping(z).sum(0)
    return total / W_SAMPLES


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of a generator: one, or PULSE's synthesis and mapping network.

    The two are found beside each other, their names the same but for the words `synthesis` and
    `mapping`; either of them or their folder may be given.

    Raises:
        CheckpointError: a folder does not hold such a pair.
    """
    if path.is_dir():
        found = map(files_of, sorted(path.glob("*synthesis*.pt")))
        pairs = [files for files in found if len(files) == 2]
        if len(pairs) != 1:
            raise CheckpointError(
                f"{path} is a folder with {len(pairs)} pairs of files named synthesis and mapping; "
                "give the generator's file inside it."
            )
        return pairs[0]
    for one, other in (("synthesis", "mapping"), ("mapping", "synthesis")):
        beside = path.with_name(path.name.replace(one, other))
        if one in path.name and beside.is_file():
            return (path, beside) if one == "synthesis" else (beside, path)
    return (path,)


def _read_foreign(files: tuple[Path, ...]) -> Weights:
    budget = archive.budget_of(*files)
    content = archive.read(files[0], budget)
    if len(files) == 2:
        content = merge(content, archive.read(files[1], budget))
    return translate(content, archive.Tensors(budget))


def _read_config(path: Path) -> Config:
    metadata = read_metadata(path)
    return _config(metadata["family"], json.loads(metadata["config"]))


def _config(family: str, values: dict[str, Any]) -> Config:
    """A configuration from its JSON, whose lists are tuples."""
    if family == "stylegan3":
        layers = tuple(
            LayerConfig(**{**layer, "padding": tuple(layer["padding"])})
            for layer in values["layers"]
        )
        return StyleGAN3Config(**{**values, "layers": layers})
    values = {**values, "channels": tuple(values["channels"])}
    return StyleGAN1Config(**values) if family == "stylegan1" else StyleGAN2Config(**values)


def _build(config: Config, precision: torch.dtype) -> StyleGAN:
    depth = len(config.layers if isinstance(config, StyleGAN3Config) else config.channels)
    if not (0 < depth <= MOST and 0 < config.mapping_layers <= MOST):
        raise ValueError("a network of so many layers would take for ever to lay out")
    if not 0 < config.resolution <= LARGEST:
        raise ValueError(f"pictures larger than {LARGEST} pixels")
    if not (0 < config.z_dim <= WIDEST and 0 < config.w_dim <= WIDEST):
        raise ValueError(f"more than {WIDEST} numbers in a latent")
    if isinstance(config, StyleGAN1Config):
        return StyleGAN1(config, precision)
    if isinstance(config, StyleGAN2Config):
        return StyleGAN2(config, precision)
    return StyleGAN3(config, precision)
