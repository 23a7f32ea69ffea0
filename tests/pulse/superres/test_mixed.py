"""The slider between two networks of the same sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.superres import mixed, weights
from pulse.superres.networks import CompactConfig, SRResNetConfig
from pulse.superres.pictures import upscale
from pulse.superres.weights import AnyNetwork, NetworkError
from tests.command import pulse
from tests.networks import shaken

NORMED = SRResNetConfig(2, 1, 8, batch_norm=True, kernel=3)


@pytest.fixture
def both() -> tuple[AnyNetwork, AnyNetwork]:
    """Their norms have seen other pictures, too."""
    pair = shaken(NORMED), shaken(NORMED)
    for network in pair:
        network.train()(torch.rand(2, 3, 8, 8))
        network.eval()
    return pair


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_every_weight_is_the_others(
    both: tuple[AnyNetwork, AnyNetwork], share: float
) -> None:
    before = [{k: x.clone() for k, x in network.state_dict().items()} for network in both]
    made = mixed(*both, share).state_dict()
    for name, x in made.items():
        if x.is_floating_point():
            expected = (1 - share) * before[0][name] + share * before[1][name]
            torch.testing.assert_close(x, expected, rtol=0, atol=1e-7)
    for network, state in zip(both, before, strict=True):
        assert all(torch.equal(x, state[name]) for name, x in network.state_dict().items())


def test_the_ends_draw_what_the_networks_do(both: tuple[AnyNetwork, AnyNetwork]) -> None:
    lr = torch.rand(1, 3, 7, 9)
    for network, share in zip(both, (0.0, 1.0), strict=True):
        assert torch.equal(mixed(*both, share)(lr), network(lr))
    between = mixed(*both, 0.5)(lr)
    assert min(float((between - network(lr)).abs().max()) for network in both) > 1e-3


def test_what_cannot_be_mixed(both: tuple[AnyNetwork, AnyNetwork]) -> None:
    for other in (SRResNetConfig(2, 2, 8, batch_norm=True, kernel=3), CompactConfig(2, 1, 8)):
        with pytest.raises(NetworkError, match="same family and sizes"):
            mixed(both[0], weights.build(other), 0.5)
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(NetworkError, match="give it from 0 to 1"):
            mixed(*both, share)


def test_the_command(both: tuple[AnyNetwork, AnyNetwork], tmp_path: Path) -> None:
    for name, network in zip("ab", both, strict=True):
        weights.save(network, tmp_path / f"{name}.safetensors", dtype=torch.float32)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    photo = Image.fromarray(pixels)
    photo.save(tmp_path / "in.png")
    common = ("upscale", "in.png", "--network", "a.safetensors", "--mix", "b.safetensors")
    done = pulse(
        *common, "--share", "0.25", "--precision", "float32", "-o", "out.png", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        made = np.array(image, int)
        assert image.info["Network"] == "a.safetensors with 0.25 of b.safetensors"
    assert np.abs(made - np.array(upscale(mixed(*both, 0.25), photo), int)).max() <= 1
    assert np.abs(made - np.array(upscale(both[0], photo), int)).max() > 1
    weights.save(weights.build(CompactConfig(2, 1, 8)), tmp_path / "c.safetensors")
    for wrong, words in (
        (("--mix", "c.safetensors"), "same family and sizes"),
        (("--share", "2"), "--share cannot be 2"),
    ):
        done = pulse(*common, *wrong, "-o", "new.png", cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert not (tmp_path / "new.png").exists()
