"""Where a search stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pulse.search.config import Status


@dataclass(frozen=True)
class State:
    """Where the search stands after a step. Step 0 is the start.

    Attributes:
        step: steps done.
        steps: steps in all, as far as it is known.
        error: [n], each candidate's error at this step.
        images: [n, 3, R, R] in [0, 1], each candidate's best so far; larger where a network made
            them so at the end.
        low: [n, 3, l, l], the same, downscaled.
        ws: [n, L, w_dim], the latents that drew it.
        noise: the noise inputs that drew it, each [n, 1, h, w].
        best: [n], the error of that picture, before an exact last step.
        drawn: [n], what it was before the picture was mended; the same where it was not.
        best_step: [n], the step that it was met at.
        overflowed: [n], whether the candidate was given up because its numbers are not finite.
        status: [n], what would be said if the search stopped here, likewise.
        exact: [n], the error after the last steps (exactness, or a network that makes pictures
            larger), NaN where there was none; None before them.
    """

    step: int
    steps: int
    error: Float[Tensor, " n"]
    images: Float[Tensor, "n 3 r r"]
    low: Float[Tensor, "n 3 l l"]
    ws: Float[Tensor, "n L w_dim"]
    noise: tuple[Float[Tensor, "n 1 h w"], ...]
    best: Float[Tensor, " n"]
    drawn: Float[Tensor, " n"]
    best_step: Int[Tensor, " n"]
    overflowed: Bool[Tensor, " n"]
    status: tuple[Status, ...]
    exact: Float[Tensor, " n"] | None = None

    def with_rows(self, other: State, rows: Mapping[int, int]) -> State:
        """With candidates that were searched for afterwards in the place of others.

        Args:
            rows: the number of each that is replaced, and that of its successor in `other`.
        """
        places, successors = list(rows), list(rows.values())

        def put(mine: Tensor, theirs: Tensor) -> Tensor:
            mine = mine.clone()
            mine[places] = theirs[successors]
            return mine

        status = list(self.status)
        for place, successor in rows.items():
            status[place] = other.status[successor]
        return replace(
            self,
            error=put(self.error, other.error),
            images=put(self.images, other.images),
            low=put(self.low, other.low),
            ws=put(self.ws, other.ws),
            noise=tuple(put(*pair) for pair in zip(self.noise, other.noise, strict=True)),
            best=put(self.best, other.best),
            drawn=put(self.drawn, other.drawn),
            best_step=put(self.best_step, other.best_step + self.step),
            overflowed=put(self.overflowed, other.overflowed),
            status=tuple(status),
        )


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
        all_of(lambda state: state.drawn),
        all_of(lambda state: state.best_step),
        all_of(lambda state: state.overflowed),
        tuple(status for state in states for status in state.status),
    )


def with_successors(
    state: State, others: Iterator[State], chosen: Callable[[State], Mapping[int, int]]
) -> Iterator[State]:
    """States while some candidates are searched for once more; until that ends, as they were.

    Args:
        others: of that search; there may be none.
        chosen: of its last state, who takes whose place, as in `State.with_rows`.
    """
    other: State | None = None
    for other in others:
        step = state.step + other.step
        yield replace(state, step=step, steps=max(state.steps, step))
    if other is not None and (rows := chosen(other)):
        step = state.step + other.step
        yield replace(state.with_rows(other, rows), step=step, steps=max(state.steps, step))


def statuses(
    best: Float[Tensor, " n"], overflowed: Bool[Tensor, " n"], tolerance: float
) -> tuple[Status, ...]:
    """How candidates with those errors end."""
    return tuple(
        Status.FOUND if error <= tolerance else Status.NONFINITE if broken else Status.NOT_CONVERGED
        for error, broken in zip(best.tolist(), overflowed.tolist(), strict=True)
    )
