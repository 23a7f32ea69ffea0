"""Candidates on their way down, from coarse pictures to the generator's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.coarse import Coarse
from pulse.search.config import SearchConfig, Status
from pulse.search.latent import LatentPrior, to_sphere
from pulse.search.losses import geocross, squared_error, weighted_error
from pulse.search.memory import in_chunks
from pulse.search.optimisers import SphericalAdam, SphericalLBFGS
from stylegan import Generator, Noise

RACERS, RACE_STEPS = 4, 8
"""Of how many starts the best is taken, and after how many coarse steps."""
COARSE_STEPS = 12
"""Judgements of the coarse picture between two of the real one."""
ENOUGH = 0.1
"""Share of its error that a candidate keeps at least between two judgements of the real picture."""
WORTH = 0.85
"""What is left of the error after that has to be less, or the next finer level follows,"""
FINER = 0.65
"""or this where that is a coarse one, too, which costs little more."""


@dataclass(frozen=True)
class Level:
    """A cheaper way from latents to LR.

    Attributes:
        coarse: draws a picture of some side.
        degrade: turns that into LR.
        descend: whether to search on it, or only for where to start.
    """

    coarse: Coarse
    degrade: Degradation
    descend: bool = True

    def low(self, generator: Generator, ws: Tensor, noise: Noise) -> Float[Tensor, "b 3 l l"]:
        """About what the generator's picture, with its colours cut to [0, 1], is downscaled to."""
        images = (self.coarse.draw(generator, ws, noise) + 1) / 2
        return self.degrade(images.clamp(0, 1))


@dataclass(frozen=True)
class Aids:
    """What is known of a generator beforehand and makes a search shorter.

    What is given is used; `SearchConfig.coarse`, `precondition` and `whiten` tell
    `pulse.upscale.Upscaler.aids` what to give.

    Attributes:
        levels: coarse stand-ins for the generator and its degradation, cheapest first.
        scale: how far latents [L, w_dim] and noise inputs [N] move for the same slope; None is
            equally far. For L-BFGS.
        easy: [k, 3, l, l], what errors are reduced by, as `pulse.search.curvature` has it; None is
            not.
    """

    levels: Sequence[Level] = ()
    scale: tuple[Float[Tensor, "L w_dim"], Float[Tensor, " N"]] | None = None
    easy: Float[Tensor, "k 3 l l"] | None = None


NO_AIDS = Aids()


