"""What a network that upscales is trained to bring down."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pulse.imaging.pictures import InputError, setting
from stylegan.archive import read_state
from stylegan.imagenet import EfficientNetLite0, MissingNetworkError, load_efficientnet

Content: TypeAlias = Literal["mse", "l1", "perceptual"]
Adversarial: TypeAlias = Literal["vanilla", "relativistic"]

_VGG_PLAN = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each pooling (Simonyan and Zisserman 2015, table 1, D and E)."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, by which torchvision's networks have their inputs normalised."""
_LEDIG = 1 / 12.75
"""Rescaling of VGG's features, so that their loss is of the MSE's size (Ledig et al., 3.2)."""
_LITE_STDS = (8.5, 8.0, 8.5)
"""Standard deviations of EfficientNet-Lite0's features at strides 4, 8 and 16."""


class Features(Protocol):
    """A fixed network of photographs; pictures in [0, 1] to feature maps of comparable size."""

    def __call__(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c p q"], ...]: ...


class LiteFeatures(nn.Module):
    """EfficientNet-Lite0's features at strides 4, 8 and 16, divided by their standard deviations.

    This stands in for the papers' VGG, whose weights no package brings. Nothing finer than a stride
    of 4 is compared, so train with `TrainConfig.pixel` beside it, or against a discriminator.
    """

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b c p q"], ...]:
        levels = self.network(images * 2 - 1)[: len(_LITE_STDS)]
        return tuple(x / std for x, std in zip(levels, _LITE_STDS, strict=True))


class VGGFeatures(nn.Module):
    """VGG's features at the layer that the papers compare.

    VGG-16: relu2_2 (Johnson et al. 2016, section 4.2). VGG-19: the fourth convolution before the
    fifth pooling, phi_5,4, divided by 12.75; after its ReLU (Ledig et al. 2017, equation 5), or
    before it for relativistic losses (Wang et al. 2018, section 3.3).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, state: dict[str, Tensor], adversarial: Adversarial) -> None:
        super().__init__()
        numbers = sorted(
            int(name.split(".")[1])
            for name in state
            if name.startswith("features.") and name.endswith(".weight")
        )
        depth = len(numbers) + 3  # Dense layers, which are not used, count in the names.
        if depth not in _VGG_PLAN:
            raise KeyError("features")
        blocks = _VGG_PLAN[depth][: 2 if depth == 16 else 5]
        layers: list[nn.Module] = []
        convs = iter(numbers)
        for count in blocks:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                name = f"features.{next(convs)}"
                weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
                conv = nn.Conv2d(weight.shape[1], len(weight), 3, padding=1)
                conv.load_state_dict({"weight": weight, "bias": bias})
                layers += [conv, nn.ReLU()]
        if depth == 19 and adversarial == "relativistic":
            layers.pop()
        self.layers = nn.Sequential(*layers).requires_grad_(False)
        self.factor = _LEDIG if depth == 19 else 1.0
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(_STD)[:, None, None])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b c p q"], ...]:
        return (self.factor * self.layers((images - self.mean) / self.std),)


def load_features(
    vgg: Path | None, adversarial: Adversarial, device: torch.device | str = "cpu"
) -> Features:
    """The network whose features are compared: EfficientNet-Lite0, or VGG where a file is given.

    Args:
        vgg: torchvision's state dict of VGG-16 or VGG-19, without batch norm.

    Raises:
        InputError: the file is not that, or the package with EfficientNet is not installed.
    """
    if vgg is None:
        try:
            return LiteFeatures(load_efficientnet(device))
        except MissingNetworkError as error:
            raise InputError(f"{error} Or give VGG's weights with {setting('vgg')}.") from error
    try:
        state = read_state(vgg)
        return VGGFeatures(state, adversarial).to(device)
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{vgg} is not torchvision's state dict of VGG-16 or VGG-19 without batch norm."
        ) from error


def perceptual_loss(
    features: Features, sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Mean squared difference of features (Johnson et al. 2016, equation 2), over all layers."""
    with torch.no_grad():
        wanted = features(hr)
    pairs = zip(features(sr), wanted, strict=True)
    return torch.stack([F.mse_loss(x, y) for x, y in pairs]).mean()


def vanilla_loss(fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Of the generator: -log D(G(lr)) (Ledig et al. 2017, equation 6), averaged, not summed.

    Args:
        fake: logits of what it drew.
    """
    return F.softplus(-fake).mean()


def vanilla_judge_loss(real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Of the discriminator (Ledig et al. 2017, equation 2)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def relativistic_loss(real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Of the generator, relativistic average (Wang et al. 2018, equation 2).

    D_Ra(a, b) = sigmoid(C(a) - E[C(b)]): how much more like an original than the others on average.
    """
    return relativistic_judge_loss(fake, real)


def relativistic_judge_loss(
    real: Float[Tensor, "b n"], fake: Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Of the discriminator (Wang et al. 2018, equation 1)."""
    return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()
