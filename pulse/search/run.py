"""The candidates of one target, or of a stream of them, through one descent."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.config import SearchConfig
from pulse.search.descent import NO_AIDS, Aids, Descent, State, joined, usual_batch
from pulse.search.latent import LatentPrior
from stylegan import Generator


def search(
    generator: Generator,
    target: Float[Tensor, "*n 3 l l"],
    seeds: Sequence[int],
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
    batch: int | None = None,
    aids: Aids = NO_AIDS,
) -> Iterator[State]:
    """Search for pictures that `degrade` turns into the target, one per seed.

    Candidates share nothing: each has its own random numbers, loss, and course. On a CPU they are
    the same to the last bit whoever else is searched for, as long as `batch` is the same;
    elsewhere they differ by rounding, which a hundred steps amplify to visible differences.

    Args:
        target: what to match in [0, 1]; one for all candidates or one for each. NaN is ignored.
        seeds: one per candidate.
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
    config = config or SearchConfig()
    target = target.to(generator.device).expand(len(seeds), *target.shape[-3:])
    descent = Descent(generator, prior, degrade, config, len(seeds), target.shape[-1], batch, aids)
    everyone = torch.ones(len(seeds), dtype=torch.bool, device=generator.device)
    descent.start(everyone, target, seeds)
    yield descent.state(everyone)
    while (active := descent.going).any():
        descent.step(active)
        yield descent.state(everyone)


@dataclass(frozen=True)
class Job:
    """One target and the seeds of its candidates."""

    target: Float[Tensor, "3 l l"]
    seeds: Sequence[int]


def search_many(
    generator: Generator,
    jobs: Iterable[Job],
    low: int,
    degrade: Degradation,
    config: SearchConfig | None = None,
    prior: LatentPrior | None = None,
    batch: int | None = None,
    aids: Aids = NO_AIDS,
) -> Iterator[tuple[int, State, float]]:
    """Search for many targets of `low` x `low` pixels, whose candidates share the batches.

    A candidate that is done gives its place to the next, so that batches stay full. Each becomes
    what `search` would make of it. A job is taken from `jobs` only when there is room for it.

    Yields:
        The number of the job, its last state, and the seconds since its first candidate began; as
        they are done, so not necessarily in order.
    """
    config = config or SearchConfig()
    batch = batch or usual_batch(generator)
    slots = 2 * batch  # So that what is done does not leave places in the batch open.
    descent = Descent(generator, prior, degrade, config, slots, low, batch, aids)
    numbered = enumerate(jobs)
    waiting: deque[tuple[int, int, Job]] = deque()
    held: list[tuple[int, int] | None] = [None] * slots  # Job and candidate of each slot.
    done: dict[int, dict[int, State]] = {}
    begun: dict[int, float] = {}
    size: dict[int, int] = {}
    while True:
        free = [slot for slot, who in enumerate(held) if who is None]
        while len(waiting) < len(free) and (item := next(numbered, None)) is not None:
            number, job = item
            done[number], size[number] = {}, len(job.seeds)
            waiting.extend((number, candidate, job) for candidate in range(len(job.seeds)))
        rows = torch.zeros(slots, dtype=torch.bool, device=generator.device)
        targets, seeds = [], []
        for slot in free[: len(waiting)]:
            number, candidate, job = waiting.popleft()
            begun.setdefault(number, time.monotonic())
            held[slot] = (number, candidate)
            rows[slot] = True
            targets.append(job.target.to(generator.device))
            seeds.append(job.seeds[candidate])
        if seeds:
            descent.start(rows, torch.stack(targets), seeds)
        occupied = torch.tensor([who is not None for who in held], device=generator.device)
        if not occupied.any():
            return
        going = descent.going & occupied
        if going.any():
            descent.step(going)
        for slot in torch.nonzero(occupied & ~descent.going).flatten().tolist():
            who, held[slot] = held[slot], None
            assert who is not None
            number, candidate = who
            only = torch.zeros_like(rows)
            only[slot] = True
            done[number][candidate] = descent.state(only)
            if len(done[number]) == size[number]:
                parts = done.pop(number)
                state = joined([parts[i] for i in range(size.pop(number))])
                yield number, state, time.monotonic() - begun.pop(number)
