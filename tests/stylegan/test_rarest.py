import torch

from stylegan.dataset import Pictures
from stylegan.rarest import rarest
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config


@torch.no_grad()
def test_the_rarest_are_what_the_generator_does_not_draw() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Config(channels=(8, 8, 8, 8)), torch.float32).eval()
    w = generator.mapping(torch.randn(9, generator.z_dim))
    drawn = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1)).clamp(-1, 1)
    board = (torch.arange(32)[:, None] // 8 + torch.arange(32) // 8) % 2 * 2.0 - 1
    drawn[[2, 5, 6]] = board
    drawn[6] += torch.rand(3, 32, 32) - 0.5
    pixels = ((drawn.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
    weights = torch.ones(9)
    pictures = Pictures(pixels, weights, weights > 1)
    assert sorted(rarest(pictures, generator, 3).tolist()) == [2, 5, 6]
    weights[5] = 0  # Never shown, so it is none of the rarest.
    found = rarest(pictures, generator, 4).tolist()
    assert set(found[:2]) == {2, 6}
    assert 5 not in found
