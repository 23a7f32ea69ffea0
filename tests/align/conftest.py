import pytest
import torch
from PIL import Image

import stylegan
from pulse.imaging.pictures import to_image


@pytest.fixture(scope="session")
def drawn() -> list[Image.Image]:
    """Clean faces of 128 pixels that no person has: the embedded generator's, truncated."""
    generator = stylegan.load("faces")
    z = torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(3))
    w = generator.w_mean + 0.6 * (generator.mapping(z) - generator.w_mean)
    images = generator.synthesis(w[:, None].expand(-1, generator.num_layers, -1))
    return [to_image((image + 1) / 2) for image in images]
