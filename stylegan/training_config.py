"""How a generator is trained, and what is told of it meanwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        resolution: side of the final pictures.
        start_resolution: side at which training starts; it doubles up to `resolution`.
        images: real pictures shown at the final resolution.
        start_images: real pictures shown at each earlier one.
        channels: feature maps of the generator at 4, 8, 16, ... pixels.
        discriminator_channels: those of the discriminator; None takes the generator's.
        projected: weight of the projected heads beside the discriminator; 0 leaves them out.
        faces: weight of heads that look at the face through dlib's network of faces, for pictures
            that are framed like FFHQ's; 0 leaves them out.
        batch: pictures a step; a multiple of four.
        lr: Adam's learning rate for both networks.
        r1: weight gamma of the R1 penalty; None takes 0.0002 * pixels / batch (Karras et al. 2020,
            "Training GANs with limited data", appendix C).
        ema_images: half-life of the averaged weights in pictures.
        augment: probability of shifts, and twice that of turns and zooms, real and drawn pictures
            alike; below one, so that what they do cannot leak into the generator.
        colour: probability of each change of brightness, saturation and contrast. These leak where
            training is long: at 0.6, after a million pictures one in five was washed out or burnt.
        mixing: probability that a picture is drawn from two latents.
        apart: probability that each layer of a picture has a latent of its own, up to half way to
            another one. A search looks among such ws, and what is drawn of them should be a face.
        judges_first: pictures from which the judges alone learn, where they are new to a trained
            generator.
        path_length: weight of the path length penalty; 0 leaves it out.
        warmup_images: pictures over which the learning rate rises after the start and each growth.
        precision: type of the feature maps; `auto` is bfloat16 where the device multiplies it.
    """

    resolution: int = 128
    start_resolution: int = 64
    images: int = 1_000_000
    start_images: int = 100_000
    channels: tuple[int, ...] = (192, 192, 128, 96, 48, 24)
    discriminator_channels: tuple[int, ...] | None = None
    projected: float = 0.7
    faces: float = 0.0
    batch: int = 16
    lr: float = 2e-3
    r1: float | None = None
    ema_images: int = 10_000
    augment: float = 0.6
    colour: float = 0.0
    mixing: float = 0.5
    apart: float = 0.0
    judges_first: int = 0
    path_length: float = 0.0
    warmup_images: int = 2_000
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resolution != 2 ** (len(self.channels) + 1):
            raise ValueError(
                f"{len(self.channels)} channel counts draw {2 ** (len(self.channels) + 1)} pixels, "
                f"not {self.resolution}; give one count for each of 4, 8, ... pixels."
            )
        if (
            not 8 <= self.start_resolution <= self.resolution
            or math.log2(self.start_resolution) % 1
        ):
            raise ValueError(
                "The start resolution must be a power of two from 8 to the resolution."
            )
        judge = self.discriminator_channels
        if judge is not None and len(judge) != len(self.channels):
            raise ValueError("Give the discriminator as many channel counts as the generator.")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ValueError("The precision must be auto, bfloat16 or float32.")
        if self.batch < 4 or self.batch % 4:
            raise ValueError("The batch must be a multiple of four.")


@dataclass(frozen=True)
class LogLine:
    """One line of the log, over the steps since the last one.

    Attributes:
        images: real pictures shown so far at this resolution.
        rate: pictures a second.
        real, fake: mean logits of the discriminator.
        heads_real, heads_fake: mean logits of the projected heads; 0 without them.
        faces_real, faces_fake: of those that look at faces.
    """

    resolution: int
    images: int
    rate: float
    real: float
    fake: float
    r1: float
    path_length: float
    heads_real: float
    heads_fake: float
    faces_real: float
    faces_fake: float


class DivergedError(ArithmeticError):
    """The networks' numbers are no longer finite; what was saved before is sound."""
