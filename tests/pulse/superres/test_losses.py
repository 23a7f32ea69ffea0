"""What networks are trained to bring down."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from pulse.imaging.pictures import InputError
from pulse.superres.discriminators import Discriminator, DiscriminatorConfig
from pulse.superres.losses import (
    VGGFeatures,
    load_features,
    perceptual_loss,
    relativistic_judge_loss,
    relativistic_loss,
    vanilla_judge_loss,
    vanilla_loss,
)

CONVS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg_state(depth: int, width: int = 4) -> dict[str, torch.Tensor]:
    """A random network under torchvision's names."""
    layers: list[nn.Module] = []
    before = 3
    for block, count in enumerate(CONVS[depth]):
        for _ in range(count):
            layers += [nn.Conv2d(before, width * (block + 1), 3, padding=1), nn.ReLU()]
            before = width * (block + 1)
        layers.append(nn.MaxPool2d(2))
    return {f"features.{k}": v for k, v in nn.Sequential(*layers).state_dict().items()}


def torchvision_features(state: dict[str, torch.Tensor], images: torch.Tensor, upto: int):
    """The first `upto` layers of torchvision's list, written down from its names."""
    x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    depth = 16 if "features.28.weight" in state and "features.34.weight" not in state else 19
    kinds = [k for count in CONVS[depth] for k in (*["conv", "relu"] * count, "pool")]
    for number, kind in enumerate(kinds[:upto]):
        if kind == "conv":
            weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            x = nn.functional.conv2d(x, weight, bias, padding=1)
        else:
            x = x.relu() if kind == "relu" else nn.functional.max_pool2d(x, 2)
    return x


@pytest.mark.parametrize(
    ("depth", "adversarial", "upto", "factor"),
    [
        (16, "vanilla", 9, 1.0),  # relu2_2 is layer 8.
        (19, "vanilla", 36, 1 / 12.75),  # relu5_4 is layer 35.
        (19, "relativistic", 35, 1 / 12.75),  # conv5_4, before it.
    ],
)
def test_vgg_is_compared_where_the_papers_do(
    depth: int, adversarial: str, upto: int, factor: float, tmp_path: Path
) -> None:
    state = vgg_state(depth)
    file = tmp_path / "vgg.pth"
    torch.save(state, file)
    features = load_features(file, adversarial)  # type: ignore[arg-type]
    assert isinstance(features, VGGFeatures)
    images = torch.rand(1, 3, 64, 64)
    (found,) = features(images)
    torch.testing.assert_close(found, factor * torchvision_features(state, images, upto))


def test_a_file_that_is_not_vgg(tmp_path: Path) -> None:
    file = tmp_path / "vgg.pth"
    for content in ({"features.0.weight": torch.zeros(2)}, [1, 2], {"a": nn.ReLU}):
        torch.save(content, file)
        with pytest.raises(InputError, match="state dict of VGG-16 or VGG-19"):
            load_features(file, "vanilla")
    file.write_bytes(b"no")
    with pytest.raises(InputError, match="state dict"):
        load_features(file, "vanilla")


def test_features_of_efficientnet_are_of_comparable_size_and_notice_blur() -> None:
    features = load_features(None, "vanilla")
    hr = torch.rand(2, 3, 64, 64)
    blurred = nn.functional.avg_pool2d(hr, 3, 1, 1, count_include_pad=False)
    same = perceptual_loss(features, hr, hr)
    assert same == 0
    levels = features(hr)
    assert [x.shape[-1] for x in levels] == [16, 8, 4]
    assert perceptual_loss(features, blurred, hr) > perceptual_loss(features, hr * 0.99, hr) > 0
    moving = blurred.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(perceptual_loss(features, moving, hr), moving)
    assert gradient.abs().sum() > 0


def test_adversarial_losses_by_their_formulas() -> None:
    real, fake = torch.randn(5, 1, dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)

    def log_d(x: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.sigmoid(x)).mean()

    torch.testing.assert_close(vanilla_loss(fake), -log_d(fake))
    torch.testing.assert_close(
        vanilla_judge_loss(real, fake), -log_d(real) - torch.log(1 - torch.sigmoid(fake)).mean()
    )
    ahead, behind = real - fake.mean(), fake - real.mean()
    expected = -log_d(ahead) - torch.log(1 - torch.sigmoid(behind)).mean()
    torch.testing.assert_close(relativistic_judge_loss(real, fake), expected)
    torch.testing.assert_close(relativistic_loss(real, fake), relativistic_judge_loss(fake, real))
    undecided = torch.zeros(3, 1)
    assert relativistic_loss(undecided, undecided) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(("head", "shape"), [("dense", (2, 1)), ("patch", (2, 36))])
def test_the_discriminator_of_the_paper(head: str, shape: tuple[int, int]) -> None:
    judge = Discriminator(DiscriminatorConfig(head=head))  # type: ignore[arg-type]
    convs = [m for m in judge.features if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convs] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [m.stride[0] for m in convs] == [1, 2] * 4
    assert judge(torch.rand(2, 3, 96, 96)).shape == shape
