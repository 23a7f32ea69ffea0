"""What the readers of other programs' generators share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from stylegan.source import Source
from stylegan.stylegan1 import StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2Config
from stylegan.stylegan3 import StyleGAN3Config
from stylegan.unpickle import UnpickleError

Config: TypeAlias = StyleGAN1Config | StyleGAN2Config | StyleGAN3Config

LARGEST = 4096
"""Side of a picture, and of the feature maps, that a file may ask for."""


@dataclass(frozen=True)
class Weights:
    """A generator apart from its code.

    Attributes:
        config: of the network.
        tensors: its `state_dict`, in float32, but for `w_mean` where `averaged` is false.
        averaged: whether the checkpoint knows the mean of w.
    """

    config: Config
    tensors: dict[str, Tensor]
    averaged: bool


def layer_name(index: int, kind: str) -> str:
    return f"mapping_network.layers.{index}.{kind}"


def widths_of(tensors: dict[str, Tensor], layers: int) -> tuple[int, int]:
    """Lengths of z and w."""
    if layers == 0:
        raise UnpickleError("its mapping network is missing")
    return tensors[layer_name(0, "weight")].shape[1], tensors[
        layer_name(layers - 1, "weight")
    ].shape[0]


def channels_of(tensors: dict[str, Tensor], pattern: str, count: int) -> tuple[int, ...]:
    return tuple(len(tensors[pattern.format(index)]) for index in range(count))


def levels_of(source: Source, pattern: str) -> int:
    """How many sizes from 4 pixels on there are; at 4 the layer may have another name."""
    levels = 1
    while pattern.format(4 * 2**levels) in source:
        levels = checked(levels + 1)
    return levels


def checked(levels: int) -> int:
    if 2 ** (levels + 1) > LARGEST:
        raise UnpickleError(f"its pictures would be larger than {LARGEST} pixels")
    return levels


def check_filter(source: Source, name: str) -> None:
    """Whether the checkpoint resamples with the filter that our network has built in."""
    if name not in source:
        return
    kernel = source.take(name)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    expected = taps if kernel.ndim == 1 else torch.outer(taps, taps)
    if kernel.shape != expected.shape or not torch.allclose(
        kernel / kernel.sum(), expected, atol=1e-3
    ):
        raise UnpickleError("it resamples with a filter other than [1, 3, 3, 1]")


def refuse_classes(source: Source, name: str) -> None:
    if name in source:
        raise UnpickleError("it draws by class, which this program has no use for")
