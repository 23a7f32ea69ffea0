"""How many faces a search finds, how close, and what that costs; and what each ingredient gives.

    python benchmarks/search.py --data ../shared --faces 20

Takes 16x16 versions of held-out AI-made faces (the last rows of faces/train.csv) and of FFHQ faces
(aligned/), searches four candidates for each with every variant, and prints one table. The error
counts as in the paper: mean squared error on [0, 1] RGB at 16x16.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, cast

import numpy as np
import torch
import typer
from jaxtyping import Float
from PIL import Image
from torch import Tensor

import stylegan
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.imaging.pictures import to_image, to_tensor
from pulse.search import PAPER, SearchConfig, State
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Noise
from stylegan.dataset import load_pictures
from stylegan.evaluate import FaceMeter
from stylegan.memory import keep_freed_memory

LR_SIZE = 16
DEFAULT = SearchConfig()
VARIANTS = {
    "paper": PAPER,
    "default": DEFAULT,
    "- L-BFGS": replace(DEFAULT, optimiser="adam", coarse=False),
    "- draws": replace(DEFAULT, draws=1),
    "- GEOCROSS/25": replace(DEFAULT, geocross=PAPER.geocross),
    "- precondition": replace(DEFAULT, precondition=False),
    "- whiten": replace(DEFAULT, whiten=False),
    "- guide": replace(DEFAULT, guide=False),
    "- stopping": replace(DEFAULT, stop=False),
    "- coarse": replace(DEFAULT, coarse=False),
    "- exact": replace(DEFAULT, exact=False),
    "goal 0.3": replace(DEFAULT, goal=0.3),
    "goal 0.09": replace(DEFAULT, goal=0.09),
    "60 s": replace(DEFAULT, time_limit=60.0),
}
"""`default` with one ingredient left out, and changed in other ways."""


class Counting:
    """A generator that counts the pictures that it draws."""

    def __init__(self, inner: stylegan.Generator) -> None:
        self._inner = inner
        self.drawn = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def synthesis(self, ws: Tensor, noise: Noise = None) -> Tensor:
        self.drawn += len(ws)
        return self._inner.synthesis(ws, noise)


def count_passes(upscaler: Upscaler) -> tuple[Upscaler, Counting]:
    """The same, and where its generator counts."""
    counting = Counting(upscaler.generator)
    generator = cast(stylegan.Generator, counting)
    return Upscaler(generator, upscaler.name, upscaler.sha256, upscaler.prior), counting


@dataclass(frozen=True)
class Row:
    """One variant on one set of faces; errors in thousandths.

    Attributes:
        faces: share of faces with a candidate within the tolerance.
        candidates, close: share of candidates within it, and within a tenth of it.
        found: median error of the candidates that were found.
        exact: largest error, over the faces that were found, of the best candidate at last.
        score, share: mean score of dlib's frontal detector for the candidates, and how many of
            them it takes for faces.
        apart: mean distance of the face descriptors of candidates for one face.
        passes: of the whole generator, forward, for each candidate that was found.
        seconds: for each candidate that was found.
    """

    faces: float
    candidates: float
    close: float
    found: float
    exact: float
    score: float
    share: float
    apart: float
    passes: float
    seconds: float

    HEAD: ClassVar[str] = "faces  cands.  1e-4   found   at last score share apart passes s/found"

    def __str__(self) -> str:
        nothing = np.isnan(self.found)
        found = f"{'-':>7} {'-':>9}" if nothing else f"{self.found:5.2f}e-3 {self.exact:9.1e}"
        cost = f"{'-':>6} {'-':>7}" if nothing else f"{self.passes:6.1f} {self.seconds:7.2f}"
        return (
            f"{self.faces:6.1%} {self.candidates:6.1%} {self.close:5.1%} {found} "
            f"{self.score:5.2f} {self.share:5.3f} {self.apart:5.2f} {cost}"
        )


def targets(data: Path, count: int, ffhq_count: int) -> dict[str, list[Float[Tensor, "3 l l"]]]:
    """Small versions of held-out faces: AI-made ones, evenly spread, and the first of FFHQ."""
    _, held_out = load_pictures(data / "faces", 256, 300)
    down = Bicubic(256, LR_SIZE)
    chosen = torch.linspace(0, len(held_out) - 1, count).round().long()
    made = [down(held_out.pixels[i] / 255).clamp(0, 1) for i in chosen]
    ffhq: list[Tensor] = []
    for path in sorted((data / "aligned").glob("*.jpg"))[:ffhq_count]:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((LR_SIZE, LR_SIZE), Image.Resampling.BICUBIC)
        ffhq.append(to_tensor(small))
    return {"AI-made": made, "FFHQ": ffhq}


def measure(
    upscaler: Upscaler,
    faces: list[Tensor],
    config: SearchConfig,
    candidates: int,
    meter: FaceMeter,
    batch: int | None,
) -> tuple[Row, list[Tensor]]:
    """Search for all faces; the table's row and, for a look, all pictures."""
    counted, counting = count_passes(upscaler)
    how = UpscaleConfig(candidates, search=config)
    states: list[State] = []
    start = time.perf_counter()
    for face in faces:
        *_, state = counted.search(LRFace(0, face), how, batch)
        states.append(state)
    seconds = time.perf_counter() - start

    error = torch.stack([state.best for state in states])
    within = error <= config.tolerance
    last = [
        error if state.exact is None else state.exact
        for state, error in zip(states, error, strict=True)
    ]
    scores: list[float] = []
    apart: list[float] = []
    for state in states:
        pictures = (state.images * 255).round().to(torch.uint8)
        descriptors, some = meter.measure_all(pictures)
        scores += some.tolist()
        distances = np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2)
        apart.append(float(distances[np.triu_indices(len(distances), 1)].mean()))
    count = int(within.sum()) or float("nan")
    row = Row(
        within.any(1).float().mean().item(),
        within.float().mean().item(),
        (error <= config.tolerance / 10).float().mean().item(),
        error[within].median().item() * 1e3 if within.any() else float("nan"),
        max(
            (
                one.nan_to_num(1).min().item()
                for one, yes in zip(last, within.any(1), strict=True)
                if yes
            ),
            default=float("nan"),
        ),
        float(np.mean(scores)),
        float((np.array(scores) > 0).mean()),
        float(np.mean(apart)),
        counting.drawn / count,
        seconds / count,
    )
    return row, [state.images for state in states]


