from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stylegan
from stylegan.evaluate import FaceMeter, frechet_distance, samples


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200_000, 3)) * [1.0, 2.0, 3.0]
    y = rng.normal(size=(200_000, 3)) * [2.0, 2.0, 1.0] + [1.0, 0.0, 0.0]
    # Diagonal covariances: |mean difference|^2 + sum of (deviation difference)^2.
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 0 + 4, rel=0.02)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_samples_are_the_same_every_time() -> None:
    generator = stylegan.load(stylegan.EMBEDDED)
    first, again = list(samples(generator, 3)), list(samples(generator, 3))
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert first[0].dtype == torch.uint8


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
