"""Judges that look at pictures through a network trained on photographs.

Projected GANs (Sauer et al., NeurIPS 2021): features of a fixed network, mixed at random between
channels and from coarse to fine, and a small discriminator for each size. They join the generator's
own discriminator, as in vision-aided training (Kumari et al., CVPR 2022): judges of such features
alone are known to spoil faces, which ImageNet's classes do not need.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stylegan.imagenet import CHANNELS, load_efficientnet
from stylegan.mapping import LRELU_SLOPE

SCALES = (8.5, 8.0, 8.5, 2.6)
"""Standard deviations of the features of faces, which the mixing starts by dividing by."""
MIXED = 64
"""Channels after mixing, at every size."""
LR = 2e-4
ALONE = 1_600
"""Pictures from which the heads learn before the generator listens to them."""
SMALLEST = 128
"""Side to which smaller pictures are enlarged before they are looked at."""


class Projection(nn.Module):
    """Pictures in [-1, 1] to mixed features at strides 4, 8, 16 and 32. Nothing in it is trained.

    Each size is mixed by a random 1x1 convolution; then, from coarse to fine, the sum with what
    came from the coarser size by a random 3x3 one (section 3.2 of the paper).
    """

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.network = load_efficientnet()
        for level, channels in enumerate(CHANNELS):
            across = torch.randn(MIXED, channels, 1, 1, generator=rng)
            down = torch.randn(MIXED, MIXED, 3, 3, generator=rng)
            self.register_buffer(f"across{level}", across / (SCALES[level] * channels**0.5))
            self.register_buffer(f"down{level}", down / (3 * MIXED**0.5))

    def forward(self, images: Float[Tensor, "b 3 r r"]) -> list[Float[Tensor, "b c h w"]]:
        if images.shape[-1] < SMALLEST:
            images = F.interpolate(images, (SMALLEST, SMALLEST), mode="bilinear")
        features = self.network(images)
        mixed: list[Tensor] = []
        for level in reversed(range(len(CHANNELS))):
            x = F.conv2d(features[level], self.get_buffer(f"across{level}"))
            if mixed:
                coarser = F.interpolate(mixed[-1], x.shape[2:], mode="bilinear")
                x = (x + coarser) * 0.5**0.5
            mixed.append(F.conv2d(x, self.get_buffer(f"down{level}"), padding=1))
        return mixed[::-1]


class Heads(nn.Module):
    """A small, spectrally normalised discriminator for each size; logits per place."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(halve=level < 3) for level in range(len(CHANNELS)))

    def forward(self, features: list[Float[Tensor, "b c h w"]]) -> list[Float[Tensor, "b 1 p q"]]:
        """Positive for what looks real, of every size in turn."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]


class ProjectedJudge:
    """The heads, what they look through, and their optimiser.

    Attributes:
        seen: pictures that the heads have learned from.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.projection = Projection(torch.Generator().manual_seed(seed)).to(device)
        self.heads = Heads().to(device)
        self.adam = torch.optim.Adam(self.heads.parameters(), LR, (0.0, 0.99), fused=True)
        self.seen = 0

    def step(
        self, real: Float[Tensor, "b 3 r r"], fake: Float[Tensor, "b 3 r r"]
    ) -> tuple[Float[Tensor, "b 3 r r"], Float[Tensor, " 2"]]:
        """Update the heads.

        Returns:
            The gradient of the generator's loss by the drawn pictures, nought while the heads learn
            alone; and the mean logits, real and fake.
        """
        fake = fake.detach().requires_grad_()
        projected = self.projection(fake)
        # Cut here, so that what the heads learn from does not go back through the fixed network.
        features = [x.detach().requires_grad_() for x in projected]
        fake_logits = self.heads(features)
        by_features = torch.autograd.grad(generator_loss(fake_logits), features, retain_graph=True)
        (by_fake,) = torch.autograd.grad(projected, fake, by_features)
        with torch.no_grad():
            real_features = self.projection(real)
        real_logits = self.heads(real_features)
        self.adam.zero_grad()
        judge_loss(real_logits, fake_logits).backward()
        self.adam.step()
        self.seen += len(real)
        if self.seen <= ALONE:
            by_fake = torch.zeros_like(by_fake)
        sizes = (torch.stack([x.mean() for x in part]) for part in (real_logits, fake_logits))
        return by_fake, torch.stack([means.mean() for means in sizes]).detach()

    def state(self) -> dict[str, Any]:
        return {
            "heads": self.heads.state_dict(),
            "heads_adam": self.adam.state_dict(),
            "heads_seen": self.seen,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; from nothing if there were no heads then."""
        if "heads" in state:
            self.heads.load_state_dict(state["heads"])
            self.adam.load_state_dict(state["heads_adam"])
            self.seen = state["heads_seen"]


def _head(halve: bool) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(MIXED, 128, 4 if halve else 3, 2 if halve else 1, 1)),
        nn.LeakyReLU(LRELU_SLOPE),
        spectral_norm(nn.Conv2d(128, 128, 3, 1, 1)),
        nn.LeakyReLU(LRELU_SLOPE),
        spectral_norm(nn.Conv2d(128, 1, 3, 1, 1)),
    )


def judge_loss(real: list[Tensor], fake: list[Tensor]) -> Float[Tensor, ""]:
    """Hinge loss of the heads, averaged over sizes (Sauer et al., equation 4, sum them)."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def generator_loss(fake: list[Tensor]) -> Float[Tensor, ""]:
    """What the generator brings down: the negative logits, averaged over sizes."""
    return -torch.stack([logits.mean() for logits in fake]).mean()
