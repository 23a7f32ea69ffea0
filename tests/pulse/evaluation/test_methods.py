import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stylegan
from pulse.evaluation.methods import Enlarged, Finished, Network, Search
from pulse.imaging.degrade import Bicubic
from pulse.imaging.pictures import to_image, to_tensor
from pulse.search import PAPER
from pulse.superres import PictureConfig, load, upscale, weights
from pulse.superres.networks import SRResNetConfig
from pulse.upscale import UpscaleConfig


@pytest.fixture
def network(tmp_path: Path) -> Network:
    path = tmp_path / "x2.safetensors"
    weights.save(weights.build(SRResNetConfig(2, 1, 8, kernel=3)), path)
    return Network.of(str(path))


def test_interpolation() -> None:
    low = torch.rand(3, 8, 8)
    blocks = Enlarged("nearest").open(8, 32)(low)
    assert torch.equal(blocks[0], low.repeat_interleave(4, 1).repeat_interleave(4, 2))
    smooth = Enlarged("bicubic").open(8, 32)(low)
    assert smooth.shape == (1, 3, 32, 32)
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    assert (Bicubic(32, 8)(smooth)[0] - low).abs().mean() < 0.1


def test_a_network_is_run_until_it_is_enough(network: Network) -> None:
    low = to_tensor(to_image(torch.rand(3, 8, 8)))
    drawn = network.open(8, 32)(low)
    expected = upscale(load(network.name), to_image(low), PictureConfig(4))
    assert torch.equal(drawn[0], to_tensor(expected))


def test_finished_faces_are_the_base_method_enlarged(network: Network) -> None:
    low = torch.rand(3, 8, 8)
    method = Finished(Enlarged("bicubic"), network, 64)
    assert method.name == "bicubic-64"
    drawn = method.open(8, 32)(low)
    base = to_image(Enlarged("bicubic").open(8, 32)(low)[0])
    assert torch.equal(drawn[0], to_tensor(upscale(load(network.name), base, PictureConfig(2))))


def test_a_search_gives_all_its_candidates(tiny_file: Path) -> None:
    config = UpscaleConfig(3, search=replace(PAPER, steps=3))
    method = Search("paper", str(tiny_file), stylegan.identity(tiny_file), config, "cpu")
    low = torch.rand(3, 8, 8)
    drawn = method.open(8, 32)(low)
    assert drawn.shape == (3, 3, 32, 32)
    assert torch.equal(drawn, method.open(8, 32)(low))
    assert not torch.equal(drawn[0], drawn[1])


def test_what_a_method_is_survives_the_way_to_another_process(
    network: Network, tiny_file: Path
) -> None:
    """By its `repr` it is known whether pictures are still those that it would make."""
    search = Search("default", str(tiny_file), "0", UpscaleConfig(2))
    for method in (Enlarged("nearest"), network, search, Finished(search, network, 64)):
        assert repr(pickle.loads(pickle.dumps(method))) == repr(method)
    assert repr(search) != repr(replace(search, config=UpscaleConfig(3)))
    assert repr(search) != repr(replace(search, sha256="1"))
