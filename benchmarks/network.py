"""Seconds and memory of a step of the search at 1024 pixels, against a plain loop.

    python benchmarks/network.py [--steps 3] [--families StyleGAN2 StyleGAN]

Both draw the same picture with the same random weights for one candidate, compare it with a target
at 16x16, and take a step of Adam on the latents and the first five noise inputs. The plain loop is
written as the authors' code has it: float32, channels first, a weight tensor for every sample
(StyleGAN2), one operation after the other; its weights ask for no gradients. `plain, kept` is the
same with the C library told to keep freed memory, as this program does. Each line comes from a
process of its own, the median of some steps after one that warms up; `ratio` is to `plain`.

`forward` draws without gradients. `features` stops at 32 pixels, with gradients. Last come the
differences of the pictures to the plain loop's.
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
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.imaging.degrade import Bicubic
from stylegan.checkpoints import StyleGAN, open_checkpoint, save
from stylegan.memory import keep_freed_memory
from stylegan.stylegan1 import Layer, StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import Block, StyledConv, StyleGAN2, StyleGAN2Config

Synthesis = Callable[[Tensor, list[Tensor]], Tensor]
LOW, SEARCHED_NOISE, COARSE = 16, 5, 32
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LINES = {
    "step": ("plain", "plain, kept", *PRECISIONS),
    "forward": ("plain", *PRECISIONS),
    "features": tuple(PRECISIONS),
}


def write_random(family: str, path: Path, resolution: int = 1024) -> None:
    """A network of the published widths with random weights, biases and noise strengths."""
    levels = int(math.log2(resolution)) - 1
    torch.manual_seed(0)
    if family == "StyleGAN2":
        channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)[:levels]
        generator: StyleGAN = StyleGAN2(StyleGAN2Config(channels, 512, 512, 8))
    else:
        channels = (512, 512, 512, 512, 256, 128, 64, 32, 16)[:levels]
        generator = StyleGAN1(StyleGAN1Config(channels, 512, 512, 8))
        torch.nn.init.normal_(generator.const)
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(value, 0.1)
        elif name.endswith("bias") and "affine" not in name:
            torch.nn.init.normal_(value, 0, 0.1)
    save(generator, path, dtype=torch.float32)


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
            assert isinstance(block, Block)
            for conv in block.convs:
                assert isinstance(conv, StyledConv)
                style = conv.affine(ws[:, index])
                x = modulated(x, conv.weight * conv.gain, style, conv.up, True)
                x = x + noise[index] * conv.noise_strength
                x = x + conv.bias[:, None, None]
                x = F.leaky_relu(x, 0.2) * math.sqrt(2)
                index += 1
            last = block.to_rgb
            assert last is not None
            style = last.affine(ws[:, index])
            new = modulated(x, last.weight * last.gain, style, False, False)
            new = new + last.bias[:, None, None]
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
            assert isinstance(layer, Layer)
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


def plain_of(generator: StyleGAN) -> Synthesis:
    if isinstance(generator, StyleGAN2):
        return plain_stylegan2(generator)
    assert isinstance(generator, StyleGAN1)
    return plain_stylegan1(generator)


def inputs_of(generator: StyleGAN) -> tuple[Tensor, list[Tensor]]:
    rng = torch.Generator().manual_seed(1)
    w = generator.mapping(torch.randn(1, generator.z_dim, generator=rng))
    noise = [torch.randn(1, 1, *shape, generator=rng) for shape in generator.noise_shapes]
    return w[:, None].repeat(1, generator.num_layers, 1), noise


def measure(path: Path, program: str, what: str, steps: int) -> tuple[float, float]:
    """Median seconds of a step, and the most MiB that the process held.

    That counts from what the process was started from, so that one has to be small.
    """
    generator = open_checkpoint(path, precision=PRECISIONS.get(program, torch.float32))
    plain = program.startswith("plain")
    if program != "plain":
        keep_freed_memory()
    synthesis: Synthesis = plain_of(generator) if plain else generator.synthesis
    ws, noise = inputs_of(generator)
    searched = [ws.requires_grad_(), *(x.requires_grad_() for x in noise[:SEARCHED_NOISE])]
    adam = torch.optim.Adam(searched, 0.01)
    target = torch.rand(3, LOW, LOW)
    down = Bicubic(COARSE if what == "features" else generator.resolution, LOW)

    def step() -> None:
        if what == "forward":
            with torch.no_grad():
                down(synthesis(ws, noise))
            return
        if what == "features":
            images = generator.features(ws, noise, COARSE)[:, :3]
        else:
            images = synthesis(ws, noise)
        adam.zero_grad()
        (down((images + 1) / 2) - target).square().mean().backward()
        adam.step()

    seconds: list[float] = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(seconds[1:]), peak


@torch.no_grad()
def differences(path: Path) -> str:
    """Of our pictures to the plain one: in units of which the picture spans -1 to 1, and more."""
    generator = open_checkpoint(path)
    inputs = inputs_of(generator)
    expected = plain_of(generator)(*inputs)
    lines = [f"{'':24}{'largest':>10}{'mean':>10}{'rms/std':>10}"]
    for name, precision in PRECISIONS.items():
        generator.precision = precision
        error = generator.synthesis(*inputs) - expected
        root = (error.square().mean().sqrt() / expected.std()).item()
        line = f"{generator.family:12}{name:12}{error.abs().max():10.1e}{error.abs().mean():10.1e}"
        lines.append(f"{line}{root:10.1e}")
    return "\n".join(lines)


def in_process(*arguments: object) -> str:
    """What this script prints when it is called with those."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    return subprocess.check_output(command, text=True).rstrip()


def table(families: list[str], steps: int) -> None:
    print(f"{'':12}{'':12}{'':10}{'s':>8}{'ratio':>8}{'MiB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        compared: list[str] = []
        for family in families:
            path = Path(folder) / f"{family}.safetensors"
            in_process("write", path, family)
            plain = math.nan
            for what, programs in LINES.items():
                for program in programs:
                    result = in_process("measure", path, program, what, steps)
                    seconds, peak = map(float, result.split())
                    if program == "plain":
                        plain = seconds
                    ratio = "" if what == "features" else f"{plain / seconds:.1f}x"
                    line = f"{family:12}{program:12}{what:10}{seconds:8.3f}{ratio:>8}{peak:8.0f}"
                    print(line, flush=True)
            compared.append(in_process("compare", path))
        print("\n".join(compared))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--families", nargs="+", default=["StyleGAN2", "StyleGAN"])
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.one:
        case None:
            table(options.families, options.steps)
        case ["write", file, family]:
            write_random(family, Path(file))
        case ["measure", file, program, what, steps]:
            print(*measure(Path(file), program, what, int(steps)))
        case ["compare", file]:
            print(differences(Path(file)))
