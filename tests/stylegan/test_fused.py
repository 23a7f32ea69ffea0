"""The fast form of the layers, against the plain one that training takes."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from stylegan import fused
from stylegan.fused import Normalisation, Once, Projection, StyledConvolution
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config, _adjoint, _convolve

StyleGAN12 = StyleGAN1 | StyleGAN2


@pytest.fixture(params=[10, 10**6], ids=["bands", "whole"])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "BAND", request.param)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.9])
@pytest.mark.parametrize("noise", [None, 1, 2])
def test_gradients_of_the_styled_convolution(
    up: bool, clamp: float | None, noise: int | None
) -> None:
    side, shape = (6, (3, 2, 3, 3)) if up else (3, (2, 3, 3, 3))
    weight = torch.randn(shape, dtype=torch.float64) / 5
    bias = torch.randn(2, dtype=torch.float64)

    def layer(x: Tensor, style: Tensor, scale: Tensor, noise: Tensor | None = None) -> Any:
        maps = partial(_convolve, weight=weight, up=up), partial(_adjoint, weight=weight, up=up)
        return StyledConvolution.apply(x, style, scale, noise, bias, clamp, *maps)

    inputs = [double(2, 3, 3, 3), double(2, 3), double(2, 2)]
    if noise is not None:
        inputs.append(double(noise, 1, side, side))
    assert torch.autograd.gradcheck(layer, inputs)


def test_gradients_of_the_projection() -> None:
    assert torch.autograd.gradcheck(Projection.apply, [double(2, 4, 3, 5), double(2, 3, 4)])


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("noise", [None, 1, 2])
def test_gradients_of_the_normalisation(noise: int | None) -> None:
    bias, strength = torch.randn(2, 3, dtype=torch.float64)

    def layer(u: Tensor, scale: Tensor, shift: Tensor, noise: Tensor | None = None) -> Any:
        return Normalisation.apply(u, noise, scale, shift, bias, strength, 1e-8)

    inputs = [double(2, 3, 4, 4), double(2, 3), double(2, 3)]
    if noise is not None:
        inputs.append(double(noise, 1, 4, 4))
    assert torch.autograd.gradcheck(layer, inputs)


@pytest.mark.usefixtures("_bands")
def test_nearly_even_maps_are_normalised_without_loss() -> None:
    u = (1000 + torch.randn(1, 3, 32, 32, dtype=torch.float64) / 10).float()
    zero, one = torch.zeros(3), torch.ones(3)
    out: Any = Normalisation.apply(u, None, one[None], zero[None], zero, zero, 1e-8)
    variance, mean = torch.var_mean(u.double(), (2, 3), correction=0, keepdim=True)
    assert (out - (u - mean) / variance.sqrt()).abs().max() < 1e-3


def generators() -> list[StyleGAN12]:
    sizes = (12, 10, 8, 6), 10, 12, 2
    configs: list[Any] = [
        StyleGAN2Config(*sizes),
        StyleGAN2Config(*sizes, architecture="resnet", conv_clamp=1.0),
        StyleGAN1Config(*sizes),
    ]
    made: list[StyleGAN12] = []
    for config in configs:
        one = StyleGAN1(config) if isinstance(config, StyleGAN1Config) else StyleGAN2(config)
        for name, value in one.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                value.data += 0.3 * torch.randn(value.shape)
        made.append(one)
    return made


def drawn_with_gradients(generator: StyleGAN12) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    ws = torch.randn(2, generator.num_layers, generator.w_dim, generator=rng).requires_grad_()
    noise = [torch.randn(2, 1, *s, generator=rng) for s in generator.noise_shapes]
    searched = [x.requires_grad_() for x in noise[:5]]
    image = generator.synthesis(ws, noise)
    loss = (image * torch.randn(image.shape, generator=rng)).sum()
    return [image.detach(), *torch.autograd.grad(loss, [ws, *searched])]


@pytest.mark.parametrize("index", range(3))
def test_frozen_and_trained_networks_are_the_same(index: int) -> None:
    generator = generators()[index]
    plain = drawn_with_gradients(generator)
    frozen = drawn_with_gradients(generator.requires_grad_(False))
    for one, other in zip(plain, frozen, strict=True):
        assert (one - other).abs().max() < 1e-4 * one.abs().max()


@pytest.mark.parametrize("index", range(3))
def test_training_can_differentiate_twice(index: int) -> None:
    """The path length penalty does."""
    generator = generators()[index]
    ws = torch.randn(1, generator.num_layers, generator.w_dim, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator.synthesis(ws).sum(), ws, create_graph=True)
    gradient.square().sum().backward()
    weights = [value for name, value in generator.named_parameters() if "affine.weight" in name]
    assert all(value.grad is not None and value.grad.isfinite().all() for value in weights)


@pytest.mark.parametrize("index", range(3))
def test_changed_weights_are_noticed(index: int) -> None:
    """Whatever way they change: what is worked out from them is kept."""
    generator, other = generators()[index].requires_grad_(False), generators()[index]
    with torch.inference_mode():  # What is kept from here must serve gradients.
        drawn_in_inference = generator.synthesis(torch.ones(1, 8, 12))
    before = drawn_with_gradients(generator)
    assert torch.equal(generator.synthesis(torch.ones(1, 8, 12)), drawn_in_inference)

    def is_now(expected: list[Tensor]) -> bool:
        return all(map(torch.equal, drawn_with_gradients(generator), expected))

    other.requires_grad_(False)
    expected = drawn_with_gradients(other)
    assert not is_now(expected)
    own = {name: value.clone() for name, value in generator.state_dict().items()}
    generator.load_state_dict(other.state_dict())
    assert is_now(expected)
    generator.load_state_dict(own, assign=True)
    assert is_now(before)
    for old, new in zip(generator.parameters(), other.parameters(), strict=True):
        old.lerp_(new, 1.0)
    for old, new in zip(generator.buffers(), other.buffers(), strict=True):
        old.copy_(new)
    assert is_now(expected)
    generator.to(torch.float64).to(torch.float32)
    assert is_now(expected)
    copied = copy.deepcopy(generator)
    for parameter in copied.parameters():
        parameter *= 2
    assert is_now(expected)
    generator.load_state_dict(copied.state_dict())
    assert not is_now(expected)


def test_frozen_weights_are_prepared_once() -> None:
    once: Once[Tensor] = Once()
    weight, calls = torch.randn(3), []

    def make(dtype: torch.dtype) -> Tensor:
        calls.append(1)
        return (weight * 2).to(dtype)

    for _ in range(3):
        assert torch.equal(once(weight, torch.float32, make), weight * 2)
    assert len(calls) == 1
    weight += 1
    assert torch.equal(once(weight, torch.float32, make), weight * 2)
    once(weight, torch.bfloat16, make)
    assert len(calls) == 3


def test_no_gradient_of_what_is_not_asked() -> None:
    """A search keeps as few maps as it can: the ones between two layers, and no weights'."""
    generator = generators()[0].requires_grad_(False)
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and tensor.shape[2] == 32 and tensor.shape[1] > 3:
            kept.append(tensor.data_ptr())
        return tensor

    ws = torch.randn(1, generator.num_layers, generator.w_dim, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        generator.synthesis(ws)
    assert len(set(kept)) <= 5
