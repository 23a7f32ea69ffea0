"""How real the faces that a search finds look, beside the true ones; and how far they are from
what the generator draws by itself.

    python benchmarks/realism.py --data ../shared --sheets results/realism

Takes 16x16 versions of held-out AI-made faces (the last rows of faces/train.csv) and of FFHQ faces
(aligned/), searches four candidates for each with every variant, and prints one table; how long it
takes and how close it comes is `search.py`'s. Settings may be tuned on faces with an even number
alone: the others, kept apart, have lines of their own, whatever `--faces` is. Run it once for each
generator to compare two; NIQE depends on the resolution.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import typer
from jaxtyping import Bool, Float, UInt8
from search import LR_SIZE, VARIANTS, sheet
from torch import Tensor

import stylegan
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.imaging.niqe import niqe
from pulse.search import SearchConfig, Status
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan.dataset import load_pictures
from stylegan.evaluate import FaceMeter, features_of, kernel_distance
from stylegan.imagenet import load_efficientnet
from stylegan.mapping import SEED
from stylegan.memory import keep_freed_memory

HELD_OUT = 300
SAMPLES = 10_000
WORST = 0.1
"""Share of candidates that counts as the worst, by each figure for itself."""
FLAT = 1e-6
"""Of the largest variance of w: what directions without any are taken to have."""


class OwnLatents:
    """The Gaussian fitted to what the mapping network gives."""

    def __init__(self, generator: stylegan.Generator) -> None:
        w = self._drawn(generator, SAMPLES, SEED)
        self._mean = w.mean(0)
        variances, self._axes = torch.linalg.eigh(w.T.cov())
        self._std = variances.clamp_min(FLAT * variances.max()).sqrt()
        self.usual = self.distance(self._drawn(generator, SAMPLES // 10, 1)[:, None])
        """Of latents drawn anew, which it was not fitted to."""

    def distance(self, ws: Float[Tensor, "n L w_dim"]) -> Float[np.ndarray, "n L"]:
        """Mahalanobis distance of each layer, divided by the root of w_dim: about 1 for its own."""
        away = ((ws.cpu().double() - self._mean) @ self._axes) / self._std
        return away.square().mean(2).sqrt().numpy()

    @staticmethod
    @torch.no_grad()
    def _drawn(generator: stylegan.Generator, count: int, seed: int) -> Float[Tensor, "n w_dim"]:
        z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
        return generator.mapping(z.to(generator.device)).cpu().double()


class Meter:
    """What judges pictures, opened once."""

    def __init__(self) -> None:
        self._faces, self._network = FaceMeter(), load_efficientnet()

    def measure(
        self, pictures: UInt8[Tensor, "n 3 r r"]
    ) -> tuple[Float[np.ndarray, "n 1280"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Features, NIQE (NaN for small pictures) and scores of dlib's frontal detector."""
        _, scores = self._faces.measure_all(pictures)
        values = np.array([niqe(picture / 255) for picture in pictures])
        return features_of(pictures, self._network), values, scores


