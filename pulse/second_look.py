"""A second search for candidates that match but may have fallen apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pulse.faces import plausibility
from pulse.search import Start, State, Status
from pulse.search.state import with_successors

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
    again = Start([seeds[row] + ELSEWHERE for row in rows])
    others = search(again) if rows else iter(())

    def better(other: State) -> dict[int, int]:
        shares = judge.plausibility(other.images * 2 - 1).tolist()
        return {
            row: number
            for number, row in enumerate(rows)
            if other.status[number] is Status.FOUND and shares[number] >= BETTER
        }

    yield from with_successors(state, others, better)