def main(
    data: Annotated[Path, typer.Option(help="Folder with faces/ and aligned/.")],
    generator: Annotated[str, typer.Option(help="Name or file.")] = stylegan.EMBEDDED,
    faces: Annotated[int, typer.Option(help="How many AI-made faces, of 300.")] = 300,
    ffhq: Annotated[int, typer.Option(help="How many FFHQ faces, of 10.")] = 10,
    candidates: int = 4,
    steps: int = 100,
    batch: Annotated[
        int | None,
        typer.Option(help="Candidates drawn at once, as `pulse.search.search` has it."),
    ] = None,
    variants: Annotated[str, typer.Option(help="Which, with commas.")] = "paper,default",
    sheets: Annotated[Path | None, typer.Option(help="Folder for sheets of all faces.")] = None,
) -> None:
    """Print the table."""
    keep_freed_memory()
    upscaler = Upscaler.load(generator)
    meter = FaceMeter()
    chosen = list(VARIANTS) if variants == "all" else variants.split(",")
    print(f"set      variant        number {Row.HEAD}")
    for name, small in targets(data, faces, ffhq).items():
        for variant in chosen if small else []:
            config = replace(VARIANTS[variant], steps=steps)
            row, images = measure(upscaler, small, config, candidates, meter, batch)
            print(f"{name:8} {variant:14} {len(small):6} {row}", flush=True)
            if sheets is not None:
                sheets.mkdir(parents=True, exist_ok=True)
                sheet(small, images).save(sheets / f"{name}-{variant}.png")


def sheet(small: list[Tensor], images: list[Tensor]) -> Image.Image:
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
