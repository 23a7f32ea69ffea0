"""The search for one target, and for a stream of them whose candidates share batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.aids import NO_AIDS, Aids
from pulse.search.config import SearchConfig
from pulse.search.descent import Descent, usual_batch
from pulse.search.latent import LatentPrior
from pulse.search.start import Start
from pulse.search.state import State, joined
from stylegan import Generator

Tag = TypeVar("Tag")


def search(
    generator: Generator,
    target: Float[Tensor, "*n 3 l l"],
    start: Start | Sequence[int],
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
    batch: int | None = None,
    aids: Aids = NO_AIDS,
) -> Iterator[State]:
    """Search for pictures that `degrade` turns into the target, one for each seed of the start.

    Candidates share nothing: each has its own random numbers, loss, and course. On a CPU they are
    the same to the last bit whoever else is searched for, as long as `batch` is the same;
    elsewhere they differ by rounding, which a hundred steps amplify to visible differences.

    Args:
        target: what to match in [0, 1]; one for all candidates or one for each. NaN is ignored.
        start: where each candidate begins; seeds alone draw that.
        degrade: HR -> LR on pictures in [0, 1].
        prior: of the generator, if it was fitted before.
        batch: candidates drawn at once; None is `usual_batch`. Where memory does not hold so many,
            fewer are drawn at once.
        aids: what is known of the generator and `degrade` beforehand.

    Raises:
        MemoryError: there is too little memory for one candidate.

    Yields:
        The state at the start and after every step; it ends early when all candidates are done.
    """
    config, start = config or SearchConfig(), Start.of(start)
    count = len(start)
    target = target.to(generator.device).expand(count, *target.shape[-3:])
    descent = Descent(
        generator,
        degrade,
        config,
        count,
        size=target.shape[-1],
        prior=prior,
        batch=batch,
        aids=aids,
    )
    everyone = torch.ones(count, dtype=torch.bool, device=generator.device)
    descent.start(everyone, target, [start.only(index) for index in range(count)])
    yield descent.state(everyone)
    while (active := descent.going).any():
        descent.step(active)
        yield descent.state(everyone)


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """One target and where its candidates begin.

    Attributes:
        tag: whatever the caller wants back with the result.
    """

    target: Float[Tensor, "3 l l"]
    start: Start | Sequence[int]
    tag: Tag


@dataclass
class _InWork(Generic[Tag]):
    """A job some of whose candidates have begun."""

    job: Job[Tag]
    began: float
    states: dict[int, State] = field(default_factory=dict)


def search_many(
    generator: Generator,
    jobs: Iterable[Job[Tag]],
    size: int,
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
    batch: int | None = None,
    aids: Aids = NO_AIDS,
) -> Iterator[tuple[Tag, State, float]]:
    """Search for many targets of `size` x `size` pixels, whose candidates share the batches.

    A candidate that is done gives its place to the next, so that batches stay full. Each becomes
    what `search` would make of it. A job is taken from `jobs` only when there is room for it.

    Yields:
        The job's tag, its last state, and the seconds since its first candidate began; as they are
        done, so not necessarily in order.
    """
    batch = batch or usual_batch(generator)
    slots = 2 * batch  # So that what is done does not leave places in the batch open.
    descent = Descent(
        generator,
        degrade,
        config or SearchConfig(),
        slots,
        size=size,
        prior=prior,
        batch=batch,
        aids=aids,
    )
    coming = iter(jobs)
    waiting: deque[tuple[_InWork[Tag], int]] = deque()  # Candidates that have no slot yet,
    held: list[tuple[_InWork[Tag], int] | None] = [None] * slots  # and that of each slot.
    while True:
        free = [slot for slot, who in enumerate(held) if who is None]
        while len(waiting) < len(free) and (job := next(coming, None)) is not None:
            work = _InWork(job, time.monotonic())
            waiting.extend((work, candidate) for candidate in range(len(job.start)))
        begin = [(slot, *waiting.popleft()) for slot in free[: len(waiting)]]
        if begin:
            rows = torch.zeros(slots, dtype=torch.bool, device=generator.device)
            for slot, work, candidate in begin:
                held[slot], rows[slot] = (work, candidate), True
                if candidate == 0:
                    work.began = time.monotonic()
            targets = torch.stack([work.job.target.to(generator.device) for _, work, _ in begin])
            starts = [Start.of(work.job.start).only(number) for _, work, number in begin]
            descent.start(rows, targets, starts)
        occupied = torch.tensor([who is not None for who in held], device=generator.device)
        if not occupied.any():
            return
        going = descent.going & occupied
        if going.any():
            descent.step(going)
        for slot in torch.nonzero(occupied & ~descent.going).flatten().tolist():
            who, held[slot] = held[slot], None
            assert who is not None
            work, candidate = who
            only = torch.zeros(slots, dtype=torch.bool, device=generator.device)
            only[slot] = True
            work.states[candidate] = descent.state(only)
            if len(work.states) == len(work.job.start):
                state = joined([work.states[i] for i in range(len(work.states))])
                yield work.job.tag, state, time.monotonic() - work.began
