"""Reads the generators of other programs: their names, shapes and conventions become ours.

Which family a file holds is read off the names of its weights, and the sizes off their shapes.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from stylegan.archive import Tensors
from stylegan.foreign_parts import (
    LARGEST,
    Weights,
    channels_of,
    check_filter,
    checked,
    layer_name,
    levels_of,
    refuse_classes,
    widths_of,
)
from stylegan.source import MOST, Source, read_source
from stylegan.stylegan1 import StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2Config
from stylegan.stylegan3 import LayerConfig, StyleGAN3Config
from stylegan.unpickle import UnpickleError, shown


def translate(content: Any, tensors: Tensors) -> Weights:
    """The generator in a checkpoint, whichever program wrote it.

    Args:
        content: what `archive.read` gave.
        tensors: of the same file.

    Raises:
        UnpickleError: there is none of a known family, or it is damaged.
    """
    source = read_source(content, tensors)
    for mark, family in (
        ("synthesis/4x4/Conv/mod_weight", _stylegan2_tensorflow),
        ("synthesis/4x4/Const/StyleMod/weight", _stylegan1_tensorflow),
        ("synthesis.b4.const", _stylegan2_nvidia),
        ("synthesis.input.freqs", _stylegan3_nvidia),
        ("conv1.conv.modulation.weight", _stylegan2_rosinality),
        ("blocks.4x4.const", _stylegan1_pulse),
        ("dense0.weight", _stylegan1_pulse),
    ):
        if mark in source:
            return family(source)
    raise UnpickleError("there is no StyleGAN generator of a known kind in it")


# StyleGAN2.


def _stylegan2_nvidia(source: Source) -> Weights:
    """stylegan2-ada-pytorch, and the same network in stylegan3's repository."""
    refuse_classes(source, "mapping.embed.weight")
    levels = levels_of(source, "synthesis.b{}.conv1.weight")
    last = f"synthesis.b{2 * 2**levels}"
    if f"{last}.torgb.weight" not in source:
        raise UnpickleError("its last layer does not give colours")
    if "synthesis.b8.skip.weight" in source:
        architecture = "resnet"
    else:
        architecture = "skip" if "synthesis.b4.torgb.weight" in source else "orig"
    clamp = source.setting(f"{last}.conv1.conv_clamp", None)
    activation = source.setting(f"{last}.conv1.activation", "lrelu", str)
    if activation != "lrelu":
        raise UnpickleError(f"its activation {shown(activation)} is not leaky ReLU")

    tensors, lr, layers, averaged = _mapping_nvidia(source)
    tensors["const"] = source.take("synthesis.b4.const")[None]
    for level in range(levels):
        there, block = f"synthesis.b{4 * 2**level}", f"blocks.{level}"
        for index, conv in enumerate(["conv1"] if level == 0 else ["conv0", "conv1"]):
            name, ours = f"{there}.{conv}", f"{block}.convs.{index}"
            check_filter(source, f"{name}.resample_filter")
            _copy_conv(source, name, ours, tensors)
            if f"{name}.noise_const" in source:
                tensors[f"{ours}.noise"] = source.take(f"{name}.noise_const")[None, None]
                tensors[f"{ours}.noise_strength"] = source.take(f"{name}.noise_strength").view([])
            else:
                tensors[f"{ours}.noise"] = torch.zeros(1, 1, 4 * 2**level, 4 * 2**level)
                tensors[f"{ours}.noise_strength"] = torch.zeros([])
        if f"{there}.torgb.weight" in source:
            _copy_conv(source, f"{there}.torgb", f"{block}.to_rgb", tensors)
        if f"{there}.skip.weight" in source:
            tensors[f"{block}.shortcut.weight"] = source.take(f"{there}.skip.weight")
    channels = channels_of(tensors, "blocks.{}.convs.0.weight", levels)
    widths = widths_of(tensors, layers)
    config = StyleGAN2Config(channels, *widths, layers, lr, architecture, clamp)
    return Weights(config, tensors, averaged)


def _mapping_nvidia(source: Source) -> tuple[dict[str, Tensor], float, int, bool]:
    """Weights, learning rate multiplier, layers, and whether the mean of w is there."""
    layers = source.count("mapping.fc{}.weight")
    tensors: dict[str, Tensor] = {}
    for index in range(layers):
        for kind in ("weight", "bias"):
            tensors[layer_name(index, kind)] = source.take(f"mapping.fc{index}.{kind}")
    averaged = "mapping.w_avg" in source
    if averaged:
        tensors["w_mean"] = source.take("mapping.w_avg")
    # The layer keeps the multiplier as the gain of its bias.
    lr = float(source.setting("mapping.fc0.bias_gain", 0.01))
    return tensors, lr, layers, averaged


