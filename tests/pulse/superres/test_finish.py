"""Faces that were found become larger, and still downscale to the input."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import DegradeConfig
from pulse.imaging.pictures import InputError
from pulse.search import PAPER, SearchConfig, Status
from pulse.search.losses import squared_error
from pulse.superres import weights
from pulse.superres.finish import AUTO, FINISHERS, Finisher, chosen, held, wanted_size
from pulse.superres.networks import CompactConfig, SRResNetConfig
from pulse.upscale import UpscaleConfig, Upscaler
from stylegan import Generator


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network that does little more than to upscale twice."""
    network = weights.build(SRResNetConfig(2, 1, 8, kernel=3)).requires_grad_(False)
    for parameter in network.last.parameters():
        parameter.mul_(0.05)
    weights.save(network, tmp_path / "twice.safetensors")
    return tmp_path / "twice.safetensors"


@pytest.fixture
def drawn(tiny: Generator) -> tuple[Upscaler, LRFace]:
    upscaler = Upscaler(tiny, "tiny", "0")
    z = torch.randn(1, tiny.z_dim)
    image = tiny.synthesis(tiny.mapping(z)[:, None].expand(-1, tiny.num_layers, -1))[0]
    low = DegradeConfig().operator(32, 8)((image.clamp(-1, 1) + 1) / 2)
    return upscaler, LRFace(0, low.clamp(0, 1))


@pytest.mark.parametrize(("size", "passes"), [(64, 1), (100, 2), (128, 2), (129, 3)])
def test_passes_and_sizes(file: Path, size: int, passes: int) -> None:
    finisher = Finisher.load(str(file), torch.device("cpu"), torch.float32)
    assert finisher.passes(32, size) == passes
    images = F.interpolate(torch.rand(2, 3, 8, 8), (32, 32), mode="bicubic").clamp(0, 1)
    larger = finisher.enlarge(images, size)
    assert larger.shape == (2, 3, size, size)
    assert larger.min() >= 0
    assert larger.max() <= 1
    torch.testing.assert_close(larger[1:], finisher.enlarge(images[1:], size))
    small = F.interpolate(larger, (32, 32), mode="bicubic", antialias=True)
    assert (small - images).abs().mean() < 0.05


def test_matches_become_larger_and_stay_exact(drawn: tuple[Upscaler, LRFace], file: Path) -> None:
    upscaler, face = drawn
    search = SearchConfig(steps=30, tolerance=0.01, goal=0.3)
    config = UpscaleConfig(2, 0, None, search, size=64, finish=str(file))
    states = list(upscaler.search(face, config))
    before, after = next(s for s in states[::-1] if s.exact is None), states[-1]
    assert before.images.shape[-1] == 32
    # One after the other, so that it can be left between them.
    finished = [s.exact.isfinite().tolist() for s in states if s.exact is not None]
    assert finished[:3] == [[False, False], [True, False], [True, True]]
    assert after.images.shape == (2, 3, 64, 64)
    assert after.status == (Status.FOUND,) * 2
    assert torch.equal(before.best, after.best)
    low = DegradeConfig().operator(64, 8)(after.images)
    torch.testing.assert_close(low, after.low)
    assert after.exact is not None
    torch.testing.assert_close(squared_error(low, face.low), after.exact)
    assert (after.exact < 1e-4).all()
    # Nothing happens twice.
    assert upscaler.finished(face, after, config) is after
    ((tag, many, _),) = upscaler.search_many([(face, config, "it")])
    assert tag == "it"
    torch.testing.assert_close(many.images, after.images, atol=0.02, rtol=0)


