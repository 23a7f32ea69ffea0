"""The plain loop that the benchmark measures against draws the same pictures."""

import pytest
import torch

from benchmarks.network import plain_of
from stylegan.checkpoints import StyleGAN
from stylegan.stylegan1 import StyleGAN1, StyleGAN1Config
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config


@pytest.mark.parametrize("family", ["StyleGAN2", "StyleGAN"])
def test_plain_and_ours_are_the_same(family: str) -> None:
    sizes = (12, 10, 8, 6, 5, 4), 10, 12, 2  # 128 pixels, where StyleGAN's upscaling is fused.
    generator: StyleGAN = StyleGAN2(StyleGAN2Config(*sizes))
    if family == "StyleGAN":
        generator = StyleGAN1(StyleGAN1Config(*sizes))
        torch.nn.init.normal_(generator.const)
    for name, value in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            value.data += 0.3 * torch.randn(value.shape)
    generator.requires_grad_(False)
    ws = torch.randn(2, generator.num_layers, generator.w_dim, requires_grad=True)
    noise = [torch.randn(2, 1, *shape) for shape in generator.noise_shapes]
    searched = [ws, *(x.requires_grad_() for x in noise[:5])]
    weight = torch.randn(2, 3, 128, 128)

    def drawn(synthesis: object) -> list[torch.Tensor]:
        image = synthesis(ws, noise)  # type: ignore[operator]
        return [image, *torch.autograd.grad((image * weight).sum(), searched)]

    plain, ours = drawn(plain_of(generator)), drawn(generator.synthesis)
    assert (plain[0] - ours[0]).abs().max() < 1e-4 * plain[0].abs().max()
    for one, other in zip(plain[1:], ours[1:], strict=True):
        # Where rounding brings an activation over the kink of the leaky ReLU, one path's gradient
        # jumps; which one that is depends on the processor.
        assert (one - other).norm() < 1e-2 * one.norm()