def _copy_conv(source: Source, there: str, ours: str, tensors: dict[str, Tensor]) -> None:
    for name in ("weight", "bias", "affine.weight", "affine.bias"):
        tensors[f"{ours}.{name}"] = source.take(f"{there}.{name}")


def _stylegan2_tensorflow(source: Source) -> Weights:
    """NVIDIA's first StyleGAN2, in TensorFlow."""
    refuse_classes(source, "mapping/LabelConcat/weight")
    tensors, lr, layers, averaged = _mapping_tensorflow(source)
    levels = levels_of(source, "synthesis/{0}x{0}/Conv1/weight")
    if "synthesis/8x8/Skip/weight" in source:
        architecture = "resnet"
    else:
        architecture = "skip" if "synthesis/4x4/ToRGB/weight" in source else "orig"

    def copy(there: str, ours: str, flip: bool = False) -> None:
        weight = source.take(f"{there}/weight").permute(3, 2, 0, 1)
        tensors[f"{ours}.weight"] = weight.flip(2, 3) if flip else weight.contiguous()
        tensors[f"{ours}.bias"] = source.take(f"{there}/bias")
        tensors[f"{ours}.affine.weight"] = source.take(f"{there}/mod_weight").T.contiguous()
        tensors[f"{ours}.affine.bias"] = source.take(f"{there}/mod_bias") + 1

    tensors["const"] = source.take("synthesis/4x4/Const/const")
    number = 0
    for level in range(levels):
        there, block = f"synthesis/{4 * 2**level}x{4 * 2**level}", f"blocks.{level}"
        for index, conv in enumerate(["Conv"] if level == 0 else ["Conv0_up", "Conv1"]):
            # TensorFlow's transposed convolution has its kernel the other way round.
            copy(f"{there}/{conv}", f"{block}.convs.{index}", flip=conv == "Conv0_up")
            strength = source.take(f"{there}/{conv}/noise_strength").view([])
            tensors[f"{block}.convs.{index}.noise_strength"] = strength
            tensors[f"{block}.convs.{index}.noise"] = source.take(f"synthesis/noise{number}")
            number += 1
        if f"{there}/ToRGB/weight" in source:
            copy(f"{there}/ToRGB", f"{block}.to_rgb")
        if f"{there}/Skip/weight" in source:
            skip = source.take(f"{there}/Skip/weight").permute(3, 2, 0, 1)
            tensors[f"{block}.shortcut.weight"] = skip.contiguous()
    channels = channels_of(tensors, "blocks.{}.convs.0.weight", levels)
    config = StyleGAN2Config(channels, *widths_of(tensors, layers), layers, lr, architecture)
    return Weights(config, tensors, averaged)


def _mapping_tensorflow(source: Source) -> tuple[dict[str, Tensor], float, int, bool]:
    layers = source.count("mapping/Dense{}/weight")
    tensors: dict[str, Tensor] = {}
    for index in range(layers):
        weight = source.take(f"mapping/Dense{index}/weight")
        tensors[layer_name(index, "weight")] = weight.T.contiguous()
        tensors[layer_name(index, "bias")] = source.take(f"mapping/Dense{index}/bias")
    averaged = "dlatent_avg" in source
    if averaged:
        tensors["w_mean"] = source.take("dlatent_avg")
    return tensors, float(source.setting("mapping_lrmul", 0.01)), layers, averaged


