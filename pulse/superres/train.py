"""Train a network that upscales: on what is there in pixels or features, then as a GAN."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.metrics import psnr_y
from pulse.imaging.pictures import as_saved
from pulse.superres.networks import FRVSR
from pulse.superres.networks.parts import bicubic
from pulse.superres.pairs import Pairs, Source
from pulse.superres.recurrent import unrolled
from pulse.superres.training import Training
from pulse.superres.training_config import TrainConfig, TrainingProgress
from pulse.superres.weights import AnyNetwork, save
from stylegan.marks import COMPOSITE
from stylegan.memory import keep_freed_memory
from stylegan.sheet import save_sheet

NETWORK, BEFORE_GAN, STATE, LOG = (
    "network.safetensors", "before-gan.safetensors", "state.pt", "log.jsonl",
)  # fmt: skip
SAVE_SECONDS = 180.0
SHEET_ROWS, SHEET_SIDE = 6, 192


def train(
    config: TrainConfig,
    pairs: Pairs,
    folder: Path,
    device: torch.device | str = "cpu",
    start: AnyNetwork | None = None,
    every: float = SAVE_SECONDS,
) -> Iterator[TrainingProgress]:
    """Train to the end; to stop is to stop iterating, and the same call goes on from there.

    In the folder stand the state, the averaged network (float16), the one from before the
    discriminator came, a log with a line for each measurement, and sheets with LR, bicubic
    interpolation, the network's result and HR side by side.

    Args:
        start: a network of the same sizes to begin with; where there is a state it is not used.
        every: seconds between measurements; each is followed by a checkpoint.

    Raises:
        DivergedError: training has to be repeated with a lower rate; what was saved is sound.
        NetworkError: the state in the folder is of another training.
        OSError: the folder cannot be written.
    """
    yield from advanced(Training(config, device, start), pairs, folder, every)


def advanced(
    training: Training, pairs: Source, folder: Path, every: float = SAVE_SECONDS
) -> Iterator[TrainingProgress]:
    """The same for any training, on what it is made for."""
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / STATE).exists():
        training.restore(folder / STATE)
    if training.done >= 1:  # Nothing is left to do but to tell how it went.
        yield replace(training.progress(0.0), **_figures(measure(training.average, pairs)))
        return
    last, unsaved = time.monotonic(), False
    try:
        while training.done < 1:
            progress, unsaved = training.advance(pairs), True
            if training.stage_is_over or time.monotonic() - last > every:
                progress = _kept(training, pairs, folder, progress)
                last, unsaved = time.monotonic(), False
            yield progress
    except GeneratorExit:  # Between two steps, so the state is that of the last one.
        if unsaved:
            _save(training, pairs, folder, {})
        raise


def _kept(
    training: Training, pairs: Source, folder: Path, progress: TrainingProgress
) -> TrainingProgress:
    """Measure, write everything, and if a stage is over, begin the next."""
    begin = time.monotonic()
    measured = measure(training.average, pairs)
    figures = _figures(measured)
    save_sheet(
        measured.sheet, folder / f"sheet-{training.step:07d}.png", columns=4, source=COMPOSITE
    )
    following = training.next_stage
    if training.stage_is_over and following is not None:
        if following == "gan":
            save(training.average, folder / BEFORE_GAN, _notes(training, pairs, figures))
        training.begin(following)
    training.seconds += time.monotonic() - begin
    _save(training, pairs, folder, figures)
    progress = replace(progress, **figures)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(progress)) + "\n")
    return progress


def _save(training: Training, pairs: Source, folder: Path, figures: dict[str, float]) -> None:
    training.save(folder / STATE)
    save(training.average, folder / NETWORK, _notes(training, pairs, figures))


def _notes(training: Training, pairs: Source, figures: dict[str, float]) -> dict[str, str]:
    """What a network's file says of how it came about."""
    config = asdict(training.config)
    del config["network"]  # The file has it already.
    return {
        "degradation": str(pairs.degradation),
        "training": json.dumps(config, default=str),
        "steps": str(training.step),
        **{name: f"{value:.3f}" for name, value in figures.items()},
    }


class Measured(NamedTuple):
    """Mean PSNR of the luma in dB, of a network and of bicubic interpolation; some pictures.

    Attributes:
        sheet: in [-1, 1]; of each picture LR, bicubic, the network's and HR.
    """

    psnr_y: float
    bicubic: float
    sheet: Float[Tensor, "n 3 s s"]


@torch.no_grad()
def measure(network: AnyNetwork, pairs: Source) -> Measured:
    """How well a network does on the pictures that were held out."""
    scale, device = network.scale, next(network.parameters()).device
    ours, simple, rows = [], [], []
    for pair in pairs.held_out():
        sr = _drawn(network, pair.lr.to(device)).cpu()
        lr, hr = (x.flatten(0, -4) for x in pair)
        sr, large = as_saved(sr), as_saved(bicubic(lr, scale))
        ours.append(psnr_y(sr, hr, scale))
        simple.append(psnr_y(large, hr, scale))
        if len(rows) < SHEET_ROWS:  # Of clips the last frame.
            small = F.interpolate(lr[-1:], scale_factor=float(scale))
            rows.append((small, large[-1:], sr[-1:], hr[-1:]))
    side = min([SHEET_SIDE, *(min(x.shape[-2:]) for row in rows for x in row)])
    sheet = torch.cat([_middle(x, side) for row in rows for x in row]) * 2 - 1
    return Measured(float(torch.cat(ours).mean()), float(torch.cat(simple).mean()), sheet)


def _drawn(network: AnyNetwork, lr: Float[Tensor, "b *t 3 h w"]) -> Float[Tensor, "n 3 H W"]:
    return unrolled(network, lr).sr.flatten(0, 1) if isinstance(network, FRVSR) else network(lr)


def _figures(measured: Measured) -> dict[str, float]:
    return {"psnr_y": measured.psnr_y, "bicubic": measured.bicubic}


def _middle(x: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 s s"]:
    top, left = ((n - side) // 2 for n in x.shape[-2:])
    return x[..., top : top + side, left : left + side]
