import math
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

import stylegan
from pulse.evaluation.faces import sampled_faces
from pulse.evaluation.judge import Judge, feature_distance
from pulse.imaging.degrade import Bicubic
from stylegan.imagenet import load_efficientnet


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def faces() -> UInt8[Tensor, "n 3 128 128"]:
    generator = stylegan.load(stylegan.locate("faces"))
    return torch.stack([face.pixels for face in sampled_faces(generator, 3)])


def test_the_original_itself(judge: Judge, faces: Tensor) -> None:
    judged = judge.judge(faces[:1], faces[0], 16)
    (figures,) = judged.figures
    assert figures.consistency < (1 / 255) ** 2 / 10  # The input has 8 bits.
    assert math.isinf(figures.psnr)
    assert figures.ssim == pytest.approx(1)
    assert figures.haarpsi == pytest.approx(1)
    assert figures.features == figures.identity == figures.colour == 0
    assert 5 < figures.niqe < 15
    assert figures.detector > 1
    assert math.isnan(judged.diversity)
    assert judged.pooled.shape == (1280,)


def test_others_are_further_away_the_worse_they_are(judge: Judge, faces: Tensor) -> None:
    truth = faces[:1].float()
    half = F.interpolate(truth, (64, 64), mode="bicubic", antialias=True)
    tiny = F.interpolate(truth, (16, 16), mode="bicubic", antialias=True)
    enlarged = [F.interpolate(x, (128, 128), mode="bicubic") for x in (half, tiny)]
    pictures = torch.cat((*enlarged, faces[1:2].float())).clamp(0, 255).round().to(torch.uint8)
    judged = judge.judge(pictures, faces[0], 16)
    slight, strong, other = judged.figures
    for key in ("psnr", "ssim", "haarpsi"):
        assert getattr(slight, key) > getattr(strong, key) > getattr(other, key)
    for key in ("features", "identity", "colour"):
        assert getattr(slight, key) < getattr(other, key)
    assert slight.features < strong.features
    assert slight.niqe < strong.niqe
    assert slight.detector > strong.detector
    assert slight.consistency < strong.consistency < other.consistency
    assert other.identity > 0.3
    # By hand for the one that is off.
    low = (Bicubic(128, 16)(truth[0] / 255) * 255).round() / 255
    error = (Bicubic(128, 16)(pictures[1].float() / 255) - low).square().mean()
    assert strong.consistency == pytest.approx(float(error), rel=1e-3)
    assert judged.diversity > 0.2


def test_colour_is_that_of_the_middle(judge: Judge, faces: Tensor) -> None:
    pictures = faces[:1].clamp(20, 220).repeat(2, 1, 1, 1)
    truth = pictures[0].clone()
    pictures[0, :, 32:96, 32:96] += 10
    pictures[1, :, :32] += 10
    middle, edge = judge.judge(pictures, truth, 16).figures
    assert middle.colour == pytest.approx(10 / 255, rel=1e-4)
    assert edge.colour == 0


def test_larger_pictures_are_compared_at_the_size_of_the_original(
    judge: Judge, faces: Tensor
) -> None:
    large = F.interpolate(faces[:1].float(), (512, 512), mode="bicubic").clamp(0, 255)
    (figures,) = judge.judge(large.round().to(torch.uint8), faces[0], 16).figures
    assert figures.psnr > 35
    assert figures.consistency < 2e-5
    assert set(asdict(figures)) > {"niqe", "detector"}


def test_features_know_nothing_of_brightness_of_features_alone() -> None:
    network = load_efficientnet()
    x = torch.rand(2, 3, 64, 64)
    distance = feature_distance(network, x, x[:1])
    assert distance[0] == 0
    assert 0 < distance[1] <= 4 * 3  # Unit vectors are at most 2 apart, at each of three levels.
