"""Films at four times the size: how near to the original, how steady, how fast.

    python benchmarks/films.py --frames FOLDER --networks frvsr-x4 single.safetensors

The folder holds a film's frames as pictures, in the order of their names (Vid4's `city`). They are
blurred by 1.5 pixels and each fourth is kept ("BD"), from the middle of its square, so that nothing
is shifted. As in TecoGAN the first and last two frames and 8 pixels at each edge do not count.

`PSNR`, `SSIM`: of the luma. `tOF`: how far the result's optical flow (Lucas and Kanade's, see
`pulse.imaging.motion`; other people's is Farneback's) is from the original's, in pixels. `warp`:
how much a frame, moved along the original's flow, misses the next, of 255 levels; `flicker`: the
same of the difference from the original, which is what is not the original's. `fps`: frames of
480x270 to 1920x1080 a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pulse import superres
from pulse.imaging.degrade import BD, DegradeConfig
from pulse.imaging.metrics import luma, psnr_y, ssim_y
from pulse.imaging.motion import flow_difference, optical_flow, warping_error
from pulse.imaging.pictures import as_saved, read_picture
from pulse.superres.networks.parts import bicubic
from pulse.superres.weights import AnyNetwork
from stylegan.memory import keep_freed_memory

SCALE, BORDER, CUT = 4, 8, 2
WIDTH, HEIGHT = 480, 270
Film = Callable[[Iterator[Tensor]], Iterator[Tensor]]


def read(folder: Path) -> Float[Tensor, "t 3 h w"]:
    """The frames in [0, 1], cut to multiples of the scale."""
    frames = [np.asarray(read_picture(path).image) for path in sorted(folder.glob("*.png"))]
    film = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    height, width = (side // SCALE * SCALE for side in film.shape[-2:])
    return film[..., :height, :width]


def upscaler(network: AnyNetwork) -> Film:
    return lambda frames: superres.upscale_film(network, frames)


def rate(method: Film, rounds: int) -> float:
    """Frames a second of a film that pans."""
    wide = torch.rand(1, 3, HEIGHT, WIDTH + rounds)
    results = method(wide[..., i : i + WIDTH] for i in range(rounds + 1))
    next(results)
    start = time.perf_counter()
    for _ in results:
        pass
    return rounds / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Films at four times the size.")
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--networks", nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    hr = read(arguments.frames)
    height, width = (side // SCALE for side in hr.shape[-2:])
    lr = as_saved(DegradeConfig.parse(BD).oblong(height, width, SCALE)(hr))
    counted = slice(CUT, len(hr) - CUT)
    original = luma(hr[counted]).float() / 255
    flows = torch.cat([optical_flow(a[None], b[None]) for a, b in pairwise(original)])
    methods: dict[str, Film] = {"bicubic": lambda frames: (bicubic(x, SCALE) for x in frames)}
    for name in arguments.networks:
        methods[Path(name).stem] = upscaler(superres.load(name))
    print(f"{arguments.frames.name}: {len(hr)} frames of {width}x{height}, ", end="")
    print(f"torch {torch.__version__}, {arguments.threads} threads\n")
    print("method                PSNR    SSIM     tOF    warp  flicker     fps")
    print(f"{'original':<18} {'':>23} {255 * warping_error(original, flows, BORDER):>7.3f}")
    for name, method in methods.items():
        sr = torch.cat([as_saved(x) for x in method(iter(lr[:, None]))])[counted]
        grey = luma(sr).float() / 255
        print(
            f"{name:<18} {psnr_y(sr, hr[counted], BORDER).mean():>7.3f} "
            f"{ssim_y(sr, hr[counted], BORDER).mean():>7.4f} "
            f"{flow_difference(grey, flows, BORDER):>7.3f} "
            f"{255 * warping_error(grey, flows, BORDER):>7.3f} "
            f"{255 * warping_error(grey - original, flows, BORDER):>8.3f} "
            f"{rate(method, arguments.rounds):>7.3g}"
        )


if __name__ == "__main__":
    main()
