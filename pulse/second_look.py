"""A second search for candidates that match but may have fallen apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pulse.faces import plausibility
from pulse.search import Start, State, Status

ELSEWHERE = 1_592_657_453
"""Added to the seed of a candidate that begins anew. Random numbers depend on 32 bits of a
seed, the lower ones."""
DOUBTED = 0.05
"""Plausibility below which a mended candidate begins anew,"""
BETTER = 0.1
"""and that from which another takes its place: among faces that it doubts, the judge cannot tell
which is better."""


def second_look(
    state: State, seeds: Sequence[int], search: Callable[[Start], Iterator[State]]
) -> Iterator[State]:
    """States while mended candidates that are hardly plausible are searched for from elsewhere.

    So that whoever asks for candidates is not shown a face that fell apart where another start
    would have done. Until that is known the first one is shown.

    Args:
        state: the last of a search.
        seeds: of its candidates.
        search: the same search from other starts.
    """
    mended = (state.drawn > state.best).tolist()
    if not any(mended):
        return
    judge = plausibility.load()
    shares = judge.plausibility(state.images * 2 - 1).tolist()
    rows = [row for row, share in enumerate(shares) if mended[row] and share < DOUBTED]
    other: State | None = None
    for other in search(Start([seeds[row] + ELSEWHERE for row in rows])) if rows else ():
        step = state.step + other.step
        yield replace(state, step=step, steps=max(state.steps, step))
    if other is None:
        return
    shares = judge.plausibility(other.images * 2 - 1).tolist()
    better = {
        row: number
        for number, row in enumerate(rows)
        if other.status[number] is Status.FOUND and shares[number] >= BETTER
    }
    if better:
        step = state.step + other.step
        chosen = state.with_rows(other, better)
        yield replace(chosen, step=step, steps=max(state.steps, step))
