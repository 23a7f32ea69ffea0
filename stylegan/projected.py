"""Judges that look at pictures through networks trained on photographs, or on faces.

Projected GANs (Sauer et al., NeurIPS 2021): features of a fixed network, mixed at random between
channels and from coarse to fine, and a small discriminator for each size. They join the generator's
own discriminator, as in vision-aided training (Kumari et al., CVPR 2022): judges of ImageNet's
features alone are known to spoil faces, which its classes do not need. A network that tells people
apart does need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from stylegan import face_resnet, imagenet
from stylegan.checkpoints import load_judge, save_judge
from stylegan.mapping import LRELU_SLOPE

LR = 2e-4
ALONE = 1_600
"""Pictures from which the heads learn before the generator listens to them."""
SMALLEST = 128
"""Side to which smaller pictures are enlarged before they are looked at."""
SMALLEST_SPREAD = 1e-3
"""Added to the standard deviation of a map, which may be nought."""


class Photographs(nn.Module):
    """EfficientNet-Lite0's features of whole pictures in [-1, 1], at strides 4, 8, 16 and 32.

    Attributes:
        channels: of each size, fine to coarse.
        scales: what each size's features are divided by; None takes the means and standard
            deviations of each map from pictures (`Projection.settle`).
        mixed: channels after mixing, at every size.
        precision: type of the features. Depthwise convolutions take long in bfloat16 on a CPU.
    """

    channels = imagenet.CHANNELS
    scales = (8.5, 8.0, 8.5, 2.6)  # Standard deviations for faces.
    mixed = 64
    precision = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self.network = imagenet.load_efficientnet()

    def forward(self, images: Float[Tensor, "b 3 r r"]) -> tuple[Float[Tensor, "b c h w"], ...]:
        if images.shape[-1] < SMALLEST:
            images = F.interpolate(images, (SMALLEST, SMALLEST), mode="bilinear")
        return self.network(images)


class Faces(nn.Module):
    """dlib's features of the face in FFHQ's framing, and its descriptor as one place more.

    Attributes: as of `Photographs`. Undivided, each map with its own mean, they teach heads far
    more slowly: after 100 steps an AUC of 0.85, not 0.95, at 17 pixels.
    """

    channels = (*face_resnet.CHANNELS, face_resnet.DESCRIPTOR)
    scales = None
    mixed = 128

    def __init__(self, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = face_resnet.load_face_resnet()
        self.precision = precision

    def forward(self, images: Float[Tensor, "b 3 r r"]) -> tuple[Float[Tensor, "b c h w"], ...]:
        features = self.network(face_resnet.face_of(images))
        return *features, self.network.describe(features)[:, :, None, None]


class Projection(nn.Module):
    """Pictures in [-1, 1] to mixed features of each size. Nothing in it is trained.

    Each size is mixed by a random 1x1 convolution; then, from coarse to fine, the sum with what
    came from the coarser size by a random 3x3 one (section 3.2 of the paper).
    """

    def __init__(self, network: Photographs | Faces, rng: torch.Generator) -> None:
        super().__init__()
        self.network = network
        mixed = network.mixed
        for level, channels in enumerate(network.channels):
            across = torch.randn(mixed, channels, 1, 1, generator=rng)
            down = torch.randn(mixed, mixed, 3, 3, generator=rng)
            scale = torch.full((channels, 1, 1), network.scales[level] if network.scales else 1.0)
            self.register_buffer(f"across{level}", across / channels**0.5)
            self.register_buffer(f"down{level}", down / (3 * mixed**0.5))
            self.register_buffer(f"mean{level}", torch.zeros(channels, 1, 1))
            self.register_buffer(f"scale{level}", scale)

    @torch.no_grad()
    def settle(self, images: Float[Tensor, "b 3 r r"]) -> None:
        """Take the means and scales of features from pictures, where the network has none."""
        if self.network.scales is not None:
            return
        for level, x in enumerate(self.network(images)):
            self.get_buffer(f"mean{level}").copy_(x.mean((0, 2, 3))[:, None, None])
            spread = x.transpose(0, 1).flatten(1).std(1)
            self.get_buffer(f"scale{level}").copy_(spread[:, None, None] + SMALLEST_SPREAD)

    def forward(self, images: Float[Tensor, "b 3 r r"]) -> list[Float[Tensor, "b c h w"]]:
        mixed: list[Tensor] = []
        precision = self.network.precision
        with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
            features = self.network(images)
            for level in reversed(range(len(features))):
                x = features[level] - self.get_buffer(f"mean{level}")
                x = x / self.get_buffer(f"scale{level}")
                x = F.conv2d(x, self.get_buffer(f"across{level}"))
                if mixed:
                    coarser = F.interpolate(mixed[-1], x.shape[2:], mode="bilinear")
                    x = (x + coarser) * 0.5**0.5
                mixed.append(F.conv2d(x, self.get_buffer(f"down{level}"), padding=1))
        return [x.float() for x in mixed[::-1]]


class Heads(nn.Module):
    """A small, spectrally normalised discriminator for each size; logits per place."""

    def __init__(self, network: Photographs | Faces) -> None:
        super().__init__()
        levels = range(len(network.channels))
        self.heads = nn.ModuleList(_head(network.mixed, halve=level < 3) for level in levels)

    def forward(self, features: list[Float[Tensor, "b c h w"]]) -> list[Float[Tensor, "b 1 p q"]]:
        """Positive for what looks real, of every size in turn."""
        return [head(x) for head, x in zip(self.heads, features, strict=True)]


class ProjectedJudge:
    """The heads, what they look through, and their optimiser.

    Attributes:
        seen: pictures that the heads have learned from.
    """

    def __init__(self, network: Photographs | Faces, device: torch.device | str, seed: int) -> None:
        self.projection = Projection(network, torch.Generator().manual_seed(seed)).to(device)
        self.heads = Heads(network).to(device)
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

    def state(self, name: str) -> dict[str, Any]:
        return {
            name: self.heads.state_dict(),
            f"{name}_adam": self.adam.state_dict(),
            f"{name}_seen": self.seen,
        }

    def restore(self, state: dict[str, Any], name: str) -> None:
        """Go on from `state`; from nothing if there were no such heads then."""
        if name in state:
            self.heads.load_state_dict(state[name])
            self.adam.load_state_dict(state[f"{name}_adam"])
            self.seen = state[f"{name}_seen"]


class ProjectedJudges:
    """The judges of both kinds that a generator is trained with; either may be left out.

    Attributes:
        of: by the name that they have in a training state, each with its weight.
    """

    FILES = ("heads.safetensors", "face-heads.safetensors")
    """Where each kind is written, in the order of `NAMES`."""
    NAMES = ("heads", "face_heads")

    def __init__(
        self,
        weights: tuple[float, float],
        device: torch.device,
        precision: torch.dtype,
        seed: int,
    ) -> None:
        """
        Args:
            weights: of those that look at photographs and at faces; 0 leaves them out.
            precision: type of the features of faces.
        """
        self.of: dict[str, tuple[ProjectedJudge, float]] = {}
        for name, weight in zip(self.NAMES, weights, strict=True):
            if weight:
                network = Photographs() if name == self.NAMES[0] else Faces(precision)
                self.of[name] = ProjectedJudge(network, device, seed), weight

    def settle(self, images: Float[Tensor, "b 3 r r"]) -> None:
        """Tell them what is usual in the pictures that they will see."""
        for judge, _ in self.of.values():
            judge.projection.settle(images)

    def step(
        self, real: Float[Tensor, "b 3 r r"], fake: Float[Tensor, "b 3 r r"]
    ) -> tuple[Float[Tensor, "b 3 r r"], Float[Tensor, " 4"]]:
        """Update all heads: `ProjectedJudge.step`, weighted and summed, and the logits of each."""
        gradient = torch.zeros_like(fake)
        logits = torch.zeros(2 * len(self.NAMES), device=fake.device)
        for name, (judge, weight) in self.of.items():
            by_fake, means = judge.step(real, fake)
            gradient += weight * by_fake
            first = 2 * self.NAMES.index(name)
            logits[first : first + 2] = means
        return gradient, logits

    def state(self) -> dict[str, Any]:
        parts = (judge.state(name) for name, (judge, _) in self.of.items())
        return {key: value for part in parts for key, value in part.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, (judge, _) in self.of.items():
            judge.restore(state, name)

    def save(self, files: Sequence[Path]) -> None:
        """Write the heads of each kind that there is."""
        for name, file in zip(self.NAMES, files, strict=True):
            if name in self.of:
                save_judge(self.of[name][0].heads, file)

    def load(self, files: Sequence[Path], seen: int) -> None:
        """Take the heads whose files are there; they have learned from `seen` pictures."""
        for name, file in zip(self.NAMES, files, strict=True):
            if name in self.of and file.exists():
                judge, _ = self.of[name]
                load_judge(judge.heads, file)
                judge.seen = seen


def _head(mixed: int, halve: bool) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(mixed, 128, 4 if halve else 3, 2 if halve else 1, 1)),
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
