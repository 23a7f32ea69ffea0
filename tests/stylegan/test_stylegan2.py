import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan import Generator
from stylegan.stylegan2 import LRELU_SLOPE, StyledConv, StyleGAN2, upsample


def zero_insert_filter(x: Tensor, taps: int) -> Tensor:
    """Upsampling by the book: insert zeros, then [1, 3, 3, 1] twice, beginning `taps` early."""
    b, c, h, w = x.shape
    y = x.new_zeros(b, c, 2 * h, 2 * w)
    y[:, :, ::2, ::2] = x
    k = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = torch.outer(k, k).expand(c, 1, 4, 4)
    return F.conv2d(F.pad(y, (taps, 3 - taps, taps, 3 - taps)), kernel, groups=c)


def styled_conv_by_the_book(conv: StyledConv, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """Equations 1 and 3 of StyleGAN2 with a modulated weight for every sample."""
    style = conv.affine(w)
    out: list[Tensor] = []
    for sample, s in zip(x, style, strict=True):
        weight = conv.weight * conv.gain * s[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if conv.up:
            wide = F.conv_transpose2d(sample[None], weight.transpose(0, 1), stride=2)
            k = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            kernel = torch.outer(k, k).expand(len(weight), 1, 4, 4)
            out.append(F.conv2d(wide, kernel, padding=1, groups=len(weight)))
        else:
            out.append(F.conv2d(sample[None], weight, padding=1))
    y = torch.cat(out) + noise * conv.noise_strength + conv.bias[None, :, None, None]
    return F.leaky_relu(y, LRELU_SLOPE) * 2**0.5


@pytest.mark.parametrize("up", [False, True])
def test_modulating_activations_is_modulating_weights(up: bool) -> None:
    conv = StyledConv(6, 5, 16 if up else 8, 12, up).requires_grad_(False)
    conv.bias.normal_()
    conv.noise_strength.fill_(0.7)
    x, w = torch.randn(3, 6, 8, 8), torch.randn(3, 12)
    noise = torch.randn(3, 1, *conv.noise.shape[2:])
    expected = styled_conv_by_the_book(conv, x, w, noise)
    torch.testing.assert_close(conv(x, w, noise), expected, atol=1e-5, rtol=1e-5)


def test_upsampling_is_the_papers_filter_up_to_the_border() -> None:
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(upsample(x), zero_insert_filter(x, 2))


def test_contract(tiny: Generator) -> None:
    assert isinstance(tiny, Generator)
    assert (tiny.resolution, tiny.num_layers) == (32, 8)
    assert tiny.noise_shapes == ((4, 4), (8, 8), (8, 8), (16, 16), (16, 16), (32, 32), (32, 32))
    w = tiny.mapping(torch.randn(2, tiny.z_dim))
    assert w.shape == (2, tiny.w_dim)
    images = tiny.synthesis(w[:, None].expand(-1, tiny.num_layers, -1))
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.float32


def test_a_batch_draws_what_each_latent_draws_alone(tiny: Generator) -> None:
    ws = torch.randn(3, tiny.num_layers, tiny.w_dim)
    noise = [torch.randn(3, 1, *shape) for shape in tiny.noise_shapes]
    together = tiny.synthesis(ws, noise)
    for i in range(3):
        alone = tiny.synthesis(ws[i : i + 1], [x[i : i + 1] for x in noise])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_noise_none_is_stored_and_zero_is_none(tiny: Generator) -> None:
    assert isinstance(tiny, StyleGAN2)
    ws = torch.randn(1, tiny.num_layers, tiny.w_dim)
    stored = [conv.noise for block in tiny.blocks for conv in block.convs]  # type: ignore[union-attr]
    torch.testing.assert_close(tiny.synthesis(ws), tiny.synthesis(ws, stored))
    zeros = [torch.zeros(1, 1, *shape) for shape in tiny.noise_shapes]
    torch.testing.assert_close(tiny.synthesis(ws, "zero"), tiny.synthesis(ws, zeros))
    assert not torch.allclose(tiny.synthesis(ws), tiny.synthesis(ws, "zero"))


def test_the_rgb_layer_shares_the_next_blocks_latent(tiny: Generator) -> None:
    ws = torch.randn(1, tiny.num_layers, tiny.w_dim)
    before = tiny.synthesis(ws)
    for layer in range(tiny.num_layers):
        changed = ws.clone()
        changed[:, layer] += 1
        assert not torch.equal(tiny.synthesis(changed), before), layer


def test_wrong_latents_are_refused(tiny: Generator) -> None:
    with pytest.raises(ValueError, match=r"expected \[batch, 8, 32\]"):
        tiny.synthesis(torch.randn(1, 7, tiny.w_dim))


def test_bfloat16_is_close_to_float32(tiny: Generator) -> None:
    assert isinstance(tiny, StyleGAN2)
    ws = torch.randn(2, tiny.num_layers, tiny.w_dim)
    exact = tiny.synthesis(ws)
    tiny.precision = torch.bfloat16
    assert (tiny.synthesis(ws) - exact).std() < 0.02 * exact.std()