@dataclass(frozen=True)
class State:
    """Where the search stands after a step. Step 0 is the start.

    Attributes:
        step: steps done.
        steps: steps in all, as far as it is known.
        error: [n], each candidate's error at this step.
        images: [n, 3, R, R] in [0, 1], each candidate's best so far.
        low: [n, 3, l, l], the same, downscaled.
        ws: [n, L, w_dim], the latents that drew it.
        noise: the noise inputs that drew it, each [n, 1, h, w].
        best: [n], the error of that picture, before an exact last step.
        best_step: [n], the step that it was met at.
        overflowed: [n], whether the candidate was given up because its numbers are not finite.
        status: [n], what would be said if the search stopped here, likewise.
        exact: [n], the error after the exact last step, NaN where it was not taken; None before it.
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
    exact: Float[Tensor, " n"] | None = None


def usual_batch(generator: Generator) -> int:
    """How many candidates are drawn at once unless it is said.

    On a CPU, batches of four keep the many small layers of a small network busy; a large one is
    busy with one, and then needs less memory.
    """
    if generator.device.type != "cpu":
        return 16
    return 4 if generator.resolution <= 128 else 1


class Descent:
    """Candidates on their way down, one a slot, that do not see each other.

    Where there are coarse levels to search on, a candidate starts on the coarsest, at the winner of
    a race between its nearest draws. One step there follows the coarse picture, corrected by how it
    differed from the real one when that was last drawn (Bandler et al. 1994: space mapping), and
    then draws the real one once, without gradients. When that no longer brings it nearer, the next
    finer level follows, and at last the generator itself, whose steps are drawn with gradients.
    """

    def __init__(
        self,
        generator: Generator,
        prior: LatentPrior | None,
        degrade: Degradation,
        config: SearchConfig,
        slots: int,
        low: int,
        batch: int | None = None,
        aids: Aids = NO_AIDS,
    ) -> None:
        self.generator, self.degrade, self.config = generator, degrade, config
        self.prior = prior or LatentPrior.fit(generator)
        self.batch = batch or usual_batch(generator)
        self.sketch = aids.levels[0] if aids.levels else None
        self.levels = [level for level in aids.levels if level.descend]
        self.easy = aids.easy
        self.scale: list[Tensor] | None = None
        self.coarse_floor = 0.5 * config.goal * config.tolerance  # Leaves room for what is lacking.
        self.device = generator.device

        def of(value: float, *shape: int) -> Tensor:
            return torch.full((slots, *shape), value, device=self.device)

        def count() -> Int[Tensor, " n"]:
            return torch.zeros(slots, dtype=torch.int64, device=self.device)

        # Ones lie on the spheres, like the latents and noise that will take their places.
        v = of(1.0, generator.num_layers, generator.w_dim)
        noise = [of(1.0, 1, *shape) for shape in generator.noise_shapes]
        self.fixed = noise[config.noise_layers :]
        point = [v, *noise[: config.noise_layers]]
        self.optimiser: SphericalAdam | SphericalLBFGS
        if config.optimiser == "adam":
            self.optimiser = SphericalAdam(point, config.lr, config.steps)
        else:
            if aids.scale is not None:
                latent, inputs = aids.scale
                pairs = zip(inputs, point[1:], strict=False)
                self.scale = [latent, *(factor.expand(x.shape[1:]) for factor, x in pairs)]
            self.optimiser = SphericalLBFGS(point, self.scale)
        self.rngs = [torch.Generator() for _ in range(slots)]
        self.began = [-math.inf] * slots
        self.target = of(0.0, 3, low, low)
        self.plain = of(0.0, 3, low, low)  # The real small picture at the last accepted point,
        self.offset = of(0.0, 3, low, low)  # and what the coarse one lacked there.
        self.error = of(math.inf)
        self.level, self.step_of = count(), count()
        self.taken = count()  # Steps since the last new beginning.
        self.overflowed = torch.zeros(slots, dtype=torch.bool, device=self.device)
        side = generator.resolution
        self.images, self.low = of(0.0, 3, side, side), of(0.0, 3, low, low)
        self.ws, self.noise = torch.zeros_like(v), [torch.zeros_like(x) for x in noise]
        self.best, self.best_step = of(math.inf), count()

    def start(
        self, rows: Bool[Tensor, " n"], target: Float[Tensor, "k 3 l l"], seeds: Sequence[int]
    ) -> None:
        """Put candidates for those targets into those slots, from the seeds' random numbers."""
        index = torch.nonzero(rows).flatten()
        self.target[index] = target
        self.best[index] = math.inf
        self.best_step[index] = self.step_of[index] = 0
        self.overflowed[index] = False
        for slot, seed in zip(index.tolist(), seeds, strict=True):
            self.rngs[slot].manual_seed(seed)
            self.began[slot] = time.monotonic()
        self._begin(index)
        self.overflowed[index] = self.best[index].isinf()

    @property
    def going(self) -> Bool[Tensor, " n"]:
        """Which slots hold a candidate that has steps, or time, left and is not done."""
        config = self.config
        going = ~self.overflowed
        matched = self.best <= config.tolerance
        if config.stop:
            # What matches is brought nearer as long as that is cheap: always by a small generator,
            # by a large one only with its earliest layers.
            costly = self.level > 0
            going = going & (self.best > config.goal * config.tolerance) & ~(matched & costly)
        if config.time_limit is None:
            return going & (self.taken < config.steps)
        late = time.monotonic() - config.time_limit
        in_time = torch.tensor([began > late for began in self.began], device=self.device)
        # Adam's schedule has an end; who follows the paper's recipe has one attempt.
        again = ~matched & (config.optimiser == "lbfgs")
        return going & in_time & ((self.taken < config.steps) | again)

    def step(self, active: Bool[Tensor, " n"]) -> None:
        """One step of those candidates; who has taken all of them begins anew elsewhere."""
        self.step_of[active] += 1
        anew = active & (self.taken >= self.config.steps)
        level = torch.where(active & ~anew, self.level, -1)
        for number in range(len(self.levels) + 1):
            index = torch.nonzero(level == number).flatten()
            if not len(index):
                continue
            self.taken[index] += 1
            if number < len(self.levels):
                self._follow(index, self.levels[number])
            else:
                self._descend(index)
        if anew.any():
            self._begin(torch.nonzero(anew).flatten())

    def state(self, rows: Bool[Tensor, " n"]) -> State:
        """How those candidates stand."""
        config = self.config
        best, overflowed = self.best[rows], self.overflowed[rows]
        step = steps = int(self.step_of[rows].max())
        if config.time_limit is None:
            steps = config.steps
        elif step:
            passed = time.monotonic() - min(
                began for began, here in zip(self.began, rows.tolist(), strict=True) if here
            )
            steps = max(step, round(step * config.time_limit / passed))
        status = tuple(
            Status.FOUND
            if error <= config.tolerance
            else Status.NONFINITE
            if broken
            else Status.NOT_CONVERGED
            for error, broken in zip(best.tolist(), overflowed.tolist(), strict=True)
        )
        return State(
            step,
            steps,
            self.error[rows],
            self.images[rows],
            self.low[rows],
            self.ws[rows],
            tuple(x[rows] for x in self.noise),
            best,
            self.best_step[rows],
            overflowed,
            status,
        )

    def _begin(self, index: Int[Tensor, " k"]) -> None:
        """Draw where to start, and judge it."""
        points = [self._drawn_start(slot) for slot in index.tolist()]
        rows = torch.zeros_like(self.overflowed)
        rows[index] = True
        point = [x.clone() for x in self.optimiser.point]
        for slot, (v, noise) in zip(index.tolist(), points, strict=True):
            for x, new in zip([*point, *self.fixed], [v, *noise], strict=True):
                x[slot] = new
        self.optimiser.place(rows, point)
        self.level[index] = self.taken[index] = 0
        if self.levels:
            self._judge(index)
        else:
            self._descend(index)

    def _drawn_start(self, slot: int) -> tuple[Tensor, list[Tensor]]:
        """Latents [L, w_dim] and noise, each [1, h, w], on their spheres."""
        generator, rng = self.generator, self.rngs[slot]
        noise = [torch.randn(1, *shape, generator=rng) for shape in generator.noise_shapes]
        noise = [to_sphere(x, math.sqrt(x.numel()), (1, 2)).to(self.device) for x in noise]
        layers, draws = generator.num_layers, self.config.draws
        if draws == 0:
            v = torch.randn(layers, generator.w_dim, generator=rng).to(self.device)
            return self.prior.on_sphere(v), noise
        z = torch.randn(draws, generator.z_dim, generator=rng).to(self.device)
        nearest = self._nearest(z, noise, self.target[slot])[:, None].expand(-1, layers, -1)
        if not self.levels:
            return self.prior.on_sphere(nearest[0]), noise
        return self._raced(self.prior.on_sphere(nearest[:RACERS]), noise, self.target[slot]), noise

    def _raced(
        self,
        v: Float[Tensor, "k L w_dim"],
        noise: list[Float[Tensor, "1 h w"]],
        target: Float[Tensor, "3 l l"],
    ) -> Float[Tensor, "L w_dim"]:
        """Where a few coarse steps lead, from that one of the starts from which they lead nearest.

        They cost little, and from some starts all that follows would take many times as long.
        """
        count = len(v)
        optimiser = SphericalLBFGS([v], None if self.scale is None else self.scale[:1])
        noise = [x.expand(count, -1, -1, -1) for x in noise]
        target = target.expand(count, -1, -1, -1)
        everyone = torch.ones(count, dtype=torch.bool, device=self.device)
        best, where = torch.full([count], torch.inf, device=self.device), v
        for _ in range(RACE_STEPS + 1):
            point = [x.requires_grad_() for x in optimiser.point]
            low = self.levels[0].low(self.generator, self.prior.to_w(point[0]), noise)
            error, loss, gradients = self._loss(low, target, self.coarse_floor, point)
            nearer = error < best
            best = torch.where(nearer, error, best)
            where = torch.where(nearer[:, None, None], point[0].detach(), where)
            optimiser.step(loss, gradients, everyone)
        return where[best.argmin()]

    @torch.no_grad()
    def _nearest(
        self,
        z: Float[Tensor, "k z_dim"],
        noise: list[Float[Tensor, "1 h w"]],
        target: Float[Tensor, "3 l l"],
    ) -> Float[Tensor, "k w_dim"]:
        """The latents of many draws, those first whose pictures are nearest to the target."""
        generator = self.generator
        v = self.prior.on_sphere(self.prior.from_w(generator.mapping(z)))

        def errors(part: Tensor) -> Tensor:
            ws = self.prior.to_w(part)[:, None].expand(-1, generator.num_layers, -1)
            low = self._cheapest(ws, [x.expand(len(ws), -1, -1, -1) for x in noise])
            return squared_error(low, target)

        # As many at once as have about the pixels of sixteen of 128x128.
        side = self.sketch.coarse.size if self.sketch else generator.resolution
        found, _ = in_chunks(errors, v, max(1, min(64, 16 * 128**2 // side**2)))
        return v[torch.cat(found).nan_to_num(torch.inf).argsort(stable=True)]

    def _cheapest(self, ws: Tensor, noise: list[Tensor]) -> Float[Tensor, "k 3 l l"]:
        """The small picture in the cheapest way there is."""
        if self.sketch is not None:
            return self.sketch.low(self.generator, ws, noise)
        return self.degrade(((self.generator.synthesis(ws, noise) + 1) / 2).clamp(0, 1))

    def _follow(self, index: Int[Tensor, " k"], level: Level) -> None:
        """Go down on the corrected coarse picture, then judge the real one."""
        assert isinstance(self.optimiser, SphericalLBFGS)
        before, plain, base = self.error.clone(), self.plain.clone(), self.optimiser.base
        enough = (ENOUGH * before).clamp_min(self.coarse_floor)
        going = torch.zeros_like(self.overflowed)
        going[index] = True
        self.optimiser.reopen(going)
        for count in range(COARSE_STEPS + 1):
            rows = torch.nonzero(going).flatten()
            if not len(rows):
                break
            first = count == 0
            point = self.optimiser.point

            def sketch(
                part: Tensor, point: list[Tensor] = point, first: bool = first
            ) -> list[Tensor]:
                return self._sketch(part, point, level, first)

            lacking, error, loss, *gradients = self._in_batches(sketch, rows)
            if first:
                self.offset[rows] = lacking
            self._move(rows, loss, gradients)
            going[rows] = error > enough[rows]
        self._judge(index)
        finer = torch.zeros_like(going)
        worth = WORTH if level is self.levels[-1] else FINER
        finer[index] = self.error[index] > worth * before[index]
        self.level += finer.long()
        self.optimiser.reopen(finer)
        astray = finer & (self.error > before)  # Nearer in the coarse picture alone.
        self.optimiser.reopen(astray, base)
        self.error = torch.where(astray, before, self.error)
        self.plain = torch.where(astray[:, None, None, None], plain, self.plain)

    def _sketch(
        self, part: Int[Tensor, " b"], point: list[Tensor], level: Level, first: bool
    ) -> list[Tensor]:
        """The coarse picture's offset, error, loss and gradients, for one batch.

        At the first point the real small picture is known, so the offset is what is lacking there.
        """
        point = [x[part].requires_grad_() for x in point]
        noise = [*point[1:], *(x[part] for x in self.fixed)]
        low = level.low(self.generator, self.prior.to_w(point[0]), noise)
        offset = (self.plain[part] - low).detach() if first else self.offset[part]
        error, loss, gradients = self._loss(
            low + offset, self.target[part], self.coarse_floor, point
        )
        return [offset, error, loss, *gradients]

    def _descend(self, index: Int[Tensor, " k"]) -> None:
        """Judge the generator's own picture at the point, with gradients, and move on."""
        point = self.optimiser.point

        def draw(part: Tensor) -> list[Tensor]:
            here = [x.detach()[part].requires_grad_() for x in point]
            noise = [*here[1:], *(x[part] for x in self.fixed)]
            images = (self.generator.synthesis(self.prior.to_w(here[0]), noise) + 1) / 2
            # Colours out of range count as they will be saved, though not so in the paper.
            counted = images if self.config.optimiser == "adam" else images.clamp(0, 1)
            floor = self.config.goal * self.config.tolerance
            _, loss, gradients = self._loss(self.degrade(counted), self.target[part], floor, here)
            return [images.detach(), loss, *gradients]

        images, loss, *gradients = self._in_batches(draw, index)
        sound = self._keep(index, [x[index] for x in point], images, loss.isfinite())
        # Adam would carry an overflow along; the line search takes it back and steps shorter.
        if self.config.optimiser == "adam":
            self.overflowed[index] = ~sound
        self._move(index, loss, gradients)

    def _loss(
        self,
        low: Float[Tensor, "b 3 l l"],
        target: Float[Tensor, "b 3 l l"],
        floor: float,
        point: list[Tensor],
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], list[Tensor]]:
        """The error, what is minimised, and its gradients by the point.

        An error below the floor has no gradient, so that GEOCROSS alone goes on.
        """
        error = squared_error(low, target)
        if self.easy is None:
            counted = error.clamp_min(floor)
        else:
            weighted = weighted_error(low, target, self.easy)
            counted = torch.where(error > floor, weighted, weighted.detach())
        loss = 100 * counted + self.config.geocross * geocross(point[0])
        gradients = torch.autograd.grad(loss.sum(), point, materialize_grads=True)
        return error.detach(), loss.detach(), list(gradients)

    @torch.no_grad()
    def _judge(self, index: Int[Tensor, " k"]) -> None:
        """Draw the real picture at the last accepted point, and keep it if it is the best."""
        assert isinstance(self.optimiser, SphericalLBFGS)
        point = self.optimiser.base

        def draw(part: Tensor) -> list[Tensor]:
            noise = [x[part] for x in [*point[1:], *self.fixed]]
            ws = self.prior.to_w(point[0][part])
            images = (self.generator.synthesis(ws, noise) + 1) / 2
            return [images, self.degrade(images.clamp(0, 1))]

        images, plain = self._in_batches(draw, index)
        self.plain[index] = plain
        self._keep(index, [x[index] for x in point], images, plain.isfinite().all((1, 2, 3)))

    @torch.no_grad()
    def _keep(
        self,
        index: Int[Tensor, " k"],
        point: list[Tensor],
        images: Float[Tensor, "k 3 r r"],
        sound: Bool[Tensor, " k"],
    ) -> Bool[Tensor, " k"]:
        """Remember the pictures that are better than the best, with all that belongs to them."""
        # What counts is the picture that can be saved, so colours out of range do not.
        images = images.clamp(0, 1).nan_to_num(0.0)
        low = self.degrade(images)
        error = torch.where(sound, squared_error(low, self.target[index]), torch.inf)
        self.error[index] = error
        # Errors below the goal count the same, and the last of those pictures is kept: it is the
        # one that GEOCROSS had most time to work on.
        goal = self.config.goal * self.config.tolerance
        first = self.best[index].isinf() & (self.step_of[index] == 0)
        better = (error.clamp_min(goal) <= self.best[index].clamp_min(goal)) & sound | first
        rows = index[better]
        self.images[rows], self.low[rows] = images[better], low[better]
        self.ws[rows] = self.prior.to_w(point[0][better])
        noise = [*(x[better] for x in point[1:]), *(x[rows] for x in self.fixed)]
        for kept, new in zip(self.noise, noise, strict=True):
            kept[rows] = new
        self.best[rows], self.best_step[rows] = error[better], self.step_of[rows]
        return sound

    def _move(
        self, index: Int[Tensor, " k"], loss: Float[Tensor, " k"], gradients: list[Tensor]
    ) -> None:
        """Tell the optimiser of loss and gradients at its point."""
        count = len(self.best)
        active = torch.zeros_like(self.overflowed)
        active[index] = True

        def place(values: Tensor) -> Tensor:
            return values.new_zeros(count, *values.shape[1:]).index_copy(0, index, values)

        self.optimiser.step(place(loss), [place(gradient) for gradient in gradients], active)

    def _in_batches(
        self, work: Callable[[Tensor], list[Tensor]], index: Int[Tensor, " k"]
    ) -> list[Tensor]:
        """Work on candidates in batches; the tensors of all of them.

        On a CPU the last batch is filled up with repetitions: how a convolution rounds depends on
        the size of the batch, but not on who else is in it.
        """
        count = len(index)
        if self.device.type == "cpu" and count % self.batch:
            index = torch.cat([index, index[-1:].expand(self.batch - count % self.batch)])
        parts, self.batch = in_chunks(work, index, self.batch)
        return [torch.cat(some)[:count] for some in zip(*parts, strict=True)]


def joined(states: Sequence[State]) -> State:
    """Candidates of one face that were searched for apart, as one state."""
    first = states[0]

    def all_of(values: Callable[[State], Tensor]) -> Tensor:
        return torch.cat([values(state) for state in states])

    return State(
        max(state.step for state in states),
        first.steps,
        all_of(lambda state: state.error),
        all_of(lambda state: state.images),
        all_of(lambda state: state.low),
        all_of(lambda state: state.ws),
        tuple(torch.cat(some) for some in zip(*(state.noise for state in states), strict=True)),
        all_of(lambda state: state.best),
        all_of(lambda state: state.best_step),
        all_of(lambda state: state.overflowed),
        tuple(status for state in states for status in state.status),
    )
