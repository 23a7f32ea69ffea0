from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan.imagenet import CHANNELS, MissingNetworkError, load_efficientnet


def test_features_have_the_published_sizes_and_do_not_depend_on_company() -> None:
    network = load_efficientnet()
    images = torch.rand(3, 3, 96, 64) * 2 - 1
    features = network(images)
    assert [f.shape for f in features] == [
        (3, channels, 96 // stride, 64 // stride)
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]
    for together, alone in zip(features, network(images[:1]), strict=True):
        torch.testing.assert_close(together[:1], alone, atol=1e-3, rtol=1e-3)


def test_the_network_knows_what_it_sees() -> None:
    """With the classifier of the same file: a picture of a spacesuit and a shape."""
    network = load_efficientnet()
    path = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
    photo = Image.open(path).convert("RGB").resize((224, 224))
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
    pooled = network.pooled(torch.cat([image, image.flip(3), torch.zeros_like(image)]))
    mirrored = torch.cosine_similarity(pooled[0], pooled[1], dim=0)
    grey = torch.cosine_similarity(pooled[0], pooled[2], dim=0)
    assert mirrored > 0.8 > grey


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylegan.imagenet.PACKAGE", "no_such_package_here")
    with pytest.raises(MissingNetworkError, match=r"pip install 'pulse-faces\[train\]'"):
        load_efficientnet()
