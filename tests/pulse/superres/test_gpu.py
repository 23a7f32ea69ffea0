"""On a GPU networks draw what they do on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from pulse import superres
from pulse.imaging.motion import warp
from pulse.superres.finish import Finisher
from pulse.superres.networks import (
    FRVSR,
    CompactConfig,
    FRVSRConfig,
    RRDBNetConfig,
    SRResNetConfig,
)
from pulse.superres.weights import Config
from tests.networks import shaken

pytestmark = pytest.mark.gpu
NEAR = 2e-3
"""Of results on [0, 1]: convolutions on a GPU round factors to 10 bits (TF32)."""


@pytest.mark.parametrize(
    "config",
    [CompactConfig(4, 2, 8), RRDBNetConfig(4, 1, 8, 4), SRResNetConfig(4, 2, 8)],
    ids=str,
)
def test_pictures(config: Config) -> None:
    network, lr = shaken(config), torch.rand(1, 3, 70, 90)
    expected = superres.upscale_tensor(network, lr, 64)
    made = superres.upscale_tensor(network.to("cuda"), lr.to("cuda"), 64)
    assert made.device.type == "cuda"
    torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=NEAR)


@pytest.mark.parametrize("flow", [(), (8, 8)], ids=["computed", "learned"])
def test_films(flow: tuple[int, ...]) -> None:
    network = shaken(FRVSRConfig(4, 1, 8, flow=flow))
    assert isinstance(network, FRVSR)
    if flow:
        network.flow.last.weight.mul_(0.05)  # type: ignore[union-attr, operator]
    still = F.interpolate(torch.rand(1, 3, 8, 8), (40, 48), mode="bicubic").clamp(0, 1)
    moved = torch.tensor([0.5, -0.25])[None, :, None, None].expand(1, 2, 40, 48)
    frames = torch.stack([warp(still, n * moved) for n in range(4)])
    expected = torch.stack(list(superres.recurrent(network, frames)))
    made = list(superres.recurrent(network.to("cuda"), frames.to("cuda")))
    assert {frame.device.type for frame in made} == {"cuda"}
    torch.testing.assert_close(torch.stack(made).cpu(), expected, rtol=0, atol=5 * NEAR)


def test_faces() -> None:
    network = shaken(CompactConfig(4, 2, 8))
    faces = F.interpolate(torch.rand(2, 3, 8, 8), (32, 32), mode="bicubic").clamp(0, 1)
    expected = Finisher(network, "tiny", "0").fitted(faces, 200)
    made = Finisher(network.to("cuda"), "tiny", "0").fitted(faces.to("cuda"), 200)
    assert made.device.type == "cuda"
    torch.testing.assert_close(made.cpu(), expected, rtol=0, atol=2 / 255)
