"""Which faces of a folder a generator hardly ever draws."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stylegan.dataset import Pictures
from stylegan.generator import Generator
from stylegan.imagenet import load_efficientnet

SAMPLES, NEIGHBOURS = 1500, 5
"""Of the generator, and how many of them tell how like them a face is."""
BATCH = 16


@torch.no_grad()
def rarest(pictures: Pictures, generator: Generator, count: int) -> Int[Tensor, " r"]:
    """Numbers of the pictures least like what the generator draws, the rarest first.

    By the mean distance to the nearest of its samples, of EfficientNet-Lite0's pooled features at
    strides 16 and 32, each divided by its standard deviation over the samples. Pictures that are
    never drawn do not count.
    """
    device = generator.device
    network = load_efficientnet(device)

    def pooled(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n c"]:
        return torch.cat([x.mean((2, 3)) for x in network(images)[2:]], 1)

    rng = torch.Generator().manual_seed(5)
    w = generator.mapping(torch.randn(SAMPLES, generator.z_dim, generator=rng).to(device))
    ws = w[:, None].expand(-1, generator.num_layers, -1)
    usual = [pooled(generator.synthesis(x).clamp(-1, 1)) for x in ws.split(BATCH)]
    shown = [pooled(x.to(device).float() / 127.5 - 1) for x in pictures.pixels.split(BATCH)]
    scale = torch.cat(usual).std(0) + 1e-3
    far = torch.cdist(torch.cat(shown) / scale, torch.cat(usual) / scale)
    far = far.topk(NEIGHBOURS, largest=False).values.mean(1)
    return torch.where(pictures.weights > 0, far.cpu(), 0).topk(count).indices
