"""Seconds and passes of a search at 1024 pixels.

    python benchmarks/large.py --data ../shared --faces 3

No published generator of 1024 pixels may be shipped, so the embedded one is grown: its layers lie
in a corner of StyleGAN2's published widths, whose other weights are random and do not reach them,
and three further sides of random layers follow, which add little to the picture. So it draws the
embedded generator's faces at the price of a network of 1024 pixels. One candidate for each
held-out AI-made face is searched for with `default`, and, with --paper, with the publication's
recipe.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from search import count_passes, targets

import stylegan
from pulse.faces.prepare import LRFace
from pulse.search.config import PAPER, SearchConfig
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan.checkpoints import save
from stylegan.memory import keep_freed_memory
from stylegan.stylegan2 import Block, StyledConv, StyleGAN2

CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
NEW_RGB = 0.02
"""How much less than usual the further sides add to the picture."""


@torch.no_grad()
def grown(small: StyleGAN2, channels: tuple[int, ...] = CHANNELS) -> StyleGAN2:
    """A larger network that draws about the pictures of a small one."""
    torch.manual_seed(0)
    large = StyleGAN2(replace(small.config, channels=channels)).requires_grad_(False).eval()
    large.mapping_network.load_state_dict(small.mapping_network.state_dict())
    large.w_mean.copy_(small.w_mean)
    large.const[:, : small.config.channels[0]] = small.const
    for new, old in zip(large.blocks, small.blocks, strict=False):
        assert isinstance(new, Block)
        assert isinstance(old, Block)
        for conv, trained in zip(new.convs, old.convs, strict=True):
            assert isinstance(conv, StyledConv)
            assert isinstance(trained, StyledConv)
            outputs, inputs = trained.weight.shape[:2]
            conv.weight[:outputs] = 0
            conv.weight[:outputs, :inputs] = trained.weight * (trained.gain / conv.gain)
            conv.bias[:outputs] = trained.bias
            conv.affine.weight[:inputs] = trained.affine.weight
            conv.affine.bias[:inputs] = trained.affine.bias
            conv.noise_strength.copy_(trained.noise_strength)
            conv.noise.copy_(trained.noise)
        assert new.to_rgb is not None
        assert old.to_rgb is not None
        inputs = old.to_rgb.weight.shape[1]
        new.to_rgb.weight.zero_()
        new.to_rgb.weight[:, :inputs] = old.to_rgb.weight * (old.to_rgb.gain / new.to_rgb.gain)
        new.to_rgb.bias.copy_(old.to_rgb.bias)
        new.to_rgb.affine.weight[:inputs] = old.to_rgb.affine.weight
        new.to_rgb.affine.bias[:inputs] = old.to_rgb.affine.bias
    for new in list(large.blocks)[len(small.blocks) :]:
        assert isinstance(new, Block)
        assert new.to_rgb is not None
        new.to_rgb.weight.mul_(NEW_RGB)
    return large


def main(
    data: Annotated[Path, typer.Option(help="Folder with faces/ and aligned/.")],
    faces: Annotated[int, typer.Option(help="How many.")] = 3,
    paper: Annotated[int, typer.Option(help="How many with the publication's recipe.")] = 0,
) -> None:
    """Print a line for each face."""
    keep_freed_memory()
    small = stylegan.load(stylegan.EMBEDDED)
    assert isinstance(small, StyleGAN2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grown.safetensors"
        save(grown(small), path)
        upscaler = Upscaler.load(str(path))
    print(f"precision {upscaler.generator.precision}", flush=True)
    counted, counting = count_passes(upscaler)
    low = targets(data, faces, 0)["AI-made"]
    start = time.perf_counter()
    counted.prepare(LRFace(0, low[0]), SearchConfig())
    print(f"fitting maps and curvature, once for a generator: {time.perf_counter() - start:.1f} s")
    print("recipe   status         mse       at last  steps passes seconds")
    for name, config, count in (("default", SearchConfig(), faces), ("paper", PAPER, paper)):
        for face in low[:count]:
            counting.drawn = 0
            start = time.perf_counter()
            *_, state = counted.search(LRFace(0, face), UpscaleConfig(1, search=config))
            seconds = time.perf_counter() - start
            last = state.best if state.exact is None else state.exact
            print(
                f"{name:8} {state.status[0].value:14} {state.best.item():.2e}  {last.item():.1e} "
                f"{state.step:6} {counting.drawn:6} {seconds:7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    typer.run(main)
