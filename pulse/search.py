"""The search: spherical gradient descent in the latent space of a generator.

PULSE (Menon et al., CVPR 2020): among the pictures that a generator draws, find some whose
downscaled version is the given one. `search` is an iterable of states: to watch, iterate; to
cancel, stop; the last state is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pulse.latent import LatentPrior, SphericalAdam, to_sphere
from pulse.losses import geocross, squared_error
from stylegan import Generator

Degradation = Callable[[Float[Tensor, "b 3 h h"]], Float[Tensor, "b 3 l l"]]


class Status(StrEnum):
    """How a candidate ended."""

    FOUND = "found"
    NOT_CONVERGED = "not_converged"
    NONFINITE = "nonfinite"

    @property
    def advice(self) -> str:
        """What it means and what to try, in one sentence."""
        return {
            Status.FOUND: "It downscales to the input within the tolerance.",
            Status.NOT_CONVERGED: "It is not close enough: try more steps, more candidates, or a "
            "picture framed like the generator's faces.",
            Status.NONFINITE: "The numbers overflowed and it was stopped: try another seed.",
        }[self]


@dataclass(frozen=True)
class SearchConfig:
    """How to search. The defaults are the preset `default`; `PAPER` is the publication's recipe.

    Attributes:
        steps: gradient steps.
        tolerance: largest mean squared error, on [0, 1] RGB at LR size, that counts as a match.
        lr: Adam's learning rate, before the schedule.
        geocross: weight of GEOCROSS beside 100 * MSE.
        noise_layers: how many of the first noise inputs are searched as well.
        draws: latents drawn for each candidate, of which the nearest to the input starts; 0 starts
            every layer at a point of its own as the paper does.
        goal: share of the tolerance below which the error counts no more; from there on only
            GEOCROSS acts. The paper's goal is the tolerance itself.
    """

    steps: int = 100
    tolerance: float = 1e-3
    lr: float = 0.2
    geocross: float = 0.005
    noise_layers: int = 5
    draws: int = 64
    goal: float = 0.3

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("The search needs at least one step.")
        if not 0 < self.tolerance < math.inf:
            raise ValueError("The tolerance must be a positive number.")


PAPER = SearchConfig(lr=0.4, geocross=0.05, draws=0, goal=1.0)
PRESETS = {"default": SearchConfig(), "paper": PAPER}


@dataclass(frozen=True)
class State:
    """Where the search stands after a step. Step 0 is the start.

    Attributes:
        step: steps done.
        steps: steps in all.
        error: [n], each candidate's error at this step.
        images: [n, 3, R, R] in [0, 1], each candidate's best so far.
        low: [n, 3, l, l], the same, downscaled.
        ws: [n, L, w_dim], the latents that drew it.
        noise: the noise inputs that drew it, each [n, 1, h, w].
        best: [n], the error of that picture.
        best_step: [n], the step that it was met at.
        status: [n], what would be said if the search stopped here.
    """

    step: int
    steps: int
    error: Float[Tensor, " n"]
    images: Float[Tensor, "n 3 r r"]
    low: Float[Tensor, "n 3 l l"]
    ws: Float[Tensor, "n L w_dim"]
    noise: tuple[Float[Tensor, "n 1 h w"], ...]
    best: Float[Tensor, " n"]
    best_step: Int[Tensor, " n"]
    status: tuple[Status, ...]


def linear1cycledrop(progress: float) -> float:
    """The paper's learning rate schedule: up and down over 90% of the steps, then towards zero."""
    if progress < 0.9:
        return (9 * (1 - abs(progress / 0.9 - 0.5) * 2) + 1) / 10
    return 0.1 + (progress - 0.9) / 0.1 * (0.001 - 0.1)


def search(
    generator: Generator,
    target: Float[Tensor, "*n 3 l l"],
    seeds: Sequence[int],
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
) -> Iterator[State]:
    """Search for pictures that `degrade` turns into the target, one per seed.

    Candidates share batches but nothing else: each has its own random numbers and its own loss.

    Args:
        target: what to match in [0, 1]; one for all candidates or one for each.
        seeds: one per candidate.
        degrade: HR -> LR on pictures in [0, 1].
        prior: of the generator, if it was fitted before.

    Yields:
        The state at the start and after every step: `steps` + 1 in all.
    """
    config = config or SearchConfig()
    prior = prior or LatentPrior.fit(generator)
    target = target.to(generator.device).expand(len(seeds), *target.shape[-3:])
    v, noise = _start(generator, prior, target, seeds, degrade, config)
    searched = [v, *noise[: config.noise_layers]]
    for parameter in searched:
        parameter.requires_grad_()
    adam = SphericalAdam(searched, config.lr)
    tracker = _Tracker(config, len(seeds))

    for step in range(config.steps + 1):
        ws = prior.to_w(v)
        images = (generator.synthesis(ws, noise) + 1) / 2
        low = degrade(images)
        error = squared_error(low, target)
        loss = 100 * error.clamp_min(config.goal * config.tolerance)
        loss = loss + config.geocross * geocross(v)
        yield tracker.update(step, images, degrade, target, ws, noise, loss)
        if step == config.steps:
            return
        gradients = torch.autograd.grad(loss.sum(), searched)
        for parameter, gradient in zip(searched, gradients, strict=True):
            # A candidate that overflowed stays where it is and must not stop the others.
            parameter.grad = torch.nan_to_num(gradient, 0.0, 0.0, 0.0)
        adam.step(linear1cycledrop(step / config.steps))


