"""Stopping early in the network, which is the same code in front of the picture."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan import Generator
from stylegan.checkpoints import StyleGAN
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from stylegan.stylegan3 import RGB_GAIN, LayerConfig, StyleGAN3, StyleGAN3Config

LATENTS = 10, 12, 2  # z_dim, w_dim, mapping layers.


def stylegan3_config() -> StyleGAN3Config:
    """8 pixels, then 16, with a margin of two around them until the last maps."""
    layers = (
        LayerConfig(6, 6, 3, 12, 2, 2, 12, 12, False, (9, 8, 9, 8)),
        LayerConfig(6, 5, 3, 20, 4, 2, 24, 12, False, (9, 8, 9, 8)),
        LayerConfig(5, 5, 3, 20, 2, 2, 12, 12, True, (9, 8, 9, 8)),
        LayerConfig(5, 4, 3, 16, 2, 2, 12, 12, False, (5, 4, 5, 4)),
        LayerConfig(4, 3, 1, 16, 1, 1, 1, 1, False, (0, 0, 0, 0)),
    )
    return StyleGAN3Config(16, layers, 6, 12, 8.0, 2.0, *LATENTS)


def make(name: str) -> StyleGAN:
    if name == "StyleGAN":
        generator: StyleGAN = StyleGAN1(StyleGAN1Config((8, 6, 5, 4), *LATENTS))
    elif name == "StyleGAN3":
        generator = StyleGAN3(stylegan3_config())
    else:
        architecture: Any = name
        config = StyleGAN2Config((8, 6, 5, 4), *LATENTS, architecture=architecture)
        generator = StyleGAN2(config)
    for key, value in generator.named_parameters():
        if key.endswith(("bias", "noise_strength")):
            value.data += 0.3 * torch.randn(value.shape)
    return generator.requires_grad_(False)


NAMES = ("StyleGAN", "skip", "resnet", "orig", "StyleGAN3")


@pytest.fixture(params=NAMES)
def generator(request: pytest.FixtureRequest) -> StyleGAN:
    return make(request.param)


def drawn(generator: StyleGAN, count: int) -> tuple[Tensor, list[Tensor]]:
    ws = torch.randn(count, generator.num_layers, generator.w_dim)
    return ws, [torch.randn(count, 1, *shape) for shape in generator.noise_shapes]


def to_rgb(generator: StyleGAN, maps: Tensor, ws: Tensor) -> Tensor:
    """What is left to do after the last maps."""
    if isinstance(generator, StyleGAN1):
        weight = generator.rgb_weight / math.sqrt(maps.shape[1])
        return F.conv2d(maps, weight, generator.rgb_bias)
    if isinstance(generator, StyleGAN3):
        return generator.layers[-1](maps, ws[:, -1]) * RGB_GAIN
    if generator.config.architecture == "skip":
        return maps[:, :3]
    return generator.blocks[-1].to_rgb(maps, ws[:, -1])  # type: ignore[operator]


def test_sizes_and_types(generator: StyleGAN) -> None:
    assert isinstance(generator, Generator)
    expected = (8, 16) if generator.family == "StyleGAN3" else (4, 8, 16, 32)
    assert generator.feature_sizes == expected
    ws, noise = drawn(generator, 2)
    generator.precision = torch.bfloat16
    for size in generator.feature_sizes:
        maps = generator.features(ws, noise, size)
        assert maps.shape[0] == 2
        assert maps.shape[2:] == (size, size)
        assert maps.dtype == torch.float32


def test_the_last_features_are_what_the_picture_is_made_of(generator: StyleGAN) -> None:
    ws, noise = drawn(generator, 2)
    maps = generator.features(ws, noise, generator.resolution)
    image = generator.synthesis(ws, noise)
    torch.testing.assert_close(to_rgb(generator, maps, ws), image, atol=1e-5, rtol=1e-5)


def test_only_the_layers_up_to_there_are_asked(generator: StyleGAN) -> None:
    ws, noise = drawn(generator, 1)
    for size in generator.feature_sizes:
        taken = ws.clone().requires_grad_()
        used_noise = [x for x in noise if x.shape[-1] <= size]
        maps = generator.features(taken, used_noise, size)
        (gradient,) = torch.autograd.grad(maps.square().sum(), taken)
        used = gradient[0].abs().sum(1) > 0
        count = int(used.sum())
        assert used[:count].all()
        # What comes later is not even looked at.
        later = ws.clone()
        later[:, count:] = torch.nan
        assert torch.equal(generator.features(later, used_noise, size), maps)


def test_each_size_asks_for_more_latents(generator: StyleGAN) -> None:
    ws, noise = drawn(generator, 1)
    counts: list[int] = []
    for size in generator.feature_sizes:
        taken = ws.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(generator.features(taken, noise, size).sum(), taken)
        counts.append(int((gradient[0].abs().sum(1) > 0).sum()))
    assert counts == sorted(set(counts))


def test_a_batch_gives_what_each_gives_alone(generator: StyleGAN) -> None:
    ws, noise = drawn(generator, 3)
    for size in generator.feature_sizes:
        together = generator.features(ws, noise, size)
        for i in range(3):
            alone = generator.features(ws[i : i + 1], [x[i : i + 1] for x in noise], size)
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_skip_is_the_picture_so_far() -> None:
    generator = make("skip")
    ws, noise = drawn(generator, 1)
    coarse = StyleGAN2(StyleGAN2Config((8, 6, 5), *LATENTS)).requires_grad_(False)
    state = generator.state_dict()
    coarse.load_state_dict({name: state[name] for name in coarse.state_dict()})
    torch.testing.assert_close(
        generator.features(ws, noise, 16)[:, :3],
        coarse.synthesis(ws[:, : coarse.num_layers], noise),
    )


def test_other_sizes_are_refused(generator: StyleGAN) -> None:
    ws, noise = drawn(generator, 1)
    with pytest.raises(ValueError, match="No features have 12 pixels; there are"):
        generator.features(ws, noise, 12)
    with pytest.raises(ValueError, match="expected"):
        generator.features(ws[:, 1:], noise, generator.feature_sizes[0])
