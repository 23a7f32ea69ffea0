"""Each family against its paper's sizes, and what its layers promise."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from pulse.superres.networks import (
    FRVSR,
    Compact,
    CompactConfig,
    ConfigError,
    FRVSRConfig,
    MSRResNet,
    MSRResNetConfig,
    Network,
    RRDBNet,
    RRDBNetConfig,
    SRResNet,
    SRResNetConfig,
    TransformNet,
    TransformNetConfig,
    UNet,
    UNetConfig,
)
from pulse.superres.networks.frvsr import PAPER_FLOW
from pulse.superres.networks.parts import ToColours, bicubic, conv, icnr_
from pulse.superres.networks.srresnet import ARTICLE, PAPER
from pulse.superres.weights import AnyNetwork, Config, build, lowered
from tests.networks import shaken

SMALL: tuple[Config, ...] = (
    CompactConfig(3, 2, 8),
    CompactConfig(2, 2, 8, inner=4),
    FRVSRConfig(4, 2, 8, flow=(8, 12)),
    FRVSRConfig(3, 1, 8, "dense", 4, (8,)),
    MSRResNetConfig(4, 2, 8),
    RRDBNetConfig(4, 1, 8, 4),
    RRDBNetConfig(2, 1, 8, 4, unshuffle=2),
    SRResNetConfig(4, 2, 8),
    SRResNetConfig(3, 2, 8, batch_norm=True, skip=False, kernel=3),
    SRResNetConfig(8, 2, 8, upsampling="bilinear", activation="leaky", skip=False, tanh=True),
    TransformNetConfig(4, 2, 8),
    UNetConfig(8, (8, 12)),
    UNetConfig(1, (8, 12, 16), skip=False),
)


def parameters(network: AnyNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_sizes_are_those_of_the_papers() -> None:
    # Ledig et al.: about 1.5 million. Convolutions 1,543,... with the norms' and the slopes'.
    first, trunk, up, last = 64 * 3 * 81 + 64, 64 * 64 * 9 + 64, 256 * 64 * 9 + 256, 3 * 64 * 81 + 3
    slopes, norms = 64 * (1 + 16 + 2), 128 * 33
    expected = first + 33 * trunk + 2 * up + last + slopes + norms
    assert parameters(SRResNet(PAPER)) == expected == 1_550_659
    assert parameters(SRResNet(SRResNetConfig())) == expected - norms
    # As their authors count: Wang et al.'s RRDBNet and the networks of Real-ESRGAN.
    assert parameters(RRDBNet(RRDBNetConfig())) == 16_697_987
    assert parameters(RRDBNet(RRDBNetConfig(blocks=6))) == 4_467_779
    assert parameters(Compact(CompactConfig())) == 621_424
    assert parameters(MSRResNet(MSRResNetConfig())) == 1_517_571


def convs(*widths: int, kernel: int = 3) -> int:
    """Weights and biases of convolutions, from each width to the next."""
    return sum(kernel**2 * i * o + o for i, o in pairwise(widths))


def test_sizes_are_the_sums_of_the_layers() -> None:
    # Johnson et al., supplement, table 2: all convolutions but the last have a norm.
    ends = convs(3, 64, kernel=9) + convs(64, 3, kernel=9)
    expected = ends + 4 * convs(64, 64, 64) + 2 * convs(64, 64) + 2 * 64 * (1 + 8 + 2)
    assert parameters(TransformNet(TransformNetConfig())) == expected == 401_859
    # The article's: two convolutions at each level, one more where it is half as deep.
    down = convs(3, 64, 64) + convs(64, 128, 128) + convs(128, 256, 256)
    up = convs(256, 128, 128, 128) + convs(128, 64, 64, 64)
    expected = down + up + convs(64, 3)
    assert parameters(UNet(UNetConfig(4))) == expected == 1_884_995
    # Sajjadi et al., figures 2 and 3, which end in two transposed convolutions and one to colours
    # (5.06 million in all) where ours ends in one to all of a pixel's subpixels.
    down = convs(6, 32, 32) + convs(32, 64, 64) + convs(64, 128, 128)
    up = convs(128, 256, 256, 128, 128) + convs(128, 64, 64) + convs(64, 32, 32, 2)
    body = convs(3 + 48, 128) + 10 * convs(128, 128, 128)
    network = FRVSR(FRVSRConfig(blocks=10, channels=128, flow=PAPER_FLOW))
    assert parameters(network) == down + up + body + convs(128, 48) == 4_820_658
    paper = down + up + body + 2 * convs(128, 128) + convs(128, 3)
    assert round(paper / 1e6, 2) == 5.06


@pytest.mark.parametrize("config", SMALL, ids=str)
def test_every_network_is_called_alike(config: Config) -> None:
    network = build(config)
    assert isinstance(network, Network)
    assert network.config == config
    sr = network(torch.rand(2, 3, 7, 5))
    assert sr.shape == (2, 3, 7 * config.scale, 5 * config.scale)
    assert sr.dtype == torch.float32
    sr.mean().backward()
    # FRVSR's flow has nothing to do where there is one frame.
    used = [p for name, p in network.named_parameters() if not name.startswith("flow.")]
    assert all(p.grad is not None for p in used)


@pytest.mark.parametrize("config", SMALL, ids=str)
def test_frozen_gives_what_training_has(config: Config) -> None:
    network, lr = shaken(config), torch.rand(2, 3, 7, 5)
    expected = network(lr)
    frozen = lowered(network, torch.float32)
    assert torch.allclose(frozen(lr), expected, atol=1e-5)


@pytest.mark.parametrize("config", SMALL, ids=str)
def test_half_precision_keeps_the_picture(config: Config) -> None:
    network, lr = shaken(config), torch.rand(1, 3, 8, 8)
    expected = network(lr)
    lowered(network, torch.bfloat16)
    spread = expected.std()
    assert (network(lr) - expected).abs().mean() < 0.02 * spread


@pytest.mark.parametrize("config", SMALL, ids=str)
def test_nothing_is_reached_beyond_the_reach(config: Config) -> None:
    """A pixel of the small picture changes no result that is farther away than `reach`."""
    network = shaken(config)
    middle = network.reach + network.grid
    side = 2 * middle + 1
    lr = torch.rand(1, 3, side, side)
    before = network(lr)
    lr[..., middle, middle] += 1
    changed = (network(lr) - before).abs().amax((0, 1)) > 1e-6
    rows = changed.any(1).nonzero()
    assert rows.min() >= (middle - network.reach) * network.scale
    assert rows.max() < (middle + network.reach + 1) * network.scale


@pytest.mark.parametrize("factor", [2, 3])
def test_icnr_begins_as_nearest_neighbour_upscaling(factor: int) -> None:
    layer = icnr_(conv(5, 4 * factor**2), factor)
    made = F.pixel_shuffle(layer(torch.randn(1, 5, 6, 6)), factor)
    assert torch.equal(made, F.interpolate(made[..., ::factor, ::factor], scale_factor=factor))
    assert made.std() > 0.1


@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_the_last_convolution_is_one(kernel: int) -> None:
    layer, x = ToColours(6, kernel), torch.randn(2, 6, 12, 7)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=kernel // 2)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    wide = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(wide), expected, rtol=1e-5, atol=1e-5)


def test_a_deep_compact_network_can_learn() -> None:
    """Neither what it sees nor what it is told gets lost on the way through sixteen layers."""
    network, target = Compact(CompactConfig()), torch.randn(1, 3, 48, 48)
    assert 0.3 < network.body(torch.randn(1, 3, 12, 12)).std() < 3
    torch.nn.init.normal_(network.last.weight, std=0.01)
    (network(torch.rand(1, 3, 12, 12)) * target).sum().backward()
    first, last = (
        layer.weight.grad.norm() / layer.weight.norm()  # type: ignore[union-attr, operator]
        for layer in (network.body[2], network.body[-2])
    )
    assert 0.2 < first / last < 5


def test_skip_begins_with_the_upscaled_input() -> None:
    network, lr = Compact(CompactConfig(4, 2, 8)), torch.rand(1, 3, 6, 6)
    expected = F.interpolate(lr, scale_factor=4.0, mode="nearest")
    assert torch.equal(network(lr), expected)
    unet = UNet(UNetConfig(4, (8, 12)))
    torch.nn.init.zeros_(unet.last.weight)
    torch.nn.init.zeros_(unet.last.bias)  # type: ignore[arg-type]
    assert torch.equal(unet(lr), bicubic(lr, 4))


def test_bicubic_is_pillows() -> None:
    import numpy as np
    from PIL import Image

    plane = torch.rand(9, 7)
    expected = Image.fromarray(plane.numpy()).resize((28, 36), Image.Resampling.BICUBIC)
    made = bicubic(plane[None, None], 4)[0, 0]
    assert np.abs(made.numpy() - np.array(expected)).max() < 1e-5


def test_tanh_stays_in_range() -> None:
    for network in (TransformNet(TransformNetConfig(2, 1, 8)), SRResNet(ARTICLE)):
        sr = network(torch.rand(1, 3, 6, 6) * 100)
        assert sr.min() >= 0
        assert sr.max() <= 1


def test_the_articles_network_has_no_shuffle() -> None:
    kinds = {type(module).__name__ for module in SRResNet(ARTICLE).modules()}
    assert {"Upsample", "LeakyReLU", "BatchNorm2d"} <= kinds
    assert not {"PixelShuffle", "PReLU"} & kinds


@pytest.mark.parametrize(
    "make",
    [
        lambda: SRResNetConfig(scale=5),
        lambda: SRResNetConfig(tanh=True),
        lambda: RRDBNetConfig(scale=3),
        lambda: CompactConfig(scale=4, inner=2),
        lambda: UNetConfig(channels=()),
        lambda: TransformNetConfig(scale=0),
    ],
)
def test_sizes_that_cannot_be_are_refused(make: type) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_new_rrdbnet_is_nearest_neighbour_upscaling() -> None:
    small = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        made = build(RRDBNetConfig(4, blocks=2, channels=16, growth=8))(small)
    torch.testing.assert_close(made, F.interpolate(small, scale_factor=4.0))


def test_a_new_autoencoder_is_bicubic_interpolation() -> None:
    small = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        made = build(UNetConfig(3, (8, 16)))(small)
    torch.testing.assert_close(made, bicubic(small, 3))