def test_a_miss_is_only_interpolated(drawn: tuple[Upscaler, LRFace], file: Path) -> None:
    upscaler, face = drawn
    search = SearchConfig(steps=1, tolerance=1e-9)
    config = UpscaleConfig(1, 0, None, search, finish=str(file))
    *_, before, _, after = upscaler.search(face, config)
    expected = F.interpolate(before.images, (64, 64), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(after.images, expected)
    assert after.exact is not None
    assert math.isnan(after.exact[0])


@pytest.mark.parametrize("degrade", ["jpeg:60", "bicubic"])
def test_without_an_exact_step_the_error_is_told(
    drawn: tuple[Upscaler, LRFace], file: Path, degrade: str
) -> None:
    upscaler, face = drawn
    face = replace(face, degrade=DegradeConfig.parse(degrade))
    search = replace(PAPER, steps=30, tolerance=1.0, exact=degrade != "bicubic")
    config = UpscaleConfig(1, 0, None, search, finish=str(file))
    *_, after = upscaler.search(face, config)
    assert after.images.shape[-1] == 64
    low = face.degrade.operator(64, 8)(after.images)
    assert after.exact is not None
    torch.testing.assert_close(squared_error(low, face.low), after.exact)


def test_what_cannot_be_solved_is_held_to_what_was_found() -> None:
    found = F.interpolate(torch.rand(1, 3, 8, 8), (32, 32), mode="bicubic").clamp(0, 1)
    larger = (F.interpolate(found, (64, 64), mode="bicubic") + 0.05).clamp(0, 1)
    small = DegradeConfig().operator(64, 32)(held(larger, found))
    assert (small - found).abs().max() < 2.5 / 255


def test_auto_takes_the_best_that_is_here(
    monkeypatch: pytest.MonkeyPatch, drawn: tuple[Upscaler, LRFace]
) -> None:
    shipped = sorted(file.stem for file in weights.SHIPPED.glob("*.safetensors"))
    for here, expected in (
        ([*shipped, *weights.REALESRGAN], "realesrgan-x4plus"),
        (shipped, "srgan-faces-x4"),
        (["srresnet-x4", "compact-x4"], "srresnet-x4"),
        (["compact-x4"], None),
    ):
        monkeypatch.setattr(weights, "names", lambda here=here: here)
        assert chosen(AUTO) == expected
        assert chosen("compact-x4") == "compact-x4"
    assert set(FINISHERS[1:]) <= set(shipped)
    upscaler, _ = drawn
    with pytest.raises(InputError, match=r"pip install 'pulse-faces\[realesrgan\]'"):
        upscaler.finisher(UpscaleConfig(size=64))
    monkeypatch.setattr(weights, "names", lambda: shipped)
    finisher = upscaler.finisher(UpscaleConfig(size=64))
    assert finisher is not None
    assert finisher.name == "srgan-faces-x4"
    assert finisher.sha256 == weights.identity("srgan-faces-x4")


def test_from_128_to_1024_are_two_passes() -> None:
    network, seen = weights.build(CompactConfig(4, 1, 4)).eval().requires_grad_(False), []
    network.register_forward_hook(lambda _, given, made: seen.append(given[0].shape[-1]))
    finisher = Finisher(network, "tiny", "0")
    face = F.interpolate(torch.rand(1, 3, 16, 16), (128, 128), mode="bicubic").clamp(0, 1)
    larger = finisher.fitted(face, 1024)
    assert larger.shape == (1, 3, 1024, 1024)
    assert seen == [128, 512]
    small = DegradeConfig().operator(1024, 128)(larger)
    assert (small - face).abs().max() < 1.1 / 255


def test_what_cannot_be(drawn: tuple[Upscaler, LRFace], file: Path) -> None:
    upscaler, _ = drawn
    with pytest.raises(InputError, match="draws 32 pixels"):
        upscaler.finisher(UpscaleConfig(size=32, finish=str(file)))
    with pytest.raises(InputError, match="no network"):
        upscaler.finisher(UpscaleConfig(finish="no-such-network"))
    with pytest.raises(InputError, match="needs a network"):
        UpscaleConfig(size=64, finish="off")
    assert upscaler.finisher(UpscaleConfig(finish="off")) is None
    assert upscaler.finisher(UpscaleConfig()) is None
    assert wanted_size(32, None, 4) == 128
