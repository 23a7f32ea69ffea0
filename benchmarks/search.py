"""How many faces a search finds, how close, and how long it takes.

    python benchmarks/search.py --data ../shared

Takes 16x16 versions of held-out AI-made faces (the last rows of faces/train.csv) and of FFHQ faces
(aligned/), searches four candidates for each with every preset, and prints one table. The error
counts as in the paper: mean squared error on [0, 1] RGB at 16x16.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import stylegan
from pulse.degrade import Bicubic
from pulse.images import to_image, to_tensor
from pulse.latent import LatentPrior
from pulse.search import PRESETS, SearchConfig, State, search
from stylegan.dataset import load_pictures
from stylegan.evaluate import FaceMeter
from stylegan.memory import keep_freed_memory

LR_SIZE = 16


@dataclass(frozen=True)
class Row:
    """One preset on one set of faces; errors in thousandths.

    Attributes:
        faces: share of faces with a candidate within the tolerance.
        candidates: share of candidates within it.
        found: median error of those.
        best: median over faces of the best candidate's error.
        score, share: mean score of dlib's frontal detector for the candidates, and how many of
            them it takes for faces.
        apart: mean distance of the face descriptors of candidates for one face.
    """

    faces: float
    candidates: float
    found: float
    best: float
    score: float
    share: float
    apart: float
    steps: float
    seconds: float


def targets(data: Path, count: int) -> dict[str, list[Float[Tensor, "3 l l"]]]:
    """Small versions of held-out faces, `count` of the AI-made ones evenly spread."""
    _, held_out = load_pictures(data / "faces", 256, 300)
    down = Bicubic(256, LR_SIZE)
    chosen = torch.linspace(0, len(held_out) - 1, count).round().long()
    made = [down(held_out.pixels[i] / 255).clamp(0, 1) for i in chosen]
    ffhq: list[Tensor] = []
    for path in sorted((data / "aligned").glob("*.jpg")):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((LR_SIZE, LR_SIZE), Image.Resampling.BICUBIC)
        ffhq.append(to_tensor(small))
    return {"AI-made": made, "FFHQ": ffhq}


def measure(
    generator: stylegan.Generator,
    prior: LatentPrior,
    faces: list[Tensor],
    config: SearchConfig,
    candidates: int,
    meter: FaceMeter,
    batch: int | None,
) -> tuple[Row, list[Tensor]]:
    """Search for all faces; the table's row and, for a look, all pictures."""
    degrade = Bicubic(generator.resolution, LR_SIZE)
    states: list[State] = []
    start = time.perf_counter()
    for face in faces:
        *_, state = search(generator, face, range(candidates), degrade, config, prior, batch)
        states.append(state)
    seconds = time.perf_counter() - start

    error = torch.stack([state.best for state in states])
    within = error <= config.tolerance
    scores: list[float] = []
    apart: list[float] = []
    for state in states:
        pictures = (state.images * 255).round().to(torch.uint8)
        descriptors, some = meter.measure_all(pictures)
        scores += some.tolist()
        distances = np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2)
        apart.append(float(distances[np.triu_indices(len(distances), 1)].mean()))
    row = Row(
        within.any(1).float().mean().item(),
        within.float().mean().item(),
        error[within].median().item() * 1e3 if within.any() else float("nan"),
        error.amin(1).median().item() * 1e3,
        float(np.mean(scores)),
        float((np.array(scores) > 0).mean()),
        float(np.mean(apart)),
        float(np.mean([state.step for state in states])),
        seconds / len(faces),
    )
    return row, [state.images for state in states]


def main(
    data: Annotated[Path, typer.Option(help="Folder with faces/ and aligned/.")],
    generator: Annotated[str, typer.Option(help="Name or file.")] = stylegan.EMBEDDED,
    faces: Annotated[int, typer.Option(help="How many AI-made faces, of 300.")] = 300,
    candidates: int = 4,
    steps: int = 100,
    batch: Annotated[
        int | None, typer.Option(help="Candidates drawn at once, as `pulse.search.search` has it.")
    ] = None,
    presets: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(PRESETS),
    sheets: Annotated[Path | None, typer.Option(help="Folder for sheets of all faces.")] = None,
) -> None:
    """Print the table."""
    keep_freed_memory()
    network = stylegan.load(generator)
    prior = LatentPrior.fit(network)
    meter = FaceMeter()
    print("set      preset   number  faces  cands.  found  best    score share apart steps s/face")
    for name, small in targets(data, faces).items():
        for preset in presets.split(","):
            config = replace(PRESETS[preset], steps=steps)
            row, images = measure(network, prior, small, config, candidates, meter, batch)
            found = "-" if math.isnan(row.found) else f"{row.found:5.2f}e-3"
            print(
                f"{name:8} {preset:8} {len(small):6} {row.faces:6.1%} {row.candidates:6.1%} "
                f"{found:>8} {row.best:5.2f}e-3 {row.score:5.2f} {row.share:5.3f} "
                f"{row.apart:5.2f} {row.steps:5.1f} {row.seconds:5.2f}",
                flush=True,
            )
            if sheets is not None:
                sheets.mkdir(parents=True, exist_ok=True)
                _sheet(small, images).save(sheets / f"{name}-{preset}.png")


def _sheet(small: list[Tensor], images: list[Tensor]) -> Image.Image:
    """A line for each face: the input in blocks, then its candidates."""
    side = images[0].shape[-1]
    sheet = Image.new("RGB", (side * (1 + len(images[0])), side * len(small)))
    for row, (low, some) in enumerate(zip(small, images, strict=True)):
        blocks = to_image(low).resize((side, side), Image.Resampling.NEAREST)
        for column, tile in enumerate([blocks, *map(to_image, some)]):
            sheet.paste(tile, (column * side, row * side))
    return sheet


if __name__ == "__main__":
    typer.run(main)
