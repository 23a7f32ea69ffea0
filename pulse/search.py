"""The search: spherical gradient descent in the latent space of a generator.

PULSE (Menon et al., CVPR 2020): among the pictures that a generator draws, find some whose
downscaled version is the given one. `search` is an iterable of states: to watch, iterate; to
cancel, stop; the last state is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pulse.chunks import in_chunks
from pulse.latent import LatentPrior, to_sphere
from pulse.losses import geocross, squared_error
from pulse.optimise import SphericalAdam, SphericalLBFGS
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
        steps: pictures judged per candidate, the start not counted.
        tolerance: largest mean squared error, on [0, 1] RGB at LR size, that counts as a match.
        optimiser: `lbfgs`, which takes curvature into account, or the paper's `adam`.
        lr: Adam's learning rate, before the schedule.
        geocross: weight of GEOCROSS beside 100 * MSE.
        noise_layers: how many of the first noise inputs are searched as well.
        draws: latents drawn for each candidate, of which the nearest to the input starts; 0 starts
            every layer at a point of its own as the paper does.
        goal: share of the tolerance below which the error counts no more.
        stop: whether a candidate that reaches the goal is done; else all steps are taken.
    """

    steps: int = 100
    tolerance: float = 1e-3
    optimiser: Literal["lbfgs", "adam"] = "lbfgs"
    lr: float = 0.4
    geocross: float = 0.002
    noise_layers: int = 5
    draws: int = 64
    goal: float = 0.3
    stop: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("The search needs at least one step.")
        if not 0 < self.tolerance <= 1:  # The largest error there can be.
            raise ValueError("The tolerance must be a number above 0 and at most 1.")

    def with_noise(self, sigma: float) -> SearchConfig:
        """The same for a target with noise of that standard deviation, on [0, 1].

        Independent noise adds sigma^2 to the expected error of any picture, the true one included,
        so tolerance and goal both go up by that: going lower would fit the noise (Morozov's
        discrepancy principle).
        """
        if sigma == 0:
            return self
        tolerance = min(self.tolerance + sigma**2, 1.0)
        goal = (self.goal * self.tolerance + sigma**2) / tolerance
        return replace(self, tolerance=tolerance, goal=goal)


PAPER = SearchConfig(optimiser="adam", geocross=0.05, draws=0, goal=1.0, stop=False)
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
        overflowed: [n], whether the candidate was given up because its numbers are not finite.
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
    overflowed: Bool[Tensor, " n"]
    status: tuple[Status, ...]


def search(
    generator: Generator,
    target: Float[Tensor, "*n 3 l l"],
    seeds: Sequence[int],
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
    batch: int | None = None,
) -> Iterator[State]:
    """Search for pictures that `degrade` turns into the target, one per seed.

    Candidates share nothing: each has its own random numbers, loss, and course. Drawn one at a time
    they are the same to the last bit whoever else is searched for; drawn together they differ by
    rounding, which a hundred steps amplify to visible differences.

    Args:
        target: what to match in [0, 1]; one for all candidates or one for each. NaN is ignored.
        seeds: one per candidate.
        degrade: HR -> LR on pictures in [0, 1].
        prior: of the generator, if it was fitted before.
        batch: candidates drawn at once; None is one on a CPU, for the sake of the same bits in any
            company although four together take about two thirds of the time, and 16 elsewhere.
            Where memory does not hold so many, fewer are drawn at once.

    Raises:
        MemoryError: there is too little memory for one candidate.

    Yields:
        The state at the start and after every step; it ends early when all candidates are done.
    """
    config = config or SearchConfig()
    prior = prior or LatentPrior.fit(generator)
    if batch is None:
        batch = 1 if generator.device.type == "cpu" else 16
    target = target.to(generator.device).expand(len(seeds), *target.shape[-3:])
    v, noise = _start(generator, prior, target, seeds, degrade, config)
    searched, fixed = noise[: config.noise_layers], noise[config.noise_layers :]
    if config.optimiser == "adam":
        optimiser = SphericalAdam([v, *searched], config.lr, config.steps)
    else:
        optimiser = SphericalLBFGS([v, *searched])
    active = torch.ones(len(seeds), dtype=torch.bool, device=generator.device)
    state: State | None = None

    for step in range(config.steps + 1):
        point = optimiser.point

        def draw(part: Tensor, point: list[Tensor] = point) -> _Drawn:
            return _draw(generator, prior, degrade, config, point, fixed, target, part)

        # Only the candidates that are not done are drawn.
        parts, batch = in_chunks(draw, torch.nonzero(active).flatten(), batch)
        drawn = _join(parts)
        state = _keep_best(state, step, config, active, drawn)
        yield state

        active = active & ~state.overflowed
        if config.stop:
            active = active & (state.best > config.goal * config.tolerance)
        if not active.any():
            return
        loss, gradients = drawn.spread(len(seeds))
        optimiser.step(loss, gradients, active)


