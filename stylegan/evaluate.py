"""How good a face generator is, measured by networks that come as packages.

Each number stands beside what real data gives: the Frechet distance between face descriptors of
samples and of faces (as FID, Heusel et al. 2017, but on dlib's 128-number descriptors), the kernel
distance between features of the whole pictures (as KID, Binkowski et al. 2018, but on the pooled
features of EfficientNet-Lite0), and what dlib's frontal detector thinks of the samples. The first
sees faces alone, the second hair, clothes and backgrounds as well. Both flatter a generator that
was trained with heads on those features (`stylegan.projected`); the detector does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dlib
import numpy as np
import scipy.linalg
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from stylegan import face_resnet
from stylegan.dataset import Pictures
from stylegan.generator import Generator
from stylegan.imagenet import EfficientNetLite0, load_efficientnet
from stylegan.mapping import SEED

SIDE = 256
FEWEST = 10
"""Faces from which distances are told."""
# Where an FFHQ-framed picture of 256 pixels has the face: left, top, right, bottom.
FACE = dlib.rectangle(62, 82, 194, 214)
MISSED = -1.0
"""Score of a picture in which the detector sees nothing that comes near a face."""


@dataclass(frozen=True)
class Distances:
    """Between samples and one set of faces; smaller is better.

    Attributes:
        frechet, kernel: the Frechet distance of dlib's descriptors and the kernel distance of
            EfficientNet-Lite0's features.
        frechet_floor, kernel_floor: the same between two disjoint halves of the faces, what no
            generator can beat.
    """

    frechet: float
    frechet_floor: float
    kernel: float
    kernel_floor: float


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        count: samples, and faces in each half of the data.
        distances: to faces drawn as in training.
        natural, other: to those from natural and from other sources alone; None where there are
            fewer than ten of them.
        score, score_faces: mean score of the frontal detector for samples and for faces.
        share, share_faces: how many of them it takes for faces.
    """

    count: int
    distances: Distances
    natural: Distances | None
    other: Distances | None
    score: float
    score_faces: float
    share: float
    share_faces: float


class FaceMeter:
    """dlib's frontal detector and face descriptor, for FFHQ-framed pictures."""

    def __init__(self) -> None:
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(
            face_resnet.model_file("shape_predictor_68_face_landmarks.dat")
        )
        self._network = face_resnet.load_face_resnet()

    def measure(self, picture: UInt8[Tensor, "3 r r"]) -> tuple[Float[np.ndarray, " 128"], float]:
        """Descriptor and detection score of one picture, resized to 256 pixels.

        The descriptor takes the face where FFHQ's framing puts it, whether or not it is detected.
        """
        descriptors, scores = self.measure_all(picture[None])
        return descriptors[0], float(scores[0])

    def measure_all(
        self, pictures: UInt8[Tensor, "n 3 r r"]
    ) -> tuple[Float[np.ndarray, "n 128"], Float[np.ndarray, " n"]]:
        """`measure` of each of them."""
        descriptors, scores = [], []
        for part in pictures.split(16):
            chips, found = zip(*map(self._look, part), strict=True)
            images = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float() / 127.5 - 1
            with torch.no_grad():
                descriptors.append(self._network.describe(self._network(images)).numpy())
            scores.extend(found)
        return np.concatenate(descriptors).astype(np.float64), np.array(scores)

    def _look(self, picture: UInt8[Tensor, "3 r r"]) -> tuple[UInt8[np.ndarray, "s s 3"], float]:
        """The face as dlib's network takes it, and the detection score."""
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        pixels = np.array(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        _, scores, _ = self._detector.run(pixels, 0, MISSED)
        face = self._landmarks(pixels, FACE)
        chip = dlib.get_face_chip(pixels, face, size=face_resnet.SIDE, padding=0.25)
        return chip, max(scores, default=MISSED)


def frechet_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of vectors (Dowson and Landau 1982).

    |mean difference|^2 + trace(X + Y - 2 (X Y)^(1/2)) for covariances X and Y.
    """
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(np.asarray(scipy.linalg.sqrtm(cov_x @ cov_y)))
    distance = np.square(x.mean(0) - y.mean(0)).sum()
    return float(distance + np.trace(cov_x) + np.trace(cov_y) - 2 * np.trace(root))


def kernel_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Squared maximum mean discrepancy of two sets of vectors, unbiased (may be below zero).

    With the kernel (<x, y> / d + 1)^3 of Binkowski et al., ICLR 2018, section 3.1.
    """
    dims = x.shape[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / dims + 1) ** 3

    def within(a: np.ndarray) -> float:
        values, count = kernel(a, a), len(a)
        return float(values.sum() - np.trace(values)) / (count * (count - 1))

    return within(x) + within(y) - 2 * float(kernel(x, y).mean())


@torch.no_grad()
def features_of(
    pictures: UInt8[Tensor, "n 3 r r"], network: EfficientNetLite0
) -> Float[np.ndarray, "n 1280"]:
    """EfficientNet-Lite0's pooled features of pictures resized to 224 pixels."""
    features = []
    for part in pictures.split(16):
        images = F.interpolate(
            part.to(network.device).float() / 127.5 - 1, (224, 224), mode="bicubic", antialias=True
        )
        features.append(network.pooled(images).cpu().numpy())
    return np.concatenate(features).astype(np.float64)


@torch.no_grad()
def samples(generator: Generator, count: int, seed: int = SEED) -> Iterator[UInt8[Tensor, "3 r r"]]:
    """Pictures drawn without truncation, with the stored noise."""
    rng = torch.Generator().manual_seed(seed)
    for part in torch.randn(count, generator.z_dim, generator=rng).split(16):
        w = generator.mapping(part.to(generator.device))
        images = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))
        yield from (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu()


def evaluate(generator: Generator, faces: Pictures, count: int = 1000) -> Evaluation:
    """Compare samples with faces drawn as training draws them, `count` and twice as many."""
    rng = torch.Generator().manual_seed(0)
    drawn = faces.draw(2 * count, rng)
    meter, network = FaceMeter(), load_efficientnet(generator.device)
    pictures = torch.stack(list(samples(generator, count)))
    descriptors, scores = meter.measure_all(pictures)
    features = features_of(pictures, network)
    real, real_scores = meter.measure_all(drawn.pixels)
    real_features = features_of(drawn.pixels, network)

    def against(chosen: Bool[np.ndarray, " n"]) -> Distances | None:
        d, f = real[chosen], real_features[chosen]
        if len(d) < FEWEST:
            return None
        half = len(d) // 2
        return Distances(
            frechet_distance(descriptors, d[:count]),
            frechet_distance(d[:half], d[half:]),
            kernel_distance(features, f[:count]),
            kernel_distance(f[:half], f[half:]),
        )

    natural = drawn.natural.numpy()
    everyone = against(np.ones(len(natural), dtype=bool))
    assert everyone is not None
    return Evaluation(
        count,
        everyone,
        against(natural) if natural.any() else None,
        against(~natural) if natural.any() else None,
        float(scores.mean()),
        float(real_scores.mean()),
        float((scores > 0).mean()),
        float((real_scores > 0).mean()),
    )
