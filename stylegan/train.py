"""Train a StyleGAN2 on a folder of pictures.

The recipe is StyleGAN2's (non-saturating loss, lazy R1, averaged weights, style mixing) made cheap
enough for a CPU: both networks learn from one pass (see `_step`), the discriminator works on
patches, and training starts at a low resolution and grows.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stylegan.augment import augment
from stylegan.checkpoints import (
    CheckpointError,
    open_checkpoint,
    open_discriminator,
    read_metadata,
    save,
    save_judge,
)
from stylegan.dataset import Pictures
from stylegan.discriminator import Discriminator
from stylegan.files import whole
from stylegan.mapping import SEED
from stylegan.precision import multiplies_bfloat16
from stylegan.projected import ProjectedJudges
from stylegan.sheet import save_sheet
from stylegan.stylegan2 import Block, StyleGAN2, StyleGAN2Config
from stylegan.training_config import DivergedError, LogLine, TrainConfig
from stylegan.widen import widen

R1_INTERVAL = 16
PATH_INTERVAL = 8
INITIAL = 1_000_000
"""Added to the seed for the first weights, lest they be the latents of that seed: see `SEED`."""
SETTLING = 256
"""Pictures whose features tell the heads that look at faces what is usual."""
FILES = ("generator.safetensors", "discriminator.safetensors", *ProjectedJudges.FILES)


class Trainer:
    """Both networks, their optimisers and where training stands; `run` goes on from there."""

    def __init__(self, config: TrainConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(INITIAL + config.seed)
        levels = int(math.log2(config.start_resolution)) - 1
        channels = config.channels[:levels]
        self.generator = StyleGAN2(StyleGAN2Config(channels=channels), self._precision)
        self.discriminator = Discriminator((config.discriminator_channels or channels)[:levels])
        weights = config.projected, config.faces
        self.judges = ProjectedJudges(weights, self.device, self._precision, config.seed)
        self.images = 0  # Shown at this resolution.
        self.seen = 0  # Shown in all, also before `start_from`.
        self.path_mean = torch.zeros([], device=self.device)
        self.rng = torch.Generator(self.device).manual_seed(config.seed)
        self._prepare()
        self.average = copy.deepcopy(self.generator).requires_grad_(False)

    @property
    def _precision(self) -> torch.dtype:
        wanted = self.config.precision
        if wanted == "auto":
            wanted = "bfloat16" if multiplies_bfloat16(self.device) else "float32"
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32

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
            **self.judges.state(),
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
            "discriminator_channels": list(config.discriminator_channels or config.channels),
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
        self.discriminator = Discriminator.of(state["discriminator"])
        self._prepare()
        self.images, self.seen = state["images"], state["seen"]
        for name in ("generator", "average", "generator_adam", "discriminator_adam"):
            getattr(self, name).load_state_dict(state[name])
        self.judges.restore(state)
        self.path_mean = state["path_mean"].to(self.device)
        self.rng.set_state(state["rng"])

    def start_from(self, files: Sequence[Path]) -> None:
        """Begin with networks trained before instead of random ones; pictures count from zero.

        Args:
            files: generator, discriminator and both kinds of heads, as `save` wrote `FILES`. Heads
                are taken if they are there, and none of the judges with
                `TrainConfig.judges_first`. A generator with fewer channels is widened.
        """
        generator, discriminator, *heads = files
        trained = open_checkpoint(generator, precision=self._precision)
        if not isinstance(trained, StyleGAN2):
            raise CheckpointError(f"{generator} is a {trained.family}; only StyleGAN2 is trained.")
        if self.generator.resolution > trained.resolution:
            raise CheckpointError(
                f"{generator} draws {trained.resolution} pixels; give that as start resolution."
            )
        while self.generator.resolution < min(trained.resolution, self.config.resolution):
            self.grow()
        try:
            trained = widen(trained, self.generator.config)
        except ValueError as error:
            raise CheckpointError(
                f"{generator} has channels {trained.config.channels} and other sizes of its own; "
                "ask for the same, or for more."
            ) from error
        self.seen = int(read_metadata(generator).get("trained_images", "0"))
        self.generator.load_state_dict(trained.state_dict())
        self.average.load_state_dict(trained.state_dict())
        if self.config.judges_first:
            return
        self.discriminator = open_discriminator(
            discriminator, self.generator.resolution, self.config.discriminator_channels
        )
        self._prepare()
        self.judges.load(heads, self.seen)

    def save(self, folder: Path) -> None:
        """Write the state and the averaged generator, each whole or not at all."""
        with whole(folder / "state.pt") as file:
            torch.save(self.state(), file)
        exported = copy.deepcopy(self.average)
        rng = torch.Generator(self.device).manual_seed(SEED)
        z = torch.randn(20_000, exported.z_dim, generator=rng, device=self.device)
        exported.w_mean.copy_(exported.mapping(z).mean(0))
        notes = {
            "trained_images": str(self.seen),
            "trained_images_at_resolution": str(self.images),
            "training": json.dumps(asdict(self.config)),
        }
        generator, discriminator, *heads = (folder / name for name in FILES)
        save(exported, generator, notes)
        save_judge(self.discriminator, discriminator)
        self.judges.save(heads)

    @torch.no_grad()
    def sample_sheet(self, path: Path, count: int = 100) -> None:
        """Write a sheet of pictures drawn without truncation, always from the same latents."""
        rng = torch.Generator().manual_seed(SEED)
        z = torch.randn(count, self.average.z_dim, generator=rng).to(self.device)
        images: list[Tensor] = []
        for part in z.split(self.config.batch):
            ws = self.average.mapping(part)[:, None].expand(-1, self.average.num_layers, -1)
            images.append(self.average.synthesis(ws).cpu())
        save_sheet(torch.cat(images), path)

    def run(self, data: Pictures, every: int = 2_000) -> Iterator[LogLine]:
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

    def _stage(self, data: Pictures, images: int, every: int) -> Iterator[LogLine]:
        batch = self.config.batch
        if self.config.faces:
            usual = data.draw(min(SETTLING, int(data.weights.count_nonzero())), torch.Generator())
            self.judges.settle(usual.pixels.to(self.device).float() / 127.5 - 1)
        data = data.to(self.device)
        start, first = time.monotonic(), self.images
        sums = torch.zeros(6, device=self.device)  # Of three kinds of logits.
        penalty = path_length = 0.0
        step = self.images // batch
        while self.images < images:
            rate = min(1.0, (self.images + batch) / max(self.config.warmup_images, 1))
            self.generator_adam.param_groups[0]["lr"] = rate * self.config.lr
            ratio = R1_INTERVAL / (R1_INTERVAL + 1)
            self.discriminator_adam.param_groups[0]["lr"] = rate * self.config.lr * ratio

            real = self._real(data)
            logits = self._step(real)
            if step % R1_INTERVAL == 0:
                penalty = self._r1_step(self._real(data))
            if self.config.path_length and step % PATH_INTERVAL == 0:
                path_length = self._path_length_step()
            self.images += batch
            self.seen += batch
            step += 1
            self._update_average()
            sums += logits * batch
            if self.images // every > (self.images - batch) // every or self.images >= images:
                shown = self.images - first
                elapsed = time.monotonic() - start
                if not (sums.isfinite().all() and math.isfinite(penalty + path_length)):
                    raise DivergedError(
                        f"Training diverged at {self.images} pictures of "
                        f"{self.generator.resolution} pixels: go on with a lower learning rate."
                    )
                own_real, own_fake, *heads = (sums / shown).tolist()
                yield LogLine(
                    self.generator.resolution,
                    self.images,
                    shown / elapsed,
                    own_real,
                    own_fake,
                    penalty,
                    path_length,
                    *heads,
                )
                start, first = time.monotonic(), self.images
                sums.zero_()

    def _real(self, data: Pictures) -> Float[Tensor, "b 3 r r"]:
        index = torch.multinomial(data.weights, self.config.batch, True, generator=self.rng)
        x = data.pixels[index].float() / 127.5 - 1
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
        mix = self._chance(count) < self.config.mixing
        ws = torch.where(mix & (layers >= crossover), second, first)
        if self.config.apart:
            ws = torch.where(self._chance(count) < self.config.apart, self._apart(first), ws)
        noise = [
            torch.randn(count, 1, *shape, generator=self.rng, device=device)
            for shape in generator.noise_shapes
        ]
        return ws, noise

    def _augmented(self, images: Float[Tensor, "b 3 r r"]) -> Float[Tensor, "b 3 r r"]:
        return augment(images, self.config.augment, self.config.colour, self.rng)

    def _chance(self, count: int) -> Float[Tensor, "b 1 1"]:
        return torch.rand(count, 1, 1, generator=self.rng, device=self.device)

    def _apart(self, w: Float[Tensor, "b 1 w"]) -> Float[Tensor, "b L w"]:
        """Each layer's w up to half way from a picture's to a random one."""
        shape = len(w), self.generator.num_layers, self.generator.z_dim
        z = torch.randn(shape, generator=self.rng, device=self.device)
        own = self.generator.mapping(z.flatten(0, 1)).unflatten(0, shape[:2])
        return torch.lerp(w, own, self._chance(len(w)) / 2)

    def _step(self, real: Tensor) -> Float[Tensor, " 6"]:
        """Update all networks from one forward pass through each; mean logits, real and fake.

        This differs from StyleGAN2, which draws and judges a second batch for the generator: here
        the same judged pictures give both gradients, which saves a third of the work.
        """
        ws, noise = self._draw(len(real))
        fake = self.generator.synthesis(ws, noise)
        judged = fake.detach().requires_grad_()
        seen = self._augmented(judged)
        fake_logits = self.discriminator(seen)
        loss = F.softplus(-fake_logits).mean()
        real = self._augmented(real)
        by_seen, heads_logits = self.judges.step(real, seen)
        # A loss whose gradient by what was seen is that of the heads.
        loss = loss + (seen * by_seen).sum()
        (by_fake,) = torch.autograd.grad(loss, judged, retain_graph=True)
        self.generator_adam.zero_grad()
        fake.backward(by_fake)

        real_logits = self.discriminator(real)
        self.discriminator_adam.zero_grad()
        (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()).backward()
        self.discriminator_adam.step()
        if self.images >= self.config.judges_first:
            self.generator_adam.step()
        own = torch.stack([real_logits.detach().mean(), fake_logits.detach().mean()])
        return torch.cat([own, heads_logits])

    def _r1_step(self, real: Tensor) -> float:
        """R1 penalty gamma / 2 * |grad D(x)|^2 on real pictures (Mescheder et al. 2018, eq. 9)."""
        gamma = self.config.r1
        if gamma is None:
            gamma = 0.0002 * self.generator.resolution**2 / self.config.batch
        x = self._augmented(real).requires_grad_()
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