def _stylegan2_rosinality(source: Source) -> Weights:
    """rosinality/stylegan2-pytorch, whose scaling is ours."""
    tensors: dict[str, Tensor] = {}
    layers = 0
    while layers < MOST and f"style.{layers + 1}.weight" in source:  # style.0 normalises.
        for kind in ("weight", "bias"):
            tensors[layer_name(layers, kind)] = source.take(f"style.{layers + 1}.{kind}")
        layers += 1
    levels = checked(1 + source.count("convs.{}.conv.weight") // 2)

    def copy(there: str, ours: str, bias: str) -> None:
        tensors[f"{ours}.weight"] = source.take(f"{there}.conv.weight").squeeze(0)
        tensors[f"{ours}.bias"] = source.take(f"{there}.{bias}").flatten()
        for kind in ("weight", "bias"):
            tensors[f"{ours}.affine.{kind}"] = source.take(f"{there}.conv.modulation.{kind}")

    tensors["const"] = source.take("input.input")
    number = 0
    for level in range(levels):
        names = [f"convs.{2 * level - 2}", f"convs.{2 * level - 1}"] if level else ["conv1"]
        for index, name in enumerate(names):
            ours = f"blocks.{level}.convs.{index}"
            check_filter(source, f"{name}.conv.blur.kernel")
            copy(name, ours, "activate.bias")
            tensors[f"{ours}.noise_strength"] = source.take(f"{name}.noise.weight").view([])
            side = 4 * 2**level
            stored = f"noises.noise_{number}"
            tensors[f"{ours}.noise"] = (
                source.take(stored) if stored in source else torch.zeros(1, 1, side, side)
            )
            number += 1
        rgb = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        copy(rgb, f"blocks.{level}.to_rgb", "bias")
    averaged = "latent_avg" in source
    if averaged:
        tensors["w_mean"] = source.take("latent_avg").flatten()
    channels = channels_of(tensors, "blocks.{}.convs.0.weight", levels)
    config = StyleGAN2Config(channels, *widths_of(tensors, layers), layers)
    return Weights(config, tensors, averaged)


# StyleGAN. Its activation has no gain; the factor of sqrt(2) is in the weights before it instead.
# The same comes of our mapping network, gain included, if its biases are divided by the factor.


def _stylegan1_pulse(source: Source) -> Weights:
    """The PyTorch port that PULSE ships, in two files: synthesis and mapping."""
    for part, name in (("synthesis", "blocks.4x4.const"), ("mapping", "dense0.weight")):
        if name not in source:
            raise UnpickleError(f"its {part} network is missing, which is in a file of its own")
    tensors: dict[str, Tensor] = {}
    layers = source.count("dense{}.weight")
    for index in range(layers):
        tensors[layer_name(index, "weight")] = source.take(f"dense{index}.weight")
        tensors[layer_name(index, "bias")] = source.take(f"dense{index}.bias") / math.sqrt(2)
    levels = levels_of(source, "blocks.{0}x{0}.epi2.noise.weight")
    tensors["const"] = source.take("blocks.4x4.const")
    for level in range(levels):
        side = 4 * 2**level
        there = f"blocks.{side}x{side}"
        names = (None, "conv") if level == 0 else ("conv0_up", "conv1")
        for index, conv in enumerate(names):
            ours, epilogue = f"layers.{2 * level + index}", f"{there}.epi{index + 1}"
            if conv is None:
                tensors[f"{ours}.bias"] = source.take(f"{there}.bias")
            else:
                weight = source.take(f"{there}.{conv}.weight")
                tensors[f"{ours}.weight"] = _as_repeated(weight, side) if index == 0 else weight
                tensors[f"{ours}.bias"] = source.take(f"{there}.{conv}.bias")
            for kind in ("weight", "bias"):
                tensors[f"{ours}.affine.{kind}"] = source.take(f"{epilogue}.style_mod.lin.{kind}")
            tensors[f"{ours}.noise_strength"] = source.take(f"{epilogue}.noise.weight").flatten()
            tensors[f"{ours}.noise"] = torch.zeros(1, 1, side, side)
    tensors["rgb_weight"] = source.take("torgb.weight")
    tensors["rgb_bias"] = source.take("torgb.bias")
    # Its instance normalisation is torch's, with torch's epsilon.
    return _stylegan1(tensors, levels, layers, 0.01, 1e-5, averaged=False)


def _stylegan1_tensorflow(source: Source) -> Weights:
    """NVIDIA's StyleGAN."""
    refuse_classes(source, "mapping/LabelConcat/weight")
    tensors, lr, layers, averaged = _mapping_tensorflow(source)
    for index in range(layers):
        tensors[layer_name(index, "bias")] /= math.sqrt(2)
    levels = levels_of(source, "synthesis/{0}x{0}/Conv1/weight")
    tensors["const"] = source.take("synthesis/4x4/Const/const")
    for level in range(levels):
        side = 4 * 2**level
        for index, part in enumerate(("Const", "Conv") if level == 0 else ("Conv0_up", "Conv1")):
            there, ours = f"synthesis/{side}x{side}/{part}", f"layers.{2 * level + index}"
            number = 2 * level + index
            if part != "Const":
                weight = source.take(f"{there}/weight").permute(3, 2, 0, 1).contiguous()
                tensors[f"{ours}.weight"] = _as_repeated(weight, side) if index == 0 else weight
            tensors[f"{ours}.bias"] = source.take(f"{there}/bias")
            style = f"{there}/StyleMod"
            tensors[f"{ours}.affine.weight"] = source.take(f"{style}/weight").T.contiguous()
            tensors[f"{ours}.affine.bias"] = source.take(f"{style}/bias")
            tensors[f"{ours}.noise_strength"] = source.take(f"{there}/Noise/weight").flatten()
            stored = f"synthesis/noise{number}"
            tensors[f"{ours}.noise"] = (
                source.take(stored) if stored in source else torch.zeros(1, 1, side, side)
            )
    tensors["rgb_weight"] = source.take("synthesis/ToRGB_lod0/weight").permute(3, 2, 0, 1)
    tensors["rgb_bias"] = source.take("synthesis/ToRGB_lod0/bias")
    return _stylegan1(tensors, levels, layers, lr, 1e-8, averaged)


def _as_repeated(weight: Tensor, side: int) -> Tensor:
    """The weight of a layer that doubles the size, as it acts on repeated pixels.

    From 128 pixels on the original fuses repeating and convolution into one transposed convolution,
    whose kernel lies the other way round.
    """
    return weight.flip(2, 3) if side >= 128 else weight


def _stylegan1(
    tensors: dict[str, Tensor],
    levels: int,
    layers: int,
    lr: float,
    epsilon: float,
    averaged: bool,
) -> Weights:
    tensors["rgb_weight"] = tensors["rgb_weight"].contiguous()
    channels = channels_of(tensors, "layers.{}.bias", 2 * levels)[::2]
    z_dim, w_dim = widths_of(tensors, layers)
    config = StyleGAN1Config(channels, z_dim, w_dim, layers, lr, epsilon)
    return Weights(config, tensors, averaged)


# StyleGAN3.


def _stylegan3_nvidia(source: Source) -> Weights:
    """stylegan3, configurations T and R, with their settings as the pickle has them."""
    refuse_classes(source, "mapping.embed.weight")
    tensors, lr, layers, averaged = _mapping_nvidia(source)
    there = "synthesis.input"
    for name in ("weight", "freqs", "phases", "transform", "affine.weight", "affine.bias"):
        tensors[f"input.{name}"] = source.take(f"{there}.{name}")
    found = (re.match(r"synthesis\.(L\d{1,3}_\w+)\.", name) for name in source.records)
    names = sorted(
        {match[1] for match in found if match},
        key=lambda name: int(name[1:].partition("_")[0]),
    )
    if len(names) > MOST:
        raise UnpickleError("it has more layers than a network needs")
    configs: list[LayerConfig] = []
    for index, name in enumerate(names):
        there, ours = f"synthesis.{name}", f"layers.{index}"
        _copy_conv(source, there, ours, tensors)
        tensors[f"{ours}.magnitude"] = source.take(f"{there}.magnitude_ema").view([])
        for kind in ("up_filter", "down_filter"):
            stored = f"{there}.{kind}"
            tensors[f"{ours}.{kind}"] = source.take(stored) if stored in source else torch.ones(1)
        outputs, inputs, kernel = tensors[f"{ours}.weight"].shape[:3]
        size = source.setting(f"{there}.out_size", None, tuple)
        padding = source.setting(f"{there}.padding", None, (tuple, int))
        up, down = (source.setting(f"{there}.{k}_factor", None, int) for k in ("up", "down"))
        if size is None or padding is None or up is None or down is None:
            raise UnpickleError(f"the settings of its layer {name} are missing")
        padding = padding if isinstance(padding, tuple) else (padding,) * 4
        if not 0 < int(size[0]) <= LARGEST or not (0 < up <= 8 and 0 < down <= 8):
            raise UnpickleError(f"the settings of its layer {name} are out of range")
        up_taps, down_taps = (len(tensors[f"{ours}.{k}_filter"]) for k in ("up", "down"))
        radial = tensors[f"{ours}.down_filter"].ndim == 2
        configs.append(
            LayerConfig(
                inputs,
                outputs,
                kernel,
                int(size[0]),
                up,
                down,
                up_taps,
                down_taps,
                radial,
                (int(padding[0]), int(padding[1]), int(padding[2]), int(padding[3])),
            )
        )
    size = source.setting("synthesis.input.size", None, tuple)
    rate = source.setting("synthesis.input.sampling_rate", None)
    bandwidth = source.setting("synthesis.input.bandwidth", None)
    if not configs or size is None or rate is None or bandwidth is None:
        raise UnpickleError("the settings of its input are missing")
    if not 0 < int(size[0]) <= LARGEST or not all(
        abs(n) <= LARGEST for c in configs for n in c.padding
    ):
        raise UnpickleError("its settings are out of range")
    z_dim, w_dim = widths_of(tensors, layers)
    config = StyleGAN3Config(
        configs[-1].size,
        tuple(configs),
        len(tensors["input.freqs"]),
        int(size[0]),
        float(rate),
        float(bandwidth),
        z_dim,
        w_dim,
        layers,
        lr,
        source.setting(f"synthesis.{names[-1]}.conv_clamp", None),
    )
    return Weights(config, tensors, averaged)