@dataclass(frozen=True)
class Made:
    """Candidates for one face, or the true one alone.

    Attributes:
        pictures: [n, 3, R, R] bytes.
        found: whether each is within the tolerance.
        features, niqe, scores: see `Meter.measure`.
        away: how far each layer is from the generator's own latents, see `OwnLatents`.
        seconds: for all of them.
    """

    pictures: UInt8[Tensor, "n 3 r r"]
    found: Bool[np.ndarray, " n"]
    features: Float[np.ndarray, "n 1280"]
    niqe: Float[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    away: Float[np.ndarray, "n L"]
    seconds: float


@dataclass(frozen=True)
class Row:
    """One variant on some faces.

    Attributes:
        faces, candidates: share of faces with a candidate within the tolerance, and of candidates.
        kernel: kernel distance x 1000 of the candidates to the true faces of both halves; that of
            the true ones to those of the other half.
        niqe, score, away: mean and mean of the worst tenth; for the true faces, the last is that
            of latents that the generator draws.
        seconds: for each candidate that was found.
    """

    faces: float
    candidates: float
    kernel: float
    niqe: tuple[float, float]
    score: tuple[float, float]
    away: tuple[float, float]
    seconds: float

    HEAD: ClassVar[str] = (
        " faces  cands.  kernel   NIQE (worst)  score (worst)   away (worst) s/found"
    )

    @classmethod
    def of(cls, made: list[Made], others: Float[np.ndarray, "n 1280"]) -> Row:
        """
        Args:
            others: features of the faces that the kernel distance is told to.
        """
        found = np.concatenate([one.found for one in made])
        features = np.concatenate([one.features for one in made])
        seconds = sum(one.seconds for one in made)
        return cls(
            float(np.mean([one.found.any() for one in made])),
            float(found.mean()),
            kernel_distance(features, others) * 1000
            if min(len(features), len(others)) > 1
            else math.nan,
            _mean_and_worst(np.concatenate([one.niqe for one in made])),
            _mean_and_worst(np.concatenate([one.scores for one in made]), largest=False),
            _mean_and_worst(np.concatenate([one.away.mean(1) for one in made])),
            seconds / found.sum() if found.any() else math.nan,
        )

    def __str__(self) -> str:
        pairs = " ".join(f"{a:6.2f} ({b:5.2f})" for a, b in (self.niqe, self.score, self.away))
        cost = f"{self.seconds:7.2f}" if self.seconds > 0 else f"{'-':>7}"
        return f"{self.faces:6.1%} {self.candidates:6.1%} {self.kernel:7.1f} {pairs} {cost}"


def _mean_and_worst(values: Float[np.ndarray, " n"], largest: bool = True) -> tuple[float, float]:
    """Of values that can be told; the worst tenth are at least one."""
    values = np.sort(values[~np.isnan(values)])
    if len(values) == 0:
        return math.nan, math.nan
    count = math.ceil(WORST * len(values))
    return float(values.mean()), float((values[-count:] if largest else values[:count]).mean())


def chosen(total: int, count: int) -> list[int]:
    """Numbers of faces, evenly spread, as many even ones as odd ones (or one more)."""
    pairs = torch.linspace(0, total // 2 - 1, (count + 1) // 2).round().long().tolist()
    return [2 * pair + odd for pair in dict.fromkeys(pairs) for odd in (0, 1)][:count]


def search_for(
    upscaler: Upscaler,
    truth: UInt8[Tensor, "3 r r"],
    config: UpscaleConfig,
    meter: Meter,
    own: OwnLatents,
) -> Made:
    """Candidates for what a true face looks like when it is small."""
    face = LRFace(0, Bicubic(truth.shape[-1], LR_SIZE)(truth / 255).clamp(0, 1))
    upscaler.prepare(face, config.search)  # Worked out once for a generator, which does not count.
    start = time.perf_counter()
    *_, state = upscaler.search(face, config)
    seconds = time.perf_counter() - start
    pictures = (state.images * 255).round().to(torch.uint8).cpu()
    found = np.array([status is Status.FOUND for status in state.status])
    return Made(pictures, found, *meter.measure(pictures), own.distance(state.ws), seconds)


def main(
    data: Annotated[Path, typer.Option(help="Folder with faces/ and aligned/.")],
    generator: Annotated[str, typer.Option(help="Name or file.")] = stylegan.EMBEDDED,
    faces: Annotated[int, typer.Option(help="How many of each set, as far as there are.")] = 20,
    candidates: int = 4,
    steps: int = SearchConfig.steps,
    variants: Annotated[str, typer.Option(help="Of search.py, with commas.")] = "paper,default",
    sheets: Annotated[Path, typer.Option(help="Folder for sheets.")] = Path("results/realism"),
) -> None:
    """Print the table and write a sheet for each set and variant."""
    keep_freed_memory()
    upscaler = Upscaler.load(generator)
    meter, own = Meter(), OwnLatents(upscaler.generator)
    side = upscaler.generator.resolution
    sheets.mkdir(parents=True, exist_ok=True)
    print(f"set      faces      variant        number {Row.HEAD}")
    sets = (
        ("AI-made", load_pictures(data / "faces", side, HELD_OUT)[1].pixels),
        ("FFHQ", load_pictures(data / "aligned", side)[0].pixels),
    )
    for name, pictures in sets:
        numbers = chosen(len(pictures), min(faces, len(pictures)))
        truths = pictures[numbers]
        features, values, scores = meter.measure(truths)
        made: dict[str, list[Made]] = {"truth": []}
        for i in range(len(truths)):
            one, yes = slice(i, i + 1), np.array([True])
            judged = features[one], values[one], scores[one]
            made["truth"].append(Made(truths[one], yes, *judged, own.usual, math.nan))
        for variant in variants.split(","):
            config = UpscaleConfig(candidates, search=replace(VARIANTS[variant], steps=steps))
            some = [search_for(upscaler, truth, config, meter, own) for truth in truths]
            made[variant] = some
            rows = [torch.cat([truth[None], one.pictures]) / 255 for truth, one in
                    zip(truths, some, strict=True)]  # fmt: skip
            low = Bicubic(side, LR_SIZE)(truths / 255).clamp(0, 1)
            sheet(list(low), rows).save(sheets / f"{name}-{variant}.png")
        for odd, half in enumerate(("tuned on", "kept apart")):
            mine = [i for i, number in enumerate(numbers) if number % 2 == odd]
            rest = [i for i, number in enumerate(numbers) if number % 2 != odd]
            for variant, some in made.items():
                against = features[rest] if variant == "truth" else features
                row = Row.of([some[i] for i in mine], against)
                print(f"{name:8} {half:10} {variant:14} {len(mine):6} {row}", flush=True)
        for variant, some in made.items():
            layers = np.concatenate([one.away for one in some]).mean(0)
            print(f"{name:8} away by layer: {variant:14} {' '.join(f'{x:.2f}' for x in layers)}")


if __name__ == "__main__":
    typer.run(main)
