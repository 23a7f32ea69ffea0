"""Upscaling networks: seconds against a plain loop and against ncnn, and frames a second.

    python benchmarks/superres.py [--networks srresnet compact] [--side 64] [--threads 1]

`ratio` is how many times as long the plain loop takes: the same network in float32, channels first,
every dense block's maps joined anew by `torch.cat`, a last convolution of 9x9 taken at once. `ncnn`
is the same for that engine (package `ncnn`, on the CPU, as it is set by default) with the files of
Real-ESRGAN. All run in turn in one process on a picture of `--side` pixels; of each the fastest of
`--rounds` counts, since what disturbs a run only makes it slower. `fps` is frames of 480x270 to
1920x1080 a second; where one would take longer than `--longest` seconds, it is worked out from the
smaller picture and marked ~. Of FRVSR all but an `fps` without that mark
is a first frame's, which has no flow.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn

from pulse.superres import weights
from pulse.superres.networks import (
    CompactConfig,
    FRVSRConfig,
    MSRResNetConfig,
    RRDBNetConfig,
    SRResNetConfig,
    TransformNetConfig,
    UNetConfig,
)  # fmt: skip
from pulse.superres.networks.parts import ToColours
from pulse.superres.networks.rrdb import DenseBlock
from pulse.superres.recurrent import upscale_film
from pulse.superres.weights import AnyNetwork, Config
from stylegan.memory import keep_freed_memory
from stylegan.precision import multiplies_bfloat16

CONFIGS: dict[str, Config] = {
    "srresnet": SRResNetConfig(),
    "srresnet-small": SRResNetConfig(blocks=8, channels=48),
    "msrresnet": MSRResNetConfig(),
    "transform": TransformNetConfig(),
    "unet": UNetConfig(4),
    "rrdb-small": RRDBNetConfig(blocks=4, channels=48, growth=24),
    "rrdb": RRDBNetConfig(),
    "compact": CompactConfig(),
    "frvsr": FRVSRConfig(),
    "frvsr-dense": FRVSRConfig(body="dense"),
}
ENGINES = {"rrdb": "realesrgan-x4plus", "compact": "realesr-animevideov3-x4"}
"""Networks of the same sizes whose files ncnn can read."""
WIDTH, HEIGHT = 480, 270


def plain(network: AnyNetwork) -> AnyNetwork:
    """The same network, as one would write it down."""
    other = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in other.modules():
        if isinstance(module, DenseBlock):
            module._fast = module._joined
        elif isinstance(module, ToColours):
            module.forward = partial(nn.Conv2d.forward, module)
    return other


def engine(name: str, threads: int) -> Callable[[Tensor], object] | None:
    """ncnn with the same network, where both packages are here."""
    try:
        ncnn = importlib.import_module("ncnn")
    except ImportError:
        return None
    if name not in weights.names():
        return None
    file = weights.locate(name)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.load_param(str(file))
    net.load_model(str(file.with_suffix(".bin")))

    def run(lr: Tensor) -> object:
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(lr[0].numpy()).clone())
        return np.array(extractor.extract("output")[1])

    return run


def seconds(work: Callable[[Tensor], object], lr: Tensor) -> float:
    start = time.perf_counter()
    work(lr)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the upscaling networks.")
    parser.add_argument("--networks", nargs="+", default=list(CONFIGS), choices=CONFIGS)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--longest", type=float, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    fast = multiplies_bfloat16(torch.device("cpu"))
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, "
        f"{'bfloat16' if fast else 'float32'}, {arguments.side} pixels\n"
    )
    print("network          parameters       ms   ratio  ratio float32    ncnn     fps")
    for name in arguments.networks:
        torch.manual_seed(0)
        line(name, arguments, fast)


@torch.no_grad()
def line(name: str, arguments: argparse.Namespace, fast: bool) -> None:
    """Measure one network and print what came out."""
    network = weights.build(CONFIGS[name]).eval().requires_grad_(False)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    works: dict[str, Callable[[Tensor], object]] = {"plain": plain(network)}
    works["float32"] = weights.lowered(copy.deepcopy(network), torch.float32)
    frozen = weights.lowered(network, torch.bfloat16 if fast else torch.float32)
    works["ours"] = frozen
    if name in ENGINES and (other := engine(ENGINES[name], arguments.threads)) is not None:
        works["ncnn"] = other
    lr = torch.rand(1, 3, arguments.side, arguments.side)
    best = dict.fromkeys(works, math.inf)
    for number in range(arguments.rounds + 1):
        for kind, work in works.items():
            taken = seconds(work, lr)
            if number:  # The first warms up.
                best[kind] = min(best[kind], taken)
    ours = best["ours"]
    frame = ours * WIDTH * HEIGHT / arguments.side**2
    about = frame > arguments.longest
    if not about:
        wide = torch.rand(1, 3, HEIGHT, WIDTH)
        film = upscale_film(frozen, repeat(wide))
        next(film)
        frame = min(seconds(lambda _: next(film), wide) for _ in range(3))
    against = f"{best['ncnn'] / ours:.2f}" if "ncnn" in best else "-"
    print(
        f"{name:<16} {parameters:>10} {ours * 1e3:>8.1f} {best['plain'] / ours:>7.2f} "
        f"{best['plain'] / best['float32']:>14.2f} {against:>7} {'~' if about else ' '}"
        f"{1 / frame:>7.3g}"
    )


if __name__ == "__main__":
    main()
