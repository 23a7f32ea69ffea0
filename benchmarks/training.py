"""Pictures a second of one training step, with and without keeping freed memory.

    python benchmarks/training.py

Each figure comes from a process of its own, on random pictures, at the size and with the networks
of the embedded generator.
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from stylegan.dataset import Pictures
from stylegan.memory import keep_freed_memory
from stylegan.train import Trainer
from stylegan.training_config import TrainConfig


def rate(resolution: int) -> float:
    """Pictures a second after a warm-up."""
    levels = len(TrainConfig.channels) - (128 // resolution).bit_length() + 1
    channels = TrainConfig.channels[:levels]
    config = TrainConfig(
        resolution=resolution, start_resolution=resolution, channels=channels, images=320
    )
    trainer = Trainer(config)
    pixels = torch.randint(0, 256, (64, 3, resolution, resolution), dtype=torch.uint8)
    start = 0.0
    for progress in trainer.run(
        Pictures(pixels, torch.ones(64), torch.zeros(64, dtype=torch.bool)), every=80
    ):
        if progress.images == 80:
            start = time.perf_counter()
    return 240 / (time.perf_counter() - start)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        if sys.argv[2] == "kept":
            keep_freed_memory()
        print(rate(int(sys.argv[1])))
    else:
        for resolution in ("64", "128"):
            figures: dict[str, float] = {}
            for memory in ("returned", "kept"):
                command = [sys.executable, __file__, resolution, memory]
                figures[memory] = float(subprocess.check_output(command))
            print(
                f"{resolution:>4} px: {figures['returned']:5.1f} img/s; memory kept: "
                f"{figures['kept']:5.1f} img/s, {figures['kept'] / figures['returned']:.2f} times"
            )
