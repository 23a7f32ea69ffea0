"""The judge of faces, on whole ones that the embedded generator draws and on broken ones."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import stylegan
from pulse.faces import plausibility
from pulse.faces.plausibility import (
    BROKEN,
    FaceNetwork,
    Judge,
    can_tell,
    in_words,
    is_broken,
    load,
    ranking,
    save,
)
from stylegan.dataset import load_pictures

SHARED = Path(__file__).parents[4] / "shared"


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Near the generator's mean, where it draws whole faces."""
    generator = stylegan.load(stylegan.EMBEDDED)
    z = torch.randn(24, generator.z_dim, generator=torch.Generator().manual_seed(3))
    w = generator.w_mean + 0.5 * (generator.mapping(z) - generator.w_mean)
    return w[:, None].repeat(1, generator.num_layers, 1)


@pytest.fixture(scope="module")
def faces(latents: Tensor) -> Tensor:
    return stylegan.load(stylegan.EMBEDDED).synthesis(latents).clamp(-1, 1).detach()


def quarters(images: Tensor) -> Tensor:
    """The four quarters of each in another order."""
    top, bottom = images.chunk(2, 2)
    (a, b), (c, d) = top.chunk(2, 3), bottom.chunk(2, 3)
    return torch.cat([torch.cat([d, c], 3), torch.cat([a, b], 3)], 2)


def test_it_is_small() -> None:
    assert sum(p.numel() for p in FaceNetwork().parameters()) <= 400_000
    assert plausibility.WEIGHTS.stat().st_size < 1_000_000


def test_one_picture_gets_what_it_gets_among_others(faces: Tensor) -> None:
    together = load().plausibility(faces)
    assert together.shape == (24,)
    assert ((together >= 0) & (together <= 1)).all()
    alone = torch.cat([load().plausibility(face[None]) for face in faces])
    assert (together - alone).abs().max() < 1e-3


def test_a_mirror_image_is_as_plausible(faces: Tensor) -> None:
    judge = load()
    assert (judge.score(faces) - judge.score(faces.flip(3))).abs().max() < 1e-4
    assert (judge.network(faces) - judge.network(faces.flip(3))).abs().max() > 0.1


def test_whole_faces_look_more_like_faces_than_broken_ones(faces: Tensor, latents: Tensor) -> None:
    judge, generator = load(), stylegan.load(stylegan.EMBEDDED)
    rng = torch.Generator().manual_seed(5)
    far = generator.w_mean + 2.2 * (latents.flip(0) - generator.w_mean) / 0.5
    far = far[torch.randint(24, far.shape[:2], generator=rng), torch.arange(far.shape[1])]
    fallen = generator.synthesis(far).clamp(-1, 1)
    whole = judge.plausibility(faces)
    for broken in (quarters(faces), fallen, faces.flip(2)):
        assert (judge.score(faces) > judge.score(broken)).float().mean() > 0.95
        assert judge.plausibility(broken).median() < 0.05 < whole.median()


def test_a_face_cut_in_four_is_none(faces: Tensor) -> None:
    assert load().plausibility(quarters(faces)).max() < 0.05


@pytest.mark.parametrize("side", [32, 64, 512])
def test_size_matters_little(faces: Tensor, side: int) -> None:
    judge = load()
    other = F.interpolate(faces, (side, side), mode="bicubic", antialias=True)
    assert judge.plausibility(other).shape == (24,)
    assert (judge.score(other) > judge.score(quarters(other))).all()
    if side > 128:
        assert (judge.plausibility(other) - judge.plausibility(faces)).abs().median() < 0.1


def test_what_is_not_finite_cannot_be_told(faces: Tensor) -> None:
    some = faces[:3].clone()
    some[1, 0, 0, 0] = torch.inf
    assert load().plausibility(some).isnan().tolist() == [False, True, False]


def test_a_share_is_that_of_the_faces_below() -> None:
    """Of a judge whose real faces score 0 to 100."""
    judge = Judge(FaceNetwork(), torch.arange(101.0))
    scores = torch.tensor([-5.0, 0.0, 25.5, 99.0, 100.0, 300.0])
    judge.score = lambda images: scores  # type: ignore[method-assign]
    share = judge.plausibility(torch.zeros(6, 3, 1, 1))
    assert share.tolist() == pytest.approx([0, 0, 0.255, 0.99, 1, 1])


def test_it_is_read_as_it_was_saved(faces: Tensor, tmp_path: Path) -> None:
    save(load(), tmp_path / "judge.safetensors")
    again = load(tmp_path / "judge.safetensors")
    assert torch.equal(again.score(faces[:4]), load().score(faces[:4]))
    assert torch.equal(again.quantiles, load().quantiles)
    assert (again.quantiles.diff() >= 0).all()


def test_words() -> None:
    assert in_words(None) == ""
    assert not is_broken(None)
    assert in_words(0.43) == "looks like a face: 43%"
    assert in_words(BROKEN) == "looks like a face: 1%"
    assert in_words(0.009) == "looks broken"
    assert can_tell("faces")
    assert can_tell("my-own.safetensors")
    assert not can_tell("stylegan2-afhqdog-512")
    assert not can_tell("stylegan2-ffhqu-256")


def test_what_matches_stands_first_and_the_most_plausible_before_the_others() -> None:
    found = [False, True, True, False, True]
    errors = [0.003, 1e-4, 9e-4, 0.002, 5e-4]
    shares = [0.9, 0.0, 0.5, 0.1, 0.7]
    assert ranking(found, shares, errors) == [4, 2, 1, 3, 0]
    # Where it cannot be told it is the error that counts, and an overflow is last.
    assert ranking(found, [None] * 5, errors) == [1, 4, 2, 3, 0]
    assert ranking([False] * 2, [1.0, 0.0], [math.nan, 0.5]) == [1, 0]


@pytest.mark.skipif(not (SHARED / "aligned").is_dir(), reason="needs ../shared/aligned")
def test_true_faces_look_like_faces() -> None:
    """None of which it was trained on, or calibrated with."""
    images: list[Tensor] = []
    for path in sorted((SHARED / "aligned").glob("*.jpg")):
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
        images.append(F.adaptive_avg_pool2d(pixels, 128))
    true = torch.cat(images)
    judge = load()
    assert (judge.plausibility(true) > 0.05).float().mean() >= 0.7
    assert (judge.plausibility(quarters(true)) < BROKEN).all()


@pytest.mark.skipif(not (SHARED / "faces").is_dir(), reason="needs ../shared/faces")
@pytest.mark.slow
def test_faces_that_were_held_out_are_told_from_cut_ones() -> None:
    _, held_out = load_pictures(SHARED / "faces", 128, 300)
    real = held_out.pixels / 127.5 - 1
    share = load().plausibility(real)
    # It was calibrated with the natural ones of them, changed as photographs differ.
    assert (share >= BROKEN).float().mean() > 0.99
    assert (share > 0.05).float().mean() > 0.97
    assert (load().plausibility(quarters(real)) < 0.05).float().mean() > 0.98
