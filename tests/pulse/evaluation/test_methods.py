import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stylegan
from pulse.cli.evaluate import chosen_methods
from pulse.evaluation.methods import Enlarged, Network, Search, face_networks
from pulse.evaluation.store import Store
from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import Bicubic
from pulse.imaging.pictures import as_saved, to_image, to_tensor
from pulse.search import PAPER
from pulse.superres import PictureConfig, finish, load, upscale, weights
from pulse.superres.networks import CompactConfig, SRResNetConfig
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
    assert torch.equal(as_saved(drawn[0]), to_tensor(expected))


@pytest.mark.parametrize(("lr_size", "size"), [(4, 128), (4, 256), (4, 1024), (30, 512)])
def test_a_network_goes_as_far_as_is_asked(lr_size: int, size: int, tmp_path: Path) -> None:
    """Beyond what `pulse upscale` takes. A new compact network only repeats pixels."""
    path = tmp_path / "x4.safetensors"
    weights.save(weights.build(CompactConfig(4, 1, 8)), path)
    low = torch.full((3, lr_size, lr_size), 0.25)
    low[0, :, lr_size // 2 :] = 0.75
    drawn = Network.of(str(path)).open(lr_size, size)(low)
    assert drawn.shape == (1, 3, size, size)
    quarter = size // 4
    assert (drawn[0, 0, :, :quarter] - 0.25).abs().max() < 0.02
    assert (drawn[0, 0, :, -quarter:] - 0.75).abs().max() < 0.02
    assert (drawn[0, 1:] - 0.25).abs().max() < 0.02
    assert (Bicubic(size, lr_size)(drawn)[0] - low).abs().max() < 0.1


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


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if Real-ESRGAN's package were installed, whose network is not opened here."""
    for ending in ("param", "bin"):
        (tmp_path / f"realesrgan-x4plus.{ending}").touch()
    monkeypatch.setattr(weights, "_realesrgan", lambda: tmp_path)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_realesrgan", lambda: None)


def default_list(tmp_path: Path, size: int, lr_size: int = 16) -> list[str]:
    """What is compared where no methods are named."""
    searches = [Search(name, "faces", "0", UpscaleConfig()) for name in ("paper", "default")]
    return [m.name for m in chosen_methods(None, searches, Store(tmp_path, size, lr_size))]


FACES_X8 = ["srgan-faces-x8", "srresnet-faces-x8", "transform-faces-x8", "unet-faces-x8"]
SEARCHED = ["paper", "default", "default-512"]


@pytest.mark.usefixtures("package")
def test_what_is_compared_with_the_package(tmp_path: Path) -> None:
    assert default_list(tmp_path, 128) == [
        "nearest", "bicubic", *FACES_X8, "realesrgan-x4plus", *SEARCHED
    ]  # fmt: skip
    for size in (512, 1024):
        assert default_list(tmp_path, size) == [
            "nearest", "bicubic", "srresnet-x4", "srgan-x4", "realesrgan-x4plus", "paper", "default"
        ]  # fmt: skip


@pytest.mark.usefixtures("no_package")
def test_what_is_compared_without_the_package(tmp_path: Path) -> None:
    assert default_list(tmp_path, 128) == ["nearest", "bicubic", *FACES_X8, *SEARCHED]
    assert default_list(tmp_path, 128, 32) == ["nearest", "bicubic", "srgan-faces-x4", *SEARCHED]
    for size in (512, 1024):
        assert default_list(tmp_path, size) == [
            "nearest", "bicubic", "srresnet-x4", "srgan-x4", "paper", "default"
        ]  # fmt: skip


def test_all_shipped_networks_of_faces_are_compared() -> None:
    shipped = sorted(file.stem for file in weights.SHIPPED.glob("*-faces-x8.safetensors"))
    assert face_networks(8)[: len(shipped)] == shipped == FACES_X8


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
        (tmp_path / "x.param").write_text("7767517", "utf-8")
        (tmp_path / "x.bin").write_bytes(content)
        found = Network.of(str(tmp_path / "x.param"))
        assert found.sha256 == hashlib.sha256(content).hexdigest()
