import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stylegan
from pulse.cli.evaluate import chosen_methods
from pulse.evaluation.methods import Enlarged, Network, Search
from pulse.evaluation.store import Store
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.imaging.pictures import to_image, to_tensor
from pulse.search import PAPER
from pulse.superres import PictureConfig, finish, load, upscale, weights
from pulse.superres.networks import SRResNetConfig
from pulse.upscale import UpscaleConfig, Upscaler


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


def test_finished_faces_are_those_of_run(
    network: Network, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(network.name, tmp_path / "srgan-faces-x4.safetensors")
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    monkeypatch.setattr(finish, "FINISHERS", ("srgan-faces-x4",))
    config = UpscaleConfig(2, search=replace(PAPER, steps=3, tolerance=1.0))
    search = Search("default", str(tiny_file), stylegan.identity(tiny_file), config, "cpu")
    store = Store(tmp_path / "out", 32, 8)
    *others, finished = chosen_methods(None, [search], store)
    assert [method.name for method in others][-1] == "default"
    assert isinstance(finished, Search)
    assert finished.name == "default-512"
    assert repr(finished) != repr(replace(finished, sha256=search.sha256))
    low = torch.rand(3, 8, 8)
    drawn = finished.open(8, 32)(low)
    assert drawn.shape == (2, 3, 512, 512)
    *_, last = Upscaler.load(str(tiny_file), "cpu").search(LRFace(0, low), finished.config)
    assert torch.equal(drawn, last.images)
    assert chosen_methods(["default-512"], [search], store) == (finished,)


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
    for method in (Enlarged("nearest"), network, search):
        assert repr(pickle.loads(pickle.dumps(method))) == repr(method)
    assert repr(search) != repr(replace(search, config=UpscaleConfig(3)))
    assert repr(search) != repr(replace(search, sha256="1"))


def test_a_network_of_two_files_is_known_by_its_weights(tmp_path: Path) -> None:
    for content in (b"one", b"other"):
        (tmp_path / "x.param").write_text("7767517")
        (tmp_path / "x.bin").write_bytes(content)
        found = Network.of(str(tmp_path / "x.param"))
        assert found.sha256 == hashlib.sha256(content).hexdigest()
