"""What is measured of one face that a method made, against its original or without."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from pulse.evaluation.faces import lowered
from pulse.imaging.degrade import Bicubic
from pulse.imaging.haarpsi import haarpsi
from pulse.imaging.metrics import psnr_y, ssim_y
from pulse.imaging.niqe import natural, niqe
from pulse.imaging.pictures import InputError
from pulse.search.losses import squared_error
from stylegan.evaluate import FaceMeter, features_of
from stylegan.imagenet import EfficientNetLite0, MissingNetworkError, load_efficientnet

LEVELS = 3
"""Of EfficientNet-Lite0's features, those at strides 4, 8 and 16 are compared."""


@dataclass(frozen=True)
class Figures:
    """Of one candidate; NaN where something cannot be told.

    Attributes:
        consistency: mean squared error, on [0, 1], between the downscaled picture and the input.
        psnr, ssim: of the luma, no border left out; in dB, and at most 1. Equal pictures have an
            infinite `psnr`.
        haarpsi: similarity of edges, at most 1.
        features: distance of EfficientNet-Lite0's features, see `feature_distance`.
        identity: Euclidean distance of dlib's face descriptors; people count as different from 0.6.
        colour: root mean square, over RGB on [0, 1], of the difference between the mean colours of
            the middle halves of the pictures, where the face is.
        niqe: distance from natural photographs, see `pulse.imaging.niqe`.
        detector: what dlib's frontal detector gives it; below 0 it is not taken for a face.
    """

    consistency: float
    psnr: float
    ssim: float
    haarpsi: float
    features: float
    identity: float
    colour: float
    niqe: float
    detector: float


@dataclass(frozen=True)
class Judged:
    """Of one face and method.

    Attributes:
        figures: of each candidate.
        diversity: mean distance of dlib's descriptors between candidates; NaN for a single one.
        pooled: [1280], EfficientNet-Lite0's features of the first candidate, by which methods are
            compared with real faces.
    """

    figures: list[Figures]
    diversity: float
    pooled: Float[np.ndarray, " 1280"]


class Judge:
    """The networks that judge pictures, opened once."""

    def __init__(self) -> None:
        """
        Raises:
            InputError: a package that it needs is not installed.
        """
        natural()
        self._meter = FaceMeter()
        try:
            self._network = load_efficientnet()
        except MissingNetworkError as error:
            raise InputError(
                "The network that judges pictures is not installed: pip install "
                "'pulse-faces[evaluate]'."
            ) from error

    @torch.no_grad()
    def judge(
        self, pictures: UInt8[Tensor, "n 3 p p"], truth: UInt8[Tensor, "3 r r"], lr_size: int
    ) -> Judged:
        """Measure all candidates of a face.

        Pictures larger than the original are downscaled to it where the two are compared, and
        judged as they are where they are not.
        """
        size = truth.shape[-1]
        hr, sr = truth[None].double() / 255, pictures.double() / 255
        error = squared_error(Bicubic(sr.shape[-1], lr_size)(sr), lowered(truth, lr_size).double())
        at_size = F.interpolate(sr, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        sr_faces = [self._meter.measure(picture) for picture in pictures]
        hr_face, _ = self._meter.measure(truth)
        features = feature_distance(self._network, at_size, hr)
        edges = haarpsi(at_size, hr.expand_as(at_size))
        figures = [
            Figures(
                consistency=float(error[index]),
                psnr=float(psnr_y(at_size[index], hr[0], 0)),
                ssim=float(ssim_y(at_size[index], hr[0], 0)),
                haarpsi=float(edges[index]),
                features=float(features[index]),
                identity=float(np.linalg.norm(descriptor - hr_face)),
                colour=float((_colour(at_size[index]) - _colour(hr[0])).square().mean().sqrt()),
                niqe=niqe(sr[index]),
                detector=score,
            )
            for index, (descriptor, score) in enumerate(sr_faces)
        ]
        apart = [np.linalg.norm(a - b) for (a, _), (b, _) in combinations(sr_faces, 2)]
        pooled = features_of(pictures[:1], self._network)[0]
        return Judged(figures, float(np.mean(apart)) if apart else float("nan"), pooled)


def feature_distance(
    network: EfficientNetLite0, x: Float[Tensor, "n 3 r r"], y: Float[Tensor, "1 3 r r"]
) -> Float[Tensor, " n"]:
    """How far features of photographs are apart, place by place; 0 for equal pictures.

    Zhang et al., CVPR 2018, equation 1, with EfficientNet-Lite0 in place of their networks and
    without the weights that they learned from people: features are divided by their length at each
    place, squared differences are summed over channels, averaged over places and added up over
    levels.

    Args:
        x, y: in [0, 1].
    """
    total = torch.zeros(len(x))
    both = (network((z * 2 - 1).float().to(network.device))[:LEVELS] for z in (x, y))
    for a, b in zip(*both, strict=True):
        total += (F.normalize(a) - F.normalize(b)).square().sum(1).mean((1, 2)).cpu()
    return total


def _colour(image: Float[Tensor, "3 r r"]) -> Float[Tensor, " 3"]:
    quarter = image.shape[-1] // 4
    return image[:, quarter:-quarter, quarter:-quarter].mean((1, 2))
