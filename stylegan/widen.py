"""A trained generator with more feature maps, which draws the same pictures at first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylegan.stylegan2 import Block, StyledConv, StyleGAN2, StyleGAN2Config, ToRGB


@torch.no_grad()
def widen(trained: StyleGAN2, config: StyleGAN2Config) -> StyleGAN2:
    """A network with the channels of `config` that draws what `trained` draws, up to rounding.

    New maps start at random, and nothing reads them yet: the weights from new to old maps are zero,
    so that gradients reach the new ones and can take them into use.

    Raises:
        ValueError: a size would have fewer maps than before, or something else differs.
    """
    pairs = zip(config.channels, trained.config.channels, strict=False)
    same = StyleGAN2Config(**{**config.__dict__, "channels": trained.config.channels})
    if (
        same != trained.config
        or len(config.channels) != len(trained.config.channels)
        or any(new < old for new, old in pairs)
    ):
        raise ValueError("Networks can only be widened: give at least as many channels everywhere.")
    wide = StyleGAN2(config, trained.precision)
    old, state = trained.state_dict(), wide.state_dict()
    for name, value in state.items():
        if value.shape == old[name].shape:
            value.copy_(old[name])
    wide.const[:, : trained.const.shape[1]] = trained.const
    for new_block, old_block in zip(wide.blocks, trained.blocks, strict=True):
        assert isinstance(new_block, Block)
        assert isinstance(old_block, Block)
        for new, source in zip(new_block.convs, old_block.convs, strict=True):
            assert isinstance(new, StyledConv)
            assert isinstance(source, StyledConv)
            _widen_layer(new, source)
            new.bias.zero_()
            new.bias[: len(source.bias)] = source.bias
        if new_block.to_rgb is not None and old_block.to_rgb is not None:
            _widen_layer(new_block.to_rgb, old_block.to_rgb)
    return wide


def _widen_layer(new: StyledConv | ToRGB, source: StyledConv | ToRGB) -> None:
    """Copy a modulated convolution into one with more inputs and outputs."""
    outputs, inputs = source.weight.shape[:2]
    new.weight[:outputs, inputs:] = 0
    # The gain for the equalised learning rate falls with the number of inputs.
    new.weight[:outputs, :inputs] = source.weight * math.sqrt(new.weight.shape[1] / inputs)
    _copy_rows(new.affine.weight, source.affine.weight)
    _copy_rows(new.affine.bias, source.affine.bias)


def _copy_rows(new: Tensor, source: Tensor) -> None:
    new[: len(source)] = source
