"""Train a StyleGAN2 on a folder of pictures.

The recipe is StyleGAN2's (non-saturating loss, lazy R1, averaged weights, style mixing) made cheap
enough for a CPU: both networks learn from one pass (see `_step`), the discriminator works on
patches, and training starts at a low resolution and grows.
"""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan.checkpoints import (
    CheckpointError,
    load_discriminator,
    open_checkpoint,
    read_metadata,
    save,
    save_discriminator,
)
from stylegan.dataset import Pictures
from stylegan.discriminator import Discriminator
from stylegan.stylegan2 import Block, StyleGAN2, StyleGAN2Config

R1_INTERVAL = 16
PATH_INTERVAL = 8


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        resolution: side of the final pictures.
        start_resolution: side at which training starts; it doubles up to `resolution`.
        images: real pictures shown at the final resolution.
        start_images: real pictures shown at each earlier one.
        channels: feature maps of the generator at 4, 8, 16, ... pixels.
        batch: pictures a step; a multiple of four.
        lr: Adam's learning rate for both networks.
        r1: weight gamma of the R1 penalty; None takes 0.0002 * pixels / batch (Karras et al. 2020,
            "Training GANs with limited data", appendix C).
        ema_images: half-life of the averaged weights in pictures.
        augment: probability of each augmentation for each picture, real and drawn alike; below one,
            so that what it does cannot leak into the generator.
        mixing: probability that a picture is drawn from two latents.
        path_length: weight of the path length penalty; 0 leaves it out.
        warmup_images: pictures over which the learning rate rises after the start and each growth.
        precision: type of the feature maps.
    """

    resolution: int = 128
    start_resolution: int = 64
    images: int = 1_000_000
    start_images: int = 100_000
    channels: tuple[int, ...] = (192, 192, 128, 96, 48, 24)
    batch: int = 16
    lr: float = 2e-3
    r1: float | None = None
    ema_images: int = 10_000
    augment: float = 0.6
    mixing: float = 0.5
    path_length: float = 0.0
    warmup_images: int = 2_000
    precision: Literal["bfloat16", "float32"] = "bfloat16"
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
        if self.precision not in ("bfloat16", "float32"):
            raise ValueError("The precision must be bfloat16 or float32.")
        if self.batch < 4 or self.batch % 4:
            raise ValueError("The batch must be a multiple of four.")


@dataclass(frozen=True)
class Progress:
    """One line of the log, over the steps since the last one.

    Attributes:
        images: real pictures shown so far at this resolution.
        rate: pictures a second.
        real, fake: mean logits of the discriminator.
    """

    resolution: int
    images: int
    rate: float
    real: float
    fake: float
    r1: float
    path_length: float


class DivergedError(ArithmeticError):
    """The networks' numbers are no longer finite; what was saved before is sound."""


