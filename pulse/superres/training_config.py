"""How a network is trained, and what is told of it meanwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pulse.imaging.pictures import InputError, setting
from pulse.superres.discriminators import DiscriminatorConfig
from pulse.superres.losses import Adversarial, Content
from pulse.superres.networks import SRResNetConfig
from pulse.superres.weights import Config

Stage: TypeAlias = Literal["flow", "content", "gan"]
"""Of a training: the flow of films alone, the pictures, and those against a discriminator."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    The defaults are not the papers' (Ledig et al. 2017: MSE, Adam at 1e-4, a million steps): L1 and
    a higher rate that falls by a cosine come as far in a small part of the time.

    Attributes:
        network: what is trained.
        loss: what is compared with HR: pixels, by "l1" or "mse", or features ("perceptual").
        pixel: weight of the L1 of pixels beside "perceptual" (Wang et al. 2018, equation 3, eta),
            which holds the colours.
        gan: whether it goes on against a discriminator, after a share of the training without one,
            in which features do not count yet (as in Ledig et al., section 3.2).
        pretrain: that share, of steps and minutes, from 0 to 1.
        adversarial: "vanilla" (SRGAN) or "relativistic" (ESRGAN).
        adversarial_weight: beside the loss (Ledig et al. 2017, equation 3).
        discriminator: its sizes.
        steps, minutes: the end is where the first of them is reached; None is without end. Only by
            steps is the outcome the same each time.
        batch: patches a step.
        lr, gan_lr: Adam's learning rates without and with a discriminator; after a short rise each
            falls to nothing by a cosine.
        warmup: steps of that rise.
        average: of the averaged weights, what is kept at a step. They are what is measured and
            saved.
        vgg: file of VGG's weights, whose features count then; else EfficientNet-Lite0's.
        precision: type of the feature maps; "auto" is bfloat16 where the device multiplies it.

    Raises:
        InputError: a number is out of its range.
    """

    network: Config = field(default_factory=SRResNetConfig)
    loss: Content = "l1"
    pixel: float = 0.01
    gan: bool = False
    pretrain: float = 0.5
    adversarial: Adversarial = "vanilla"
    adversarial_weight: float = 1e-3
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    steps: int | None = 100_000
    minutes: float | None = None
    batch: int = 16
    lr: float = 5e-4
    gan_lr: float = 1e-4
    warmup: int = 100
    average: float = 0.999
    vgg: Path | None = None
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InputError(
                f"Nothing says when training ends; give {setting('steps')} or {setting('minutes')}."
            )
        if not 0 <= self.pretrain <= 1:
            raise InputError(f"{setting('pretrain')} is a share: give it from 0 to 1.")
        rates = (self.lr, self.gan_lr)
        if not all(rate > 0 and math.isfinite(rate) for rate in rates):
            raise InputError(f"Learning rates of {rates} cannot be; give positive ones.")
        if self.gan and self.batch < 2:
            raise InputError(f"A discriminator needs a {setting('batch')} of two at least.")

    @property
    def content_share(self) -> float:
        """Share of the training that goes without a discriminator."""
        return self.pretrain if self.gan else 1.0


@dataclass(frozen=True)
class TrainingProgress:
    """How training stands after a step. Losses and logits are averages that fade over 50 steps.

    Attributes:
        step: steps done in all.
        done: share of the training that is done, 1 at the end.
        stage: "content"; "flow" where only that is trained as yet, "gan" where a discriminator is
            trained as well.
        rate: steps a second.
        content: the loss beside the adversarial one.
        adversarial, real, fake: the adversarial loss of the network, and the discriminator's mean
            logits of originals and of what was drawn; 0 without it.
        psnr_y, bicubic: mean PSNR of the luma in dB, of the averaged network on pictures that were
            held out, and of bicubic interpolation; None where they were not measured after this
            step. Where they were, everything has been saved.
    """

    step: int
    done: float
    stage: Stage
    rate: float
    content: float
    adversarial: float
    real: float
    fake: float
    psnr_y: float | None = None
    bicubic: float | None = None
