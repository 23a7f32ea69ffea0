"""Candidates on their way down, from coarse pictures to the generator's own."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.aids import NO_AIDS, Aids, Level
from pulse.search.best import Best
from pulse.search.config import TOLERANCE, SearchConfig
from pulse.search.latent import LatentPrior
from pulse.search.losses import squared_error
from pulse.search.memory import in_chunks
from pulse.search.objective import Objective
from pulse.search.optimisers import follows_schedule, optimiser_for
from pulse.search.start import Start, Starter
from pulse.search.state import State, statuses
from stylegan import Generator

COARSE_STEPS = 12
"""Judgements of the coarse picture between two of the real one."""
ENOUGH = 0.1
"""Share of its error that a candidate keeps at least between two judgements of the real picture."""
WORTH = 0.85
"""What is left of the error after that has to be less, or the next finer level follows,"""
FINER = 0.65
"""or this where that is a coarse one, too, which costs little more."""


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
        degrade: Degradation,
        config: SearchConfig,
        slots: int,
        size: int,
        prior: LatentPrior | None = None,
        batch: int | None = None,
        aids: Aids = NO_AIDS,
    ) -> None:
        """Make room for `slots` candidates for targets of `size` x `size` pixels."""
        self.config, self.device = config, generator.device
        self.batch = batch or usual_batch(generator)
        self.scheduled = follows_schedule(config.optimiser)
        self.mending = aids.mending if config.stop else None
        self.goal = config.goal * config.tolerance
        self.tolerance = torch.tensor(config.tolerance, device=self.device)
        # How near a candidate comes by itself; what cannot be mended goes on to the goal.
        self.near = max(self.mending.reach, self.goal) if self.mending else self.goal
        # Colours out of range count as they will be saved, though not so in the paper.
        self.objective = Objective(
            generator,
            prior or LatentPrior.fit(generator),
            degrade,
            config.geocross,
            config.strange if self.near > config.tolerance else 0.0,
            cut=not self.scheduled,
            easy=aids.easy,
            hold=config.hold,
            tone=config.tone,
        )
        self.coarse_floor = 0.5 * self.near  # Leaves room for what is lacking.
        self.starter = Starter(self.objective, config.draws, self.coarse_floor, aids)
        self.levels = self.starter.levels

        def of(value: float, *shape: int) -> Tensor:
            return torch.full((slots, *shape), value, device=self.device)

        def count() -> Int[Tensor, " n"]:
            return torch.zeros(slots, dtype=torch.int64, device=self.device)

        # Ones lie on the spheres, like the latents and noise that will take their places.
        v = of(1.0, generator.num_layers, generator.w_dim)
        noise = [of(1.0, 1, *shape) for shape in generator.noise_shapes]
        self.fixed = noise[config.noise_layers :]
        point = [v, *noise[: config.noise_layers]]
        scale: list[Tensor] | None = None
        if aids.scale is not None:
            latent, inputs = aids.scale
            pairs = zip(inputs, point[1:], strict=False)
            scale = [latent, *(factor.expand(x.shape[1:]) for factor, x in pairs)]
        self.begin = [x.clone() for x in point] if config.hold else None
        self.optimiser = optimiser_for(config.optimiser, point, config.lr, config.steps, scale)
        self.rngs = [torch.Generator() for _ in range(slots)]
        self.starts: list[Start] = [Start((0,))] * slots
        self.began = [-math.inf] * slots
        self.target = of(0.0, 3, size, size)
        self.plain = of(0.0, 3, size, size)  # The real small picture at the last accepted point,
        self.offset = of(0.0, 3, size, size)  # and what the coarse one lacked there.
        self.error, self.reach = of(math.inf), of(self.near)
        self.level, self.step_of = count(), count()
        self.taken = count()  # Steps since the last new beginning.
        self.overflowed = torch.zeros(slots, dtype=torch.bool, device=self.device)
        side = generator.resolution
        self.best = Best(
            of(0.0, 3, side, side),
            of(0.0, 3, size, size),
            torch.zeros_like(v),
            [torch.zeros_like(x) for x in noise],
            self.goal,
        )

    def start(
        self, rows: Bool[Tensor, " n"], target: Float[Tensor, "k 3 l l"], starts: Sequence[Start]
    ) -> None:
        """Put candidates for those targets into those slots, each with a start of its own."""
        index = torch.nonzero(rows).flatten()
        self.target[index] = target
        self.best.forget(index)
        self.step_of[index] = 0
        self.overflowed[index] = False
        for slot, start in zip(index.tolist(), starts, strict=True):
            self.rngs[slot].manual_seed(start.seeds[0])
            self.starts[slot] = start
            self.began[slot] = time.monotonic()
        self._begin(index)
        self.overflowed[index] = self.best.error[index].isinf()
        for slot in index.tolist():  # Who begins anew begins elsewhere.
            self.starts[slot] = Start(self.starts[slot].seeds)

    @property
    def going(self) -> Bool[Tensor, " n"]:
        """Which slots hold a candidate that has steps, or time, left and is not done."""
        config, best = self.config, self.best.error
        going = ~self.overflowed
        matched = best <= config.tolerance
        if config.stop:
            # What matches is brought nearer as long as that is cheap: always by a small generator,
            # by a large one only with its earliest layers.
            costly = self.level > 0
            going = going & (best > self.reach) & ~(matched & costly)
        if config.time_limit is None:
            return going & (self.taken < config.steps)
        late = time.monotonic() - config.time_limit
        in_time = torch.tensor([began > late for began in self.began], device=self.device)
        again = ~matched & (not self.scheduled)
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
        config, best = self.config, self.best
        step = steps = int(self.step_of[rows].max())
        if config.time_limit is None:
            steps = config.steps
        elif step:
            passed = time.monotonic() - min(
                began for began, here in zip(self.began, rows.tolist(), strict=True) if here
            )
            steps = max(step, round(step * config.time_limit / passed))
        status = statuses(best.error[rows], self.overflowed[rows], config.tolerance)
        return State(
            step,
            steps,
            self.error[rows],
            best.images[rows],
            best.low[rows],
            best.ws[rows],
            tuple(x[rows] for x in best.noise),
            best.error[rows],
            best.drawn[rows],
            best.step[rows],
            self.overflowed[rows],
            status,
        )

    def _begin(self, index: Int[Tensor, " k"]) -> None:
        """Go to where a candidate starts, and judge it."""
        point = [x.clone() for x in self.optimiser.point]
        for slot in index.tolist():
            start, rng = self.starts[slot], self.rngs[slot]
            v, noise = self.starter.point(start, rng, self.target[slot])
            for x, new in zip([*point, *self.fixed], [v, *noise], strict=True):
                x[slot] = new
        self.optimiser.place(self._rows(index), point)
        if self.begin is not None:
            for x, new in zip(self.begin, point, strict=True):
                x[index] = new[index]
        self.level[index] = self.taken[index] = 0
        self.reach[index] = self.near
        if self.levels:
            self._judge(index)
        else:
            self._descend(index)

    def _follow(self, index: Int[Tensor, " k"], level: Level) -> None:
        """Go down on the corrected coarse picture, then judge the real one."""
        before, plain, base = self.error.clone(), self.plain.clone(), self.optimiser.base
        enough = (ENOUGH * before).clamp_min(self.coarse_floor)
        going = self._rows(index)
        self.optimiser.reopen(going)
        for count in range(COARSE_STEPS + 1):
            rows = torch.nonzero(going).flatten()
            if not len(rows):
                break
            point, first = self.optimiser.point, count == 0

            def near(
                part: Tensor, point: list[Tensor] = point, first: bool = first
            ) -> list[Tensor]:
                # At the first point the real small picture is known, so what is lacking is, too.
                offset, error, loss, gradients = self.objective.near(
                    level,
                    [x[part] for x in point],
                    [x[part] for x in self.fixed],
                    self.target[part],
                    self.coarse_floor,
                    offset=None if first else self.offset[part],
                    plain=self.plain[part] if first else None,
                    begin=self._held(part),
                    spare=self._spare(part),
                )
                return [offset, error, loss, *gradients]

            lacking, error, loss, *gradients = self._in_batches(near, rows)
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

    def _descend(self, index: Int[Tensor, " k"]) -> None:
        """Judge the generator's own picture at the point, with gradients, and move on."""
        point, reach = self.optimiser.point, self.reach.clone()

        def draw(part: Tensor) -> list[Tensor]:
            here, fixed = [x[part] for x in point], [x[part] for x in self.fixed]
            held, spare = self._held(part), self._spare(part)
            images, loss, gradients = self.objective.at(
                here, fixed, self.target[part], self.goal, begin=held, spare=spare
            )
            return [images, loss, *gradients]

        images, loss, *gradients = self._in_batches(draw, index)
        sound = loss.isfinite()
        self._keep(index, point, images, sound)
        # A schedule would carry an overflow along; a line search takes it back and steps shorter.
        if self.scheduled:
            self.overflowed[index] = ~sound
        self._move(index, loss, gradients)
        farther = self.reach < reach
        if farther.any():
            self.optimiser.reopen(farther)

    @torch.no_grad()
    def _judge(self, index: Int[Tensor, " k"]) -> None:
        """Draw the real picture at the last accepted point, and keep it if it is the best."""
        point = self.optimiser.base

        def draw(part: Tensor) -> list[Tensor]:
            here, fixed = [x[part] for x in point], [x[part] for x in self.fixed]
            images = self.objective.images(here, fixed, self.target[part])
            return [images, self.objective.degrade(images.clamp(0, 1))]

        images, plain = self._in_batches(draw, index)
        self.plain[index] = plain
        self._keep(index, point, images, plain.isfinite().all((1, 2, 3)))

    @torch.no_grad()
    def _keep(
        self,
        index: Int[Tensor, " k"],
        point: list[Tensor],
        images: Float[Tensor, "k 3 r r"],
        sound: Bool[Tensor, " k"],
    ) -> None:
        """Remember the pictures at those points if they are better than the best."""
        # What counts is the picture that can be saved, so colours out of range do not.
        images = images.clamp(0, 1).nan_to_num(0.0)
        low = self.objective.degrade(images)
        error = torch.where(sound, squared_error(low, self.target[index]), torch.inf)
        self.error[index] = error
        self.best.offer(
            index,
            self.step_of[index],
            error=error,
            images=images,
            low=low,
            ws=self.objective.prior.to_w(point[0][index]),
            noise=[x[index] for x in [*point[1:], *self.fixed]],
        )
        self._mend(index)

    def _mend(self, index: Int[Tensor, " k"]) -> None:
        """Make matches of those that are near enough; who cannot be mended goes on by himself."""
        best = self.best
        near = index[best.error[index] <= self.reach[index]]
        if self.mending is None or not len(near):
            return
        target = self.target[near]
        images = self.mending(best.images[near], target)
        low = self.objective.degrade(images)
        error = squared_error(low, target)
        better = error <= torch.minimum(best.error[near], self.tolerance)
        rows = near[better]
        best.images[rows], best.low[rows] = images[better], low[better]
        best.error[rows] = error[better]
        self.reach[near[~better]] = self.goal

    def _move(
        self, index: Int[Tensor, " k"], loss: Float[Tensor, " k"], gradients: list[Tensor]
    ) -> None:
        """Tell the optimiser of loss and gradients at its point."""
        count = len(self.overflowed)

        def place(values: Tensor) -> Tensor:
            return values.new_zeros(count, *values.shape[1:]).index_copy(0, index, values)

        active = self._rows(index)
        self.optimiser.step(place(loss), [place(gradient) for gradient in gradients], active)

    def _held(self, part: Int[Tensor, " k"]) -> list[Tensor] | None:
        """What those candidates are held to."""
        return None if self.begin is None else [x[part] for x in self.begin]

    def _spare(self, part: Int[Tensor, " k"]) -> Float[Tensor, " k"]:
        """How much error those candidates may leave beyond their tolerance, in usual ones."""
        return ((self.reach[part] - self.tolerance) / TOLERANCE).clamp_min(0)

    def _rows(self, index: Int[Tensor, " k"]) -> Bool[Tensor, " n"]:
        rows = torch.zeros_like(self.overflowed)
        rows[index] = True
        return rows

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
