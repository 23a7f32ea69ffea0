"""Films through FRVSR."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pulse import superres
from pulse.imaging.motion import warp
from pulse.superres.networks import FRVSR, ConfigError, FRVSRConfig
from pulse.superres.networks.frvsr import FlowNetwork, LucasKanade
from pulse.superres.recurrent import changed, unrolled

SMALL = FRVSRConfig(4, 1, 8, flow=(8, 8))
DENSE = FRVSRConfig(2, 1, 8, "dense", 4, (8,))
COMPUTED = FRVSRConfig(4, 1, 8)
"""Its flow is Lucas and Kanade's."""


def shaken(config: FRVSRConfig, amount: float = 0.05) -> FRVSR:
    """A network whose every weight tells, but whose flow is of a pixel or so."""
    network = FRVSR(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(amount * torch.randn_like(parameter))
    if isinstance(network.flow, FlowNetwork):
        network.flow.last.weight.mul_(0.05)
        network.flow.last.bias.mul_(0.05)  # type: ignore[union-attr]
    return network


def film(frames: int, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """[t, 1, 3, h, w]: a picture of blobs that moves."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=rng)
    still = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    flow = torch.tensor([0.5, -0.25])[None, :, None, None].expand(1, 2, height, width)
    return torch.stack([warp(still, n * flow) for n in range(frames)])


@pytest.fixture(params=[SMALL, COMPUTED], ids=["learned", "computed"])
def network(request: pytest.FixtureRequest) -> FRVSR:
    return shaken(request.param)


def run(network: FRVSR, frames: Tensor, tile: int = 1000) -> Tensor:
    return torch.stack(list(superres.recurrent(network, frames, tile)))


@pytest.mark.parametrize("config", [SMALL, DENSE, COMPUTED], ids=str)
def test_frame_by_frame_is_the_whole_clip_at_once(config: FRVSRConfig) -> None:
    network, frames = shaken(config), film(4)
    at_once = unrolled(network, frames.transpose(0, 1)).sr.transpose(0, 1)
    assert torch.allclose(run(network, frames), at_once, atol=1e-5)


def test_what_was_drawn_before_tells(network: FRVSR) -> None:
    frames = film(3)
    alone = network(frames[2])
    assert (run(network, frames)[2] - alone).abs().max() > 1e-3
    assert torch.equal(run(network, frames)[0], network(frames[0]))


def test_films_of_a_batch_do_not_know_each_other(network: FRVSR) -> None:
    first, second = film(3), film(3, seed=1)
    second[2] = 1 - second[2]  # A change of scene in one of them.
    both = run(network, torch.cat((first, second), 1))
    assert torch.allclose(both[:, :1], run(network, first), atol=1e-5)
    assert torch.allclose(both[:, 1:], run(network, second), atol=1e-5)


def test_a_change_of_scene_begins_anew(network: FRVSR) -> None:
    first, second = film(3), film(3, seed=7)
    cut = run(network, torch.cat((first, second)))
    assert torch.allclose(cut[3:], run(network, second), atol=1e-6)


def test_what_changes_a_scene() -> None:
    frames = film(2)
    faint = torch.full_like(frames[0], 0.5)
    for now, wanted in (
        (frames[1], False),
        (0.9 * frames[0], False),
        (film(1, seed=7)[0], True),
        (1 - frames[0], True),
        (torch.zeros_like(frames[0]), True),
    ):
        assert bool(changed(frames[0], now)) == wanted
    assert not changed(faint, faint + 1 / 255)


def test_a_new_size_begins_anew(network: FRVSR) -> None:
    frames = [*film(2), *film(2, 20, 22)]
    drawn = list(superres.recurrent(network, frames))
    assert [tuple(x.shape[-2:]) for x in drawn] == [(96, 128)] * 2 + [(80, 88)] * 2
    assert torch.allclose(drawn[2], network(frames[2]), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (16, 9), (33, 40)])
def test_any_size(network: FRVSR, height: int, width: int) -> None:
    frames = torch.rand(2, 1, 3, height, width)
    assert run(network, frames).shape == (2, 1, 3, 4 * height, 4 * width)


def test_in_tiles_it_is_the_same(network: FRVSR) -> None:
    frames = film(3, 70, 75)
    assert torch.allclose(run(network, frames, 32), run(network, frames), atol=1e-5)


def test_one_frame_is_asked_for_at_a_time_and_no_gradient_is_kept() -> None:
    asked: list[int] = []

    def frames() -> Iterator[Tensor]:
        for number, frame in enumerate(film(3)):
            asked.append(number)
            yield frame

    network = FRVSR(SMALL)
    for number, sr in enumerate(superres.recurrent(network, frames())):
        assert asked[-1] == number
        assert not sr.requires_grad


def test_a_network_that_begins_is_bilinear_upscaling_and_moves_nothing() -> None:
    network, lr = FRVSR(FRVSRConfig(4, 1, 16, flow=(8,))), film(2)
    expected = F.interpolate(lr[0], scale_factor=4.0, mode="bilinear")
    assert (network(lr[0]) - expected).abs().mean() < 0.1
    assert network.flow(lr[0], lr[1]).abs().max() < 0.1


def test_computed_flow_is_where_things_were() -> None:
    frames = film(2, 48, 56)
    flow = LucasKanade()(frames[0], frames[1])[..., 8:-8, 8:-8]
    assert flow.mean((0, 2, 3)).tolist() == pytest.approx([0.5, -0.25], abs=0.05)


def test_flow_is_at_most_24_pixels() -> None:
    network = shaken(SMALL)
    assert isinstance(network.flow, FlowNetwork)
    network.flow.last.weight.mul_(1e6)
    flow = network.flow(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    assert 23 < flow.abs().max() <= 24


@pytest.mark.parametrize("values", [{"scale": 1}, {"flow": (8,) * 6}, {"body": "fluid"}], ids=str)
def test_what_cannot_be(values: dict) -> None:
    with pytest.raises(ConfigError):
        FRVSRConfig(**values)
