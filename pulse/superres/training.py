"""The state of a training, and one step of it."""

from __future__ import annotations

import copy
import math
import pickle
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from pulse.superres import losses
from pulse.superres.discriminators import Discriminator
from pulse.superres.pairs import Pair, Source
from pulse.superres.training_config import Stage, TrainConfig, TrainingProgress
from pulse.superres.weights import AnyNetwork, NetworkError, build
from stylegan.files import whole
from stylegan.precision import multiplies_bfloat16
from stylegan.training_config import DivergedError

_FADE = 0.98


class Training:
    """The networks, their optimisers and where training stands; `advance` is one step."""

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device | str = "cpu",
        start: AnyNetwork | None = None,
    ) -> None:
        """Begin anew, or with the weights of a network of the same sizes."""
        self.config, self.device = config, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = build(config.network)
            self.judge = self._new_judge() if config.gan else None
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        for module in (self.network, self.judge):
            if module is not None:
                module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.features = None
        if config.loss == "perceptual":
            self.features = losses.load_features(config.vgg, config.adversarial, self.device)
        self.rng = torch.Generator().manual_seed(config.seed)
        self.step = self.stage_step = 0
        self.seconds = 0.0
        self.stage: Stage = next(stage for stage, end in self._ends().items() if end > 0)
        self._optimise()
        self.means = torch.zeros(4, device=self.device)
        self.precision = _precision(config, self.device)

    def _new_judge(self) -> nn.Module:
        return Discriminator(self.config.discriminator)

    def _optimise(self) -> None:
        self.adam = torch.optim.Adam(self.network.parameters(), fused=True)
        self.judge_adam = (
            torch.optim.Adam(self.judge.parameters(), fused=True) if self.judge else None
        )

    @property
    def done(self) -> float:
        """Share of the whole training."""
        steps, minutes = self.config.steps, self.config.minutes
        by_steps = 0.0 if steps is None else self.step / steps
        by_time = 0.0 if minutes is None else self.seconds / (60 * minutes)
        return min(1.0, max(by_steps, by_time))

    def _ends(self) -> dict[Stage, float]:
        """The stages in their order, and the share of the training at which each is over."""
        ends: dict[Stage, float] = {"content": self.config.content_share}
        if self.config.gan:
            ends["gan"] = 1.0
        return ends

    @property
    def stage_is_over(self) -> bool:
        return self.done >= self._ends()[self.stage]

    @property
    def next_stage(self) -> Stage | None:
        stages = [*self._ends(), None]
        return stages[stages.index(self.stage) + 1]

    def begin(self, stage: Stage) -> None:
        """Go on from the averaged weights, as for instance against the discriminator."""
        self.network.load_state_dict(self.average.state_dict())
        self.stage, self.stage_step = stage, 0
        self._optimise()

    def advance(self, pairs: Source) -> TrainingProgress:
        """One step.

        Raises:
            DivergedError: the numbers are no longer finite.
        """
        begin = time.monotonic()
        pair = pairs.draw(self.config.batch, self.rng, self.device)
        self._set_rates()
        self.network.train()
        loss, now = self._losses(pair)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self._update_average()
        self.means = now if not self.stage_step else torch.lerp(now, self.means, _FADE)
        if not self.means.isfinite().all():
            raise DivergedError(
                f"Training diverged at step {self.step}: go on from what was saved with a lower "
                "learning rate."
            )
        self.step += 1
        self.stage_step += 1
        elapsed = time.monotonic() - begin
        self.seconds += elapsed
        return self.progress(1 / elapsed)

    def progress(self, rate: float) -> TrainingProgress:
        """How it stands, with the rate in steps a second."""
        content, adversarial, real, fake = self.means.tolist()
        return TrainingProgress(
            self.step, self.done, self.stage, rate,
            content=content, adversarial=adversarial, real=real, fake=fake,
        )  # fmt: skip

    def _set_rates(self) -> None:
        """A linear rise and a cosine's fall to nothing, over each stage."""
        config, ends = self.config, self._ends()
        lr, end = config.gan_lr if self.stage == "gan" else config.lr, ends[self.stage]
        begin = max((other for other in ends.values() if other < end), default=0.0)
        place = (self.done - begin) / max(end - begin, 1e-9)
        rate = lr * (1 + math.cos(math.pi * min(max(place, 0.0), 1.0))) / 2
        rate *= min(1.0, (self.stage_step + 1) / max(config.warmup, 1))
        for adam in (self.adam, self.judge_adam):
            if adam is not None:
                adam.param_groups[0]["lr"] = rate

    def _losses(self, pair: Pair) -> tuple[Float[Tensor, ""], Float[Tensor, " 4"]]:
        """What is brought down; and to be told: its content, the adversarial loss, mean logits."""
        sr, other = self._drawn(pair.lr)
        hr = pair.hr.flatten(0, -4)
        content = self._content(sr, hr) + other
        if self.stage != "gan":
            return content, told_alone(content)
        seen = self._seen(sr)
        by_sr, judged = self._judged(seen, self._seen(hr))
        # A loss whose gradient by the pictures is that of the adversarial one.
        loss = content + self.config.adversarial_weight * (seen * by_sr).sum()
        return loss, torch.cat((content.detach()[None], judged))

    def _seen(self, images: Tensor) -> Float[Tensor, "b c h w"]:
        """What of the pictures the discriminator looks at."""
        return images

    def _drawn(
        self, lr: Float[Tensor, "b *t 3 h w"]
    ) -> tuple[Float[Tensor, "n 3 H W"], Float[Tensor, ""]]:
        """What the network makes of it, and a loss of how it got there."""
        lr = lr.contiguous(memory_format=torch.channels_last)
        nothing = lr.new_zeros(())
        if self.precision == torch.float32:
            return self.network(lr), nothing
        lower = lowered(self.network, self.precision)
        return functional_call(self.network, lower, (lr,)), nothing

    def _content(
        self, sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, ""]:
        config = self.config
        if self.features is not None and (self.stage == "gan" or not config.gan):
            loss = losses.perceptual_loss(self.features, sr, hr)
            return loss + config.pixel * F.l1_loss(sr, hr) if config.pixel else loss
        return F.mse_loss(sr, hr) if config.loss == "mse" else F.l1_loss(sr, hr)

    def _judged(
        self, sr: Float[Tensor, "b 3 h w"], hr: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, " 3"]]:
        """Update the discriminator.

        Unlike in the papers one look at each picture gives both networks their gradients.

        Returns:
            The gradient of the adversarial loss by the drawn pictures; that loss and the mean
            logits, real and fake.
        """
        assert self.judge is not None
        assert self.judge_adam is not None
        seen = sr.detach().requires_grad_()
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
        ):
            real, fake = self.judge(hr), self.judge(seen)
        if self.config.adversarial == "relativistic":
            loss = losses.relativistic_loss(real.detach(), fake)
            judge_loss = losses.relativistic_judge_loss(real, fake)
        else:
            loss = losses.vanilla_loss(fake)
            judge_loss = losses.vanilla_judge_loss(real, fake)
        (by_seen,) = torch.autograd.grad(loss, seen, retain_graph=True)
        self.judge_adam.zero_grad()
        judge_loss.backward()
        self.judge_adam.step()
        return by_seen, torch.stack((loss, real.mean(), fake.mean())).detach()

    @torch.no_grad()
    def _update_average(self) -> None:
        # The first steps' weights are soon forgotten.
        kept = min(self.config.average, (1 + self.stage_step) / (10 + self.stage_step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for old, new in pairs:
            old.lerp_(new, 1 - kept)
        for old, new in zip(self.average.buffers(), self.network.buffers(), strict=True):
            old.copy_(new)

    def save(self, path: Path) -> None:
        """Write all that `restore` needs, whole or not at all."""
        with whole(path) as file:
            torch.save(self._state(), file)

    def _state(self) -> dict[str, Any]:
        return {
            "shape": self._shape(),
            "step": self.step,
            "stage_step": self.stage_step,
            "stage": self.stage,
            "seconds": self.seconds,
            "rng": self.rng.get_state(),
            "means": self.means,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        parts = {"network": self.network, "average": self.average, "adam": self.adam}
        if self.judge is not None and self.judge_adam is not None:
            parts |= {"judge": self.judge, "judge_adam": self.judge_adam}
        return parts

    def _shape(self) -> dict[str, str]:
        """What a saved state has to agree in with the settings that go on from it."""
        judge = str(self.config.discriminator) if self.config.gan else "no discriminator"
        return {"network": str(self.config.network), "discriminator": judge}

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            NetworkError: the file is not such a state, or of other networks.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            shape = state["shape"]
        except (
            OSError, EOFError, RuntimeError, LookupError, TypeError, ValueError, AttributeError,
            pickle.UnpicklingError,
        ) as e:  # fmt: skip
            raise NetworkError(
                f"{path} is not a training state that can be read; move it away to start anew."
            ) from e
        if shape != self._shape():
            raise NetworkError(
                f"{path} was trained with {', '.join(shape.values())}; give the same sizes, or "
                "another folder with -o."
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.stage_step = state["step"], state["stage_step"]
        self.stage, self.seconds = state["stage"], state["seconds"]
        self.rng.set_state(state["rng"])
        self.means = state["means"].to(self.device)


def told_alone(content: Float[Tensor, ""]) -> Float[Tensor, " 4"]:
    """What is told of a step without a discriminator."""
    return F.pad(content.detach()[None], (0, 3))


def lowered(network: nn.Module, precision: torch.dtype) -> dict[str, Tensor]:
    """A network's weights in a lower precision, which gradients go through to its own.

    As in `weights.load` the last convolution stays as it is; so does batch norm.
    """
    kept = {
        f"{name}.{own}"
        for name, part in network.named_modules()
        if isinstance(part, nn.BatchNorm2d) or name == "last"
        for own, _ in part.named_parameters(recurse=False)
    }
    return {n: p if n in kept else p.to(precision) for n, p in network.named_parameters()}


def _precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    wanted = config.precision
    if wanted == "auto":
        wanted = "bfloat16" if multiplies_bfloat16(device) else "float32"
    return torch.bfloat16 if wanted == "bfloat16" else torch.float32
