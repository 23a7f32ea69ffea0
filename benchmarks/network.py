"""Seconds and memory of one step of the search at 1024 pixels, against a plain loop.

    python benchmarks/network.py [--families StyleGAN2,StyleGAN] [--steps 3]

Both draw the same picture with the same random weights for one candidate, compare it at 16x16, and
take the gradient by latents and the first five noise inputs. The plain loop is written as the
authors' code has it: float32, channels first, a weight tensor for every sample (StyleGAN2), zeros
put between the pixels and filtered with 4x4 taps, operations one after the other; the weights ask
for no gradients. Each line comes from a process of its own; before that, the pictures are compared.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import stylegan
from pulse.degrade import Bicubic
from stylegan.checkpoints import open_checkpoint, save
from stylegan.memory import keep_freed_memory
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config

Synthesis = Callable[[Tensor, list[Tensor]], Tensor]
LOW = 16
SEARCHED_NOISE = 5
COARSE = 32


def write_random(family: str, path: Path, resolution: int = 1024) -> None:
    """A network of the published widths with random weights, styles and noise of usual strength."""
    levels = int(math.log2(resolution)) - 1
    torch.manual_seed(0)
    if family == "StyleGAN2":
        channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)[:levels]
        generator = StyleGAN2(StyleGAN2Config(channels, 512, 512, 8))
    else:
        channels = (512, 512, 512, 512, 256, 128, 64, 32, 16)[:levels]
        generator = StyleGAN1(StyleGAN1Config(channels, 512, 512, 8))
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(0.1)
        elif name.endswith("bias") and "affine" not in name:
            value.data.normal_(0, 0.1)
    save(generator.requires_grad_(False), path, dtype=torch.float32)


def filtered(x: Tensor, taps: Tensor, padding: int) -> Tensor:
    """Every channel filtered along both axes at once."""
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])


def plain_stylegan2(generator: StyleGAN2) -> Synthesis:
    """The network as its authors wrote it, with a weight tensor for every sample."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4

    def modulated(x: Tensor, weight: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
        count, outputs = len(x), len(weight)
        weights = weight[None] * style[:, None, :, None, None]
        if demodulate:
            norm = (weights.square().sum((2, 3, 4)) + 1e-8).rsqrt()
            weights = weights * norm[:, :, None, None, None]
        x = x.reshape(1, -1, *x.shape[2:])
        if up:
            kernel = weights.transpose(1, 2).flatten(0, 1)
            x = F.conv_transpose2d(x, kernel, stride=2, groups=count)
        else:
            x = F.conv2d(x, weights.flatten(0, 1), padding=weight.shape[-1] // 2, groups=count)
        x = x.reshape(count, outputs, *x.shape[2:])
        return filtered(x, taps, 1) if up else x

    def upsample(x: Tensor) -> Tensor:
        count, channels, side, _ = x.shape
        zeros = x.new_zeros(count, channels, side, 2, side, 2)
        zeros[:, :, :, 0, :, 0] = x
        x = F.pad(zeros.reshape(count, channels, 2 * side, 2 * side), (2, 1, 2, 1))
        return filtered(x, taps, 0)

    def synthesis(ws: Tensor, noise: list[Tensor]) -> Tensor:
        x, rgb, index = generator.const.repeat(len(ws), 1, 1, 1), None, 0
        for block in generator.blocks:
            for conv in block.convs:  # type: ignore[union-attr]
                style = conv.affine(ws[:, index])
                x = modulated(x, conv.weight * conv.gain, style, conv.up, True)
                x = x + noise[index] * conv.noise_strength
                x = x + conv.bias[:, None, None]
                x = F.leaky_relu(x, 0.2) * math.sqrt(2)
                index += 1
            last = block.to_rgb
            assert last is not None
            style = last.affine(ws[:, index])  # type: ignore[operator]
            new = modulated(x, last.weight * last.gain, style, False, False)  # type: ignore[operator]
            new = new + last.bias[:, None, None]  # type: ignore[index]
            rgb = new if rgb is None else upsample(rgb) + new
        assert rgb is not None
        return rgb

    return synthesis


def plain_stylegan1(generator: StyleGAN1) -> Synthesis:
    """The network as its authors wrote it; from 128 pixels on, upscaling is fused."""
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4

    def upscaled(x: Tensor, weight: Tensor) -> Tensor:
        if x.shape[-1] < 64:
            count, channels, side, _ = x.shape
            x = x.reshape(count, channels, side, 1, side, 1).expand(-1, -1, -1, 2, -1, 2)
            x = F.conv2d(x.reshape(count, channels, 2 * side, 2 * side), weight, padding=1)
        else:
            kernel = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
            kernel = (kernel[..., 1:, 1:] + kernel[..., :-1, 1:] + kernel[..., 1:, :-1]) + kernel[
                ..., :-1, :-1
            ]
            x = F.conv_transpose2d(x, kernel, stride=2, padding=1)
        return filtered(x, taps, 1)

    def synthesis(ws: Tensor, noise: list[Tensor]) -> Tensor:
        x = generator.const.repeat(len(ws), 1, 1, 1)
        for index, layer in enumerate(generator.layers):
            assert isinstance(layer, stylegan.stylegan1.Layer)
            if layer.weight is not None:
                weight = layer.weight * layer.gain
                x = upscaled(x, weight) if layer.up else F.conv2d(x, weight, padding=1)
            x = x + noise[index] * layer.noise_strength[:, None, None]
            x = x + layer.bias[:, None, None]
            x = F.leaky_relu(x, 0.2)
            x = x - x.mean((2, 3), keepdim=True)
            x = x * (x.square().mean((2, 3), keepdim=True) + layer.epsilon).rsqrt()
            scale, shift = layer.affine(ws[:, index])[:, :, None, None].chunk(2, 1)
            x = x * (scale + 1) + shift
        weight = generator.rgb_weight / math.sqrt(generator.rgb_weight.shape[1])
        return F.conv2d(x, weight) + generator.rgb_bias[:, None, None]

    return synthesis
