from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stylegan
from stylegan.dataset import Pictures
from stylegan.evaluate import (
    FaceMeter,
    evaluate,
    features_of,
    frechet_distance,
    kernel_distance,
    samples,
)
from stylegan.imagenet import load_efficientnet


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 3)) * [1.0, 2.0, 3.0]
    y = rng.normal(size=(200_000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0.0, 0.0]
    # Diagonal covariances: |mean difference|^2 + sum of (deviation difference)^2.
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 0 + 4, rel=0.02)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_kernel_distance_is_the_unbiased_estimate() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)), rng.normal(size=(7, 4)) + 1

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / 4 + 1) ** 3

    expected = (
        np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        + np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
        - 2 * np.mean([kernel(a, b) for a in x for b in y])
    )
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)
    big = rng.normal(size=(2000, 4))
    assert abs(kernel_distance(big[:1000], big[1000:])) < 0.02 < kernel_distance(x, y)


def test_distances_are_told_for_natural_pictures_apart() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    own = torch.stack(list(samples(generator, 20, seed=1)))
    grey = own.float().mean((1, 2, 3), keepdim=True).expand_as(own).to(torch.uint8)
    natural = torch.arange(20) < 10
    faces = Pictures(torch.where(natural[:, None, None, None], own, grey), torch.ones(20), natural)
    result = evaluate(generator, faces, 10)
    assert result.natural is not None
    assert result.other is not None
    assert result.natural.kernel < 0.5 * result.distances.kernel
    assert result.natural.frechet < result.other.frechet
    network = load_efficientnet()
    alone = features_of(own[:1], network)
    np.testing.assert_allclose(features_of(own[:3], network)[:1], alone, atol=1e-4)


def test_samples_are_the_same_every_time() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    first, again = list(samples(generator, 3)), list(samples(generator, 3))
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert first[0].dtype == torch.uint8


def test_samples_are_no_more_burnt_than_those_of_any_seed() -> None:
    """Of seed 0, from which its first weights came, the first 256 have twice the usual contrast."""
    generator = stylegan.load(stylegan.EMBEDDED)

    def burnt(pictures: Iterator[torch.Tensor]) -> float:
        drawn = torch.stack(list(pictures))
        return float(((drawn == 0) | (drawn == 255)).float().mean())

    usual = max(burnt(samples(generator, 32, seed)) for seed in (1, 2, 3))
    assert burnt(samples(generator, 32)) < 2 * usual


def test_the_meter_knows_faces_from_grey_and_people_apart() -> None:
    meter = FaceMeter()
    faces = list(samples(stylegan.load(stylegan.EMBEDDED), 6))
    descriptors, scores = meter.measure_all(torch.stack(faces))
    assert descriptors.shape == (6, 128)
    assert np.median(scores) > 1
    _, score = meter.measure(torch.full((3, 128, 128), 128, dtype=torch.uint8))
    assert score == -1
    apart = np.linalg.norm(descriptors[0] - descriptors[1:], axis=1)
    shifted = faces[0].roll(1, 2)
    same = np.linalg.norm(descriptors[0] - meter.measure(shifted)[0])
    assert same < apart.min()


def test_faces_of_the_data_are_faces(shared: Path) -> None:
    path = next(iter(sorted((shared / "aligned").glob("*.jpg"))))
    image = Image.open(path).resize((128, 128))
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    _, score = FaceMeter().measure(picture)
    assert score > 1