@dataclass(frozen=True)
class _Drawn:
    """Some candidates as they are at one step.

    Attributes:
        index: which they are.
        images, low, ws, noise, error: as in `State`.
        loss: what is minimised, and `gradients`, by the point that the optimiser moves.
        sound: whether all is finite.
    """

    index: Int[Tensor, " k"]
    images: Float[Tensor, "k 3 r r"]
    low: Float[Tensor, "k 3 l l"]
    ws: Float[Tensor, "k L w_dim"]
    noise: list[Tensor]
    error: Float[Tensor, " k"]
    loss: Float[Tensor, " k"]
    gradients: list[Tensor]
    sound: Bool[Tensor, " k"]

    def spread(self, count: int) -> tuple[Float[Tensor, " n"], list[Tensor]]:
        """Loss and gradients for all `count` candidates, zero for those that are not here."""

        def place(values: Tensor) -> Tensor:
            return values.new_zeros(count, *values.shape[1:]).index_copy(0, self.index, values)

        return place(self.loss), [place(gradient) for gradient in self.gradients]


def _draw(
    generator: Generator,
    prior: LatentPrior,
    degrade: Degradation,
    config: SearchConfig,
    point: list[Tensor],
    fixed: list[Tensor],
    target: Float[Tensor, "n 3 l l"],
    index: Int[Tensor, " k"],
) -> _Drawn:
    """Draw and judge the candidates of `index` at their points."""
    point = [x.detach()[index].requires_grad_() for x in point]
    noise = [*point[1:], *(x[index] for x in fixed)]
    target = target[index]
    ws = prior.to_w(point[0])
    images = (generator.synthesis(ws, noise) + 1) / 2
    error = squared_error(degrade(images), target)
    loss = 100 * error.clamp_min(config.goal * config.tolerance)
    loss = loss + config.geocross * geocross(point[0])
    gradients = torch.autograd.grad(loss.sum(), point)
    with torch.no_grad():
        sound = loss.isfinite()
        # What counts is the picture that can be saved, so colours out of range do not.
        images = images.clamp(0, 1).nan_to_num(0.0)
        low = degrade(images)
        error = torch.where(sound, squared_error(low, target), torch.inf)
    noise = [x.detach() for x in noise]
    return _Drawn(
        index, images, low, ws.detach(), noise, error, loss.detach(), list(gradients), sound
    )


def _join(parts: Sequence[_Drawn]) -> _Drawn:
    def lists(name: str) -> list[Tensor]:
        return [torch.cat(some) for some in zip(*(getattr(p, name) for p in parts), strict=True)]

    def tensors(name: str) -> Tensor:
        return torch.cat([getattr(p, name) for p in parts])

    return _Drawn(
        tensors("index"),
        tensors("images"),
        tensors("low"),
        tensors("ws"),
        lists("noise"),
        tensors("error"),
        tensors("loss"),
        lists("gradients"),
        tensors("sound"),
    )


def _keep_best(
    old: State | None,
    step: int,
    config: SearchConfig,
    active: Bool[Tensor, " n"],
    new: _Drawn,
) -> State:
    """The next state: each candidate's best picture with the latents and error of the same step."""
    if old is None:
        error, best = new.error, new.error
        images, low, ws, noise = new.images, new.low, new.ws, tuple(new.noise)
        best_step = torch.zeros_like(error, dtype=torch.int64)
        overflowed = ~new.sound
    else:
        error = old.error.index_put((active,), new.error)
        # Errors below the goal count the same, and the last of those pictures is kept: it is the
        # one that GEOCROSS had most time to work on.
        goal = config.goal * config.tolerance
        better = new.error.clamp_min(goal) <= old.best[active].clamp_min(goal)
        better = better & new.sound
        which = (new.index[better],)
        best = old.best.index_put(which, new.error[better])
        images = old.images.index_put(which, new.images[better])
        low = old.low.index_put(which, new.low[better])
        ws = old.ws.index_put(which, new.ws[better])
        noise = tuple(
            kept.index_put(which, x[better]) for kept, x in zip(old.noise, new.noise, strict=True)
        )
        best_step = old.best_step.index_put(which, torch.tensor(step, device=best.device))
        overflowed = old.overflowed
        # Adam would carry an overflow along; the line search takes it back and steps shorter.
        if config.optimiser == "adam":
            overflowed = overflowed.index_put((active,), ~new.sound)
    status = tuple(
        Status.FOUND
        if value <= config.tolerance
        else Status.NONFINITE
        if broken
        else Status.NOT_CONVERGED
        for value, broken in zip(best.tolist(), overflowed.tolist(), strict=True)
    )
    return State(
        step, config.steps, error, images, low, ws, noise, best, best_step, overflowed, status
    )


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

    def judge(part: Tensor) -> Tensor:
        ws = prior.to_w(part)[:, None].expand(-1, generator.num_layers, -1)
        images = generator.synthesis(ws, [x.expand(len(ws), -1, -1, -1) for x in noise])
        return squared_error(degrade((images + 1) / 2), target)

    # As many at once as have about the pixels of eight of 128x128.
    errors, _ = in_chunks(judge, v, max(1, 8 * 128**2 // generator.resolution**2))
    return v[torch.cat(errors).nan_to_num(torch.inf).argmin()].expand(generator.num_layers, -1)