class Trainer:
    """Both networks, their optimisers and where training stands; `run` goes on from there."""

    def __init__(self, config: TrainConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(config.seed)
        levels = int(math.log2(config.start_resolution)) - 1
        channels = config.channels[:levels]
        self.generator = StyleGAN2(StyleGAN2Config(channels=channels), self._precision)
        self.discriminator = Discriminator(channels)
        self.images = 0  # Shown at this resolution.
        self.seen = 0  # Shown in all, also before `start_from`.
        self.path_mean = torch.zeros([], device=self.device)
        self.rng = torch.Generator(self.device).manual_seed(config.seed)
        self._prepare()
        self.average = copy.deepcopy(self.generator).requires_grad_(False)

    @property
    def _precision(self) -> torch.dtype:
        return torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32

    def _prepare(self) -> None:
        self.generator.to(self.device)
        self.discriminator.to(self.device).precision = self._precision
        # Lazy regularisation: Adam is told that R1 takes part of the steps (StyleGAN2, appendix B).
        ratio = R1_INTERVAL / (R1_INTERVAL + 1)
        self.generator_adam = torch.optim.Adam(
            self.generator.parameters(), self.config.lr, (0.0, 0.99), fused=True
        )
        self.discriminator_adam = torch.optim.Adam(
            self.discriminator.parameters(), self.config.lr * ratio, (0.0, 0.99**ratio), fused=True
        )

    def grow(self) -> None:
        """Go on at twice the resolution with what was learned.

        The generator's new block adds nothing to the picture at first (its RGB weights are zero)
        and the discriminator averages the finer picture down (`Discriminator.grow`), so both start
        exactly as good as they were.
        """
        channels = self.config.channels[: len(self.generator.config.channels) + 1]
        grown = StyleGAN2(StyleGAN2Config(channels=channels), self._precision)
        averaged = copy.deepcopy(grown).requires_grad_(False)
        for network, old in ((grown, self.generator), (averaged, self.average)):
            network.load_state_dict(old.state_dict(), strict=False)
            last = network.blocks[-1]
            assert isinstance(last, Block)
            assert last.to_rgb is not None
            last.to_rgb.weight.data.zero_()
        self.generator, self.average = grown, averaged.to(self.device)
        self.discriminator = self.discriminator.grow()
        self.images = 0
        self.path_mean.zero_()
        self._prepare()

    def state(self) -> dict[str, Any]:
        return {
            "shape": self._shape(),
            "resolution": self.generator.resolution,
            "images": self.images,
            "seen": self.seen,
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_adam": self.generator_adam.state_dict(),
            "discriminator_adam": self.discriminator_adam.state_dict(),
            "path_mean": self.path_mean,
            "rng": self.rng.get_state(),
        }

    def _shape(self) -> dict[str, object]:
        """What a saved state has to agree in with the settings that go on from it."""
        config = self.config
        return {
            "resolution": config.resolution,
            "start_resolution": config.start_resolution,
            "channels": list(config.channels),
        }

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: the file is not such a state, or of other networks.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            shape = state["shape"]
        except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as e:
            raise CheckpointError(
                f"{path} is not a training state that can be read; move it away to start anew."
            ) from e
        if shape != self._shape():
            raise CheckpointError(
                f"{path} was trained with {shape}; give the same, or another output folder."
            )
        while self.generator.resolution < state["resolution"]:
            self.grow()
        self.images, self.seen = state["images"], state["seen"]
        for name in (
            "generator",
            "average",
            "discriminator",
            "generator_adam",
            "discriminator_adam",
        ):
            getattr(self, name).load_state_dict(state[name])
        self.path_mean = state["path_mean"].to(self.device)
        self.rng.set_state(state["rng"])

    def start_from(self, generator: Path, discriminator: Path) -> None:
        """Begin with networks trained before instead of random ones; pictures count from zero."""
        trained = open_checkpoint(generator)
        if not isinstance(trained, StyleGAN2):
            raise CheckpointError(f"{generator} is a {trained.family}; only StyleGAN2 is trained.")
        levels = len(trained.config.channels)
        if trained.config != StyleGAN2Config(channels=self.config.channels[:levels]):
            raise CheckpointError(
                f"{generator} has channels {trained.config.channels} and other sizes of its own; "
                "ask for the same."
            )
        if self.generator.resolution > trained.resolution:
            raise CheckpointError(
                f"{generator} draws {trained.resolution} pixels; give that as start resolution."
            )
        while self.generator.resolution < trained.resolution:
            self.grow()
        self.seen = int(read_metadata(generator).get("trained_images", "0"))
        self.generator.load_state_dict(trained.state_dict())
        self.average.load_state_dict(trained.state_dict())
        load_discriminator(self.discriminator, discriminator)

    def save(self, folder: Path) -> None:
        """Write the state and the averaged generator, each whole or not at all."""
        temporary = folder / "state.pt.part"
        torch.save(self.state(), temporary)
        os.replace(temporary, folder / "state.pt")
        exported = copy.deepcopy(self.average)
        rng = torch.Generator(self.device).manual_seed(0)
        z = torch.randn(20_000, exported.z_dim, generator=rng, device=self.device)
        exported.w_mean.copy_(exported.mapping(z).mean(0))
        notes = {
            "trained_images": str(self.seen),
            "trained_images_at_resolution": str(self.images),
            "training": json.dumps(asdict(self.config)),
        }
        save(exported, folder / "generator.safetensors", notes)
        save_discriminator(self.discriminator, folder / "discriminator.safetensors")

    @torch.no_grad()
    def sample_sheet(self, path: Path, count: int = 100) -> None:
        """Write a sheet of pictures drawn without truncation, always from the same latents."""
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(count, self.average.z_dim, generator=rng).to(self.device)
        images: list[Tensor] = []
        for part in z.split(self.config.batch):
            ws = self.average.mapping(part)[:, None].expand(-1, self.average.num_layers, -1)
            images.append(self.average.synthesis(ws).cpu())
        save_sheet(torch.cat(images), path)

    def run(self, data: Pictures, every: int = 2_000) -> Iterator[Progress]:
        """Train to the end, reporting about every `every` pictures."""
        while True:
            resolution = self.generator.resolution
            last = resolution == self.config.resolution
            yield from self._stage(
                data, self.config.images if last else self.config.start_images, every
            )
            if last:
                return
            self.grow()

    def _stage(self, data: Pictures, images: int, every: int) -> Iterator[Progress]:
        batch = self.config.batch
        start, first = time.monotonic(), self.images
        sums = torch.zeros(4)
        step = self.images // batch
        while self.images < images:
            rate = min(1.0, (self.images + batch) / max(self.config.warmup_images, 1))
            self.generator_adam.param_groups[0]["lr"] = rate * self.config.lr
            ratio = R1_INTERVAL / (R1_INTERVAL + 1)
            self.discriminator_adam.param_groups[0]["lr"] = rate * self.config.lr * ratio

            real = self._real(data)
            logits = self._step(real)
            if step % R1_INTERVAL == 0:
                sums[2] = self._r1_step(self._real(data))
            if self.config.path_length and step % PATH_INTERVAL == 0:
                sums[3] = self._path_length_step()
            self.images += batch
            self.seen += batch
            step += 1
            self._update_average()
            sums[:2] += logits.cpu() * batch
            if self.images // every > (self.images - batch) // every or self.images >= images:
                shown = self.images - first
                elapsed = time.monotonic() - start
                if not sums.isfinite().all():
                    raise DivergedError(
                        f"Training diverged at {self.images} pictures of "
                        f"{self.generator.resolution} pixels: go on with a lower learning rate."
                    )
                yield Progress(
                    self.generator.resolution,
                    self.images,
                    shown / elapsed,
                    float(sums[0] / shown),
                    float(sums[1] / shown),
                    float(sums[2]),
                    float(sums[3]),
                )
                start, first = time.monotonic(), self.images
                sums.zero_()

    def _real(self, data: Pictures) -> Float[Tensor, "b 3 r r"]:
        index = torch.multinomial(
            data.weights.to(self.device), self.config.batch, True, generator=self.rng
        )
        x = data.pixels[index.cpu()].to(self.device).float() / 127.5 - 1
        flip = torch.rand(len(x), 1, 1, 1, generator=self.rng, device=self.device) < 0.5
        x = torch.where(flip, x.flip(3), x)
        return F.avg_pool2d(x, x.shape[-1] // self.generator.resolution)

    def _draw(self, count: int) -> tuple[Float[Tensor, "b L w"], list[Tensor]]:
        """Random ws, some mixed from two latents, and random noise."""
        device, generator = self.device, self.generator
        z = torch.randn(2 * count, generator.z_dim, generator=self.rng, device=device)
        first, second = generator.mapping(z)[:, None].chunk(2)
        layers = torch.arange(generator.num_layers, device=device)[None, :, None]
        crossover = torch.randint(
            1, generator.num_layers, (count, 1, 1), generator=self.rng, device=device
        )
        mix = torch.rand(count, 1, 1, generator=self.rng, device=device) < self.config.mixing
        ws = torch.where(mix & (layers >= crossover), second, first)
        noise = [
            torch.randn(count, 1, *shape, generator=self.rng, device=device)
            for shape in generator.noise_shapes
        ]
        return ws, noise

    def _step(self, real: Tensor) -> Float[Tensor, " 2"]:
        """Update both networks from one forward pass through each.

        This differs from StyleGAN2, which draws and judges a second batch for the generator: here
        the same judged pictures give both gradients, which saves a third of the work.
        """
        ws, noise = self._draw(len(real))
        fake = self.generator.synthesis(ws, noise)
        judged = fake.detach().requires_grad_()
        probability = self.config.augment
        fake_logits = self.discriminator(augment(judged, probability, self.rng))
        (by_fake,) = torch.autograd.grad(F.softplus(-fake_logits).mean(), judged, retain_graph=True)
        self.generator_adam.zero_grad()
        fake.backward(by_fake)

        real_logits = self.discriminator(augment(real, probability, self.rng))
        self.discriminator_adam.zero_grad()
        (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()).backward()
        self.discriminator_adam.step()
        self.generator_adam.step()
        return torch.stack([real_logits.detach().mean(), fake_logits.detach().mean()])

    def _r1_step(self, real: Tensor) -> float:
        """R1 penalty gamma / 2 * |grad D(x)|^2 on real pictures (Mescheder et al. 2018, eq. 9)."""
        gamma = self.config.r1
        if gamma is None:
            gamma = 0.0002 * self.generator.resolution**2 / self.config.batch
        x = augment(real, self.config.augment, self.rng).requires_grad_()
        (gradient,) = torch.autograd.grad(self.discriminator(x).sum(), x, create_graph=True)
        penalty = gradient.square().sum((1, 2, 3)).mean()
        self.discriminator_adam.zero_grad()
        (penalty * (gamma / 2 * R1_INTERVAL)).backward()
        self.discriminator_adam.step()
        return float(penalty.detach())

    def _path_length_step(self) -> float:
        """Path length penalty (StyleGAN2, equation 4) on half a batch."""
        ws, noise = self._draw(self.config.batch // 2)
        images = self.generator.synthesis(ws, noise)
        direction = torch.randn(images.shape, generator=self.rng, device=self.device)
        product = (images * direction).sum() / self.generator.resolution
        (gradient,) = torch.autograd.grad(product, ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        self.path_mean.lerp_(lengths.detach().mean(), 0.01)
        penalty = (lengths - self.path_mean).square().mean()
        self.generator_adam.zero_grad()
        (penalty * (self.config.path_length * PATH_INTERVAL)).backward()
        self.generator_adam.step()
        return float(penalty.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        half_life = max(min(self.config.ema_images, 0.1 * self.seen), 1)
        weight = 1 - 0.5 ** (self.config.batch / half_life)
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        for old, new in pairs:
            old.lerp_(new, weight)


def augment(
    images: Float[Tensor, "b 3 r r"], probability: float, rng: torch.Generator
) -> Float[Tensor, "b 3 r r"]:
    """Shift by up to an eighth, and change brightness, saturation and contrast, each at random.

    The operations are those of differentiable augmentation (Zhao et al., NeurIPS 2020), each
    applied to a picture with the given probability as in ADA (Karras et al., NeurIPS 2020).
    """
    if probability == 0:
        return images
    count, side, device = len(images), images.shape[-1], images.device

    def uniform(low: float, high: float, neutral: float) -> Tensor:
        values = torch.rand(count, generator=rng, device=device) * (high - low) + low
        use = torch.rand(count, generator=rng, device=device) < probability
        return torch.where(use, values, neutral)[:, None, None, None]

    images = images + uniform(-0.4, 0.4, 0.0)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * uniform(0.3, 1.7, 1.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * uniform(0.6, 1.4, 1.0)

    reach = side // 8
    shift = torch.randint(-reach, reach + 1, (count, 2), generator=rng, device=device)
    use = torch.rand(count, 1, generator=rng, device=device) < probability
    padded = F.pad(images, (reach, reach, reach, reach))
    offsets = (torch.where(use, shift, 0) + reach).tolist()
    moved = [x[:, i : i + side, j : j + side] for x, (i, j) in zip(padded, offsets, strict=True)]
    return torch.stack(moved)


def save_sheet(images: Float[Tensor, "n 3 r r"], path: Path) -> None:
    """Write pictures in [-1, 1] side by side, in as square a sheet as their number allows."""
    columns = math.ceil(math.sqrt(len(images)))
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    side = images.shape[-1]
    rows = math.ceil(len(images) / columns)
    sheet = torch.zeros(rows * side, columns * side, 3, dtype=torch.uint8)
    for index, tile in enumerate(pixels):
        row, column = divmod(index, columns)
        area = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
        sheet[area] = tile.permute(1, 2, 0)
    temporary = path.with_name(path.name + ".part")
    Image.fromarray(sheet.numpy()).save(temporary, "PNG")
    os.replace(temporary, path)