def _start(
    generator: Generator,
    prior: LatentPrior,
    target: Float[Tensor, "n 3 l l"],
    seeds: Sequence[int],
    degrade: Degradation,
    config: SearchConfig,
) -> tuple[Float[Tensor, "n L w_dim"], list[Float[Tensor, "n 1 h w"]]]:
    """Latents and noise on their spheres, from each candidate's own random numbers."""
    device, layers = generator.device, generator.num_layers
    latents: list[Tensor] = []
    noises: list[list[Tensor]] = []
    for seed, wanted in zip(seeds, target, strict=True):
        rng = torch.Generator().manual_seed(seed)
        noise = [torch.randn(1, 1, *shape, generator=rng) for shape in generator.noise_shapes]
        noise = [to_sphere(x, math.sqrt(x.numel()), (2, 3)).to(device) for x in noise]
        if config.draws == 0:
            v = torch.randn(layers, prior.mean.numel(), generator=rng).to(device)
        else:
            z = torch.randn(config.draws, generator.z_dim, generator=rng).to(device)
            v = _nearest(generator, prior, z, noise, wanted, degrade)
        latents.append(to_sphere(v, math.sqrt(v.shape[-1])))
        noises.append(noise)
    return torch.stack(latents), [torch.cat(parts) for parts in zip(*noises, strict=True)]


@torch.no_grad()
def _nearest(
    generator: Generator,
    prior: LatentPrior,
    z: Float[Tensor, "k z_dim"],
    noise: list[Float[Tensor, "1 1 h w"]],
    target: Float[Tensor, "3 l l"],
    degrade: Degradation,
) -> Float[Tensor, "L w_dim"]:
    """Of many draws, the latent whose picture is nearest to the target."""
    w = generator.mapping(z)
    v = to_sphere(prior.from_w(w), math.sqrt(w.shape[-1]))
    errors: list[Tensor] = []
    for part in v.split(8):
        ws = prior.to_w(part)[:, None].expand(-1, generator.num_layers, -1)
        images = generator.synthesis(ws, [x.expand(len(ws), -1, -1, -1) for x in noise])
        errors.append(squared_error(degrade((images + 1) / 2), target))
    return v[torch.cat(errors).argmin()].expand(generator.num_layers, -1)


class _Tracker:
    """Keeps each candidate's best picture with the latents and the error of the same step."""

    def __init__(self, config: SearchConfig, count: int) -> None:
        self.config = config
        self.state: State | None = None
        self.overflowed = torch.zeros(count, dtype=torch.bool)

    @torch.no_grad()
    def update(
        self,
        step: int,
        images: Tensor,
        degrade: Degradation,
        target: Tensor,
        ws: Tensor,
        noise: list[Tensor],
        loss: Tensor,
    ) -> State:
        # What counts is the picture that can be saved, so colours out of range do not.
        images = images.clamp(0, 1)
        low = degrade(images)
        error = squared_error(low, target)
        self.overflowed |= ~loss.isfinite().cpu()
        error = torch.where(loss.isfinite(), error, torch.inf)
        old = self.state
        if old is None:
            better = torch.ones_like(error, dtype=torch.bool)
        else:
            # Below the goal all errors count the same, and the last of those pictures is kept: it
            # is the one that GEOCROSS had most time to work on.
            goal = self.config.goal * self.config.tolerance
            better = error.clamp_min(goal) <= old.best.clamp_min(goal)

        def keep(new: Tensor, kept: Tensor) -> Tensor:
            return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, kept)

        steps = torch.full_like(error, step, dtype=torch.int64)
        if old is None:
            best = (images, low, ws.clone(), [x.clone() for x in noise], error, steps)
        else:
            best = (
                keep(images, old.images),
                keep(low, old.low),
                keep(ws, old.ws),
                [keep(new, kept) for new, kept in zip(noise, old.noise, strict=True)],
                keep(error, old.best),
                keep(steps, old.best_step),
            )
        self.state = State(
            step,
            self.config.steps,
            error,
            best[0],
            best[1],
            best[2],
            tuple(best[3]),
            best[4],
            best[5],
            tuple(map(self._status, best[4].tolist(), self.overflowed.tolist())),
        )
        return self.state

    def _status(self, error: float, overflowed: bool) -> Status:
        if error <= self.config.tolerance:
            return Status.FOUND
        return Status.NONFINITE if overflowed else Status.NOT_CONVERGED
