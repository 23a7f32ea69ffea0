"""Photos at four times the size: how near to the original, how natural, and what went wrong.

    python benchmarks/photos.py --data ../shared/sr/test [--networks srresnet-x4 file.pth]

The folder holds a folder of pictures for each set (Set5, Set14). They are cut to multiples of four
and downscaled by MATLAB's antialiased bicubic, rounded to 8 bits. Without `--networks` every
network for photos that is shipped has a line for each set, and bicubic interpolation.

`PSNR`, `SSIM`: of the luma, 4 pixels at each edge left out; a picture whose file is grey is
compared as it is, as in the papers.
`NIQE`: see `pulse.imaging.niqe`. `features`: see `pulse.evaluation.judge.feature_distance`. `grid`:
how much a pattern of the scale's period stands out of the result, over how much it does of the
original; 1 is no grid, and what is blurred has less (see `standing_out`). These are means over a
set. `shift`: the most, over its pictures and colours, that a colour's mean in the downscaled result
is away from the input's, of 255 levels; `kept`: the same after `undrifted`, as `pulse upscale`
writes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from pulse.evaluation.judge import feature_distance
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.metrics import luma, psnr_y, ssim_y
from pulse.imaging.niqe import niqe
from pulse.imaging.pictures import as_saved, read_picture
from pulse.superres import weights
from pulse.superres.networks.parts import bicubic
from pulse.superres.pictures import PictureConfig, settled
from pulse.superres.tiles import upscale_tensor
from stylegan.imagenet import EfficientNetLite0, load_efficientnet
from stylegan.memory import keep_freed_memory

SCALE, BORDER = 4, 4
PERIODS = 8
"""Of the grid, in each block whose frequencies are looked at."""
FAR = 3
"""Frequencies from the grid's to those around it: Hann's window mixes nearer ones."""
Method = Callable[[Float[Tensor, "1 3 h w"]], Float[Tensor, "1 3 4*h 4*w"]]


class Figures(NamedTuple):
    """Of one picture; the module says what they are."""

    psnr: float
    ssim: float
    niqe: float
    features: float
    grid: float
    shift: float
    kept: float


def measured(
    method: Method, hr: Float[Tensor, "1 3 h w"], grey: bool, network: EfficientNetLite0
) -> Figures:
    """What a method makes of the picture, downscaled, against the picture."""
    height, width = (side // SCALE for side in hr.shape[-2:])
    shrink = DegradeConfig().oblong(height, width, SCALE)
    lr = as_saved(shrink(hr))
    raw = method(lr)
    sr, kept = as_saved(raw), as_saved(settled(raw, lr, PictureConfig(SCALE)))
    shift, left = (float((shrink(x) - lr).mean((2, 3)).abs().max()) * 255 for x in (sr, kept))
    ours, original = (x.mean(1, keepdim=True) if grey else x for x in (sr, hr))
    return Figures(
        psnr=float(psnr_y(ours, original, BORDER)),
        ssim=float(ssim_y(ours, original, BORDER)),
        niqe=niqe(sr[0]),
        features=float(feature_distance(network, sr, hr)),
        grid=standing_out(sr) / standing_out(hr),
        shift=shift,
        kept=left,
    )


def standing_out(image: Float[Tensor, "1 3 h w"]) -> float:
    """How much energy a grid's frequencies have, over those around them.

    A pattern that repeats every `SCALE` pixels has whole multiples of 1 / `SCALE` for frequencies;
    in a photo these are like their neighbours. The energy is that of the luma, averaged over blocks
    of `PERIODS` periods that overlap by half, since a network's grid may be in some places alone.
    """
    side = PERIODS * SCALE
    blocks = luma(image)[0, 0].unfold(0, side, side // 2).unfold(1, side, side // 2)
    window = torch.hann_window(side, dtype=blocks.dtype)
    energy = torch.fft.fft2(blocks * window[:, None] * window).abs().square().mean((0, 1))
    ring = [p for p in product(range(-FAR, FAR + 1), repeat=2) if max(map(abs, p)) == FAR]
    around = torch.stack([energy.roll(place, (0, 1)) for place in ring]).mean(0)
    at, near = (x[::PERIODS, ::PERIODS].flatten()[1:].sum() for x in (energy, around))
    return float(at / near)  # Without the first, which is the block's mean.


def pictures(folder: Path) -> Iterator[tuple[Float[Tensor, "1 3 h w"], bool]]:
    """In [0, 1], cut to multiples of the scale, and whether the file is grey."""
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            grey = image.mode == "L"
        pixels = torch.from_numpy(np.array(read_picture(path).image))
        height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
        yield pixels[:height, :width].permute(2, 0, 1)[None].float() / 255, grey


def shipped() -> list[str]:
    """The networks for photos that come with the program, by name."""
    ours = (name for name in weights.names() if name not in weights.REALESRGAN)
    kinds = ("faces", "frvsr")
    return [n for n in ours if n.endswith(f"-x{SCALE}") and not any(kind in n for kind in kinds)]


def of(name: str) -> Method:
    network = weights.load(name)
    if network.scale != SCALE:
        raise SystemExit(f"{name} upscales {network.scale} times, not {SCALE}.")
    return lambda lr: upscale_tensor(network, lr)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Photos at four times the size.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", default=shipped())
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    judge = load_efficientnet()
    sets = sorted(path for path in arguments.data.iterdir() if path.is_dir())
    print(f"{'network':<18} set        PSNR    SSIM    NIQE  features    grid   shift    kept")
    for name in ("bicubic", *arguments.networks):
        method = of(name) if name != "bicubic" else lambda lr: bicubic(lr, SCALE)
        for folder in sets:
            found = [measured(method, *each, judge) for each in pictures(folder)]
            psnr, ssim, natural, features, grid, shift, kept = np.array(found).T
            print(
                f"{Path(name).stem:<18} {folder.name:<8} {psnr.mean():>6.2f} {ssim.mean():>7.4f} "
                f"{np.nanmean(natural):>7.2f} {features.mean():>9.4f} {grid.mean():>7.2f} "
                f"{shift.max():>7.2f} {kept.max():>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
