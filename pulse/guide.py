"""A first search, for a larger picture than was given: about the mean of what it may have been.

Sixteen pixels leave open where a mouth is and how a hand lies before it, and what they leave open
a generator fills in as it is used to: with an adult's chin, with teeth. A network that enlarges
small faces knows better where things are, though not what they look like; its picture, taken at
twice the side, is blurred, but in place. So a search is for that first, and ends while it is still
far enough from it to be sharp. What is then mended is within the tolerance of what was given; who
does not get there is searched for by what was given alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from pulse.faces.prepare import LRFace
from pulse.imaging.degrade import DegradeConfig
from pulse.known import Known, operator
from pulse.search import SearchConfig, Start, State, Status
from pulse.search.losses import squared_error
from pulse.search.state import statuses, with_successors
from pulse.superres import mending
from pulse.superres.mending import Mender
from stylegan import Generator

SIDE = 2 * mending.SMALL
"""Side in pixels of the larger picture that is searched for."""
REACH = 1e-2
"""Mean squared error of that from which faces are mended."""
HASTE = 0.5
"""Share of the seconds for a face, where they are limited, that the first search may take."""


class Guide:
    """The first search for faces that were made small in one way, to `mending.SMALL` pixels.

    Attributes:
        search: how to search for `larger` faces.
        rest: how to search for what that does not find.
    """

    def __init__(
        self, mender: Mender, degrade: DegradeConfig, search: SearchConfig, generator: Generator
    ) -> None:
        """
        Args:
            search: how to search for what was given.
        """
        self._mender, self._tolerance = mender, search.tolerance
        # The same blur is twice as wide in pixels half as large.
        self._how = replace(degrade, blur=2 * degrade.blur)
        self._enlarge = operator(self._how, mending.SIDE, SIDE)
        self._degrade = operator(degrade, generator.resolution, mending.SMALL)
        self._reach = max(REACH, search.goal * search.tolerance)
        self._device = generator.device
        self.search = replace(search, goal=self._reach / search.tolerance, mend=False)
        self.rest = search
        if search.time_limit is not None:
            first = HASTE * search.time_limit
            self.search = replace(self.search, time_limit=first)
            self.rest = replace(search, time_limit=search.time_limit - first)

    @classmethod
    def of(cls, known: Known, face: LRFace, search: SearchConfig) -> Guide | None:
        """That for such a face.

        None where nothing is mended, or the face is not of the size that is enlarged, or not all
        of it is known.
        """
        mender = known.mender(face, search) if search.guide and search.stop else None
        usual = face.low.shape[-1] == mending.SMALL and face.degrade.mask is None
        return cls(mender, face.degrade, search, known.generator) if mender and usual else None

    def larger(self, face: LRFace) -> LRFace:
        """What to search for first."""
        enlarged = self._mender.enlarged(face.low[None].to(self._device)).clamp(0, 1)
        low = self._enlarge(enlarged)[0].clamp(0, 1)  # The kernel overshoots.
        return replace(face, low=low, degrade=self._how, detail=mending.SMALL)

    def followed(self, states: Iterable[State], target: Float[Tensor, "3 l l"]) -> Iterator[State]:
        """The states of a search for a larger face, as those of a search for the given one.

        Who is near enough is mended at once.
        """
        mended: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        target = target.to(self._device)
        for state in states:
            for row in (state.best <= self._reach).nonzero().flatten().tolist():
                if row not in mended:
                    image = self._mender(state.images[row : row + 1], target[None])
                    low = self._degrade(image)
                    mended[row] = image, low, squared_error(low, target)
            yield self._told(state, mended, target)

    def _told(
        self,
        state: State,
        mended: Mapping[int, tuple[Tensor, Tensor, Tensor]],
        target: Float[Tensor, "3 l l"],
    ) -> State:
        """How its candidates, some of them mended, stand to the given face."""
        images, low = state.images.clone(), self._degrade(state.images)
        drawn = squared_error(low, target).masked_fill(state.best.isinf(), torch.inf)
        best = drawn.clone()
        for row, (image, small, error) in mended.items():
            if error <= min(float(drawn[row]), self._tolerance):
                one = slice(row, row + 1)
                images[one], low[one], best[one] = image, small, error
        return replace(
            state,
            error=best,  # That of this very step is known of the larger face alone.
            images=images,
            low=low,
            best=best,
            drawn=drawn,
            status=statuses(best, state.overflowed, self._tolerance),
        )


def completed(
    state: State, start: Start, search: Callable[[Start], Iterator[State]]
) -> Iterator[State]:
    """States while those that the first search did not find are searched for by the other.

    Until it is known whether that comes nearer, the first ones are shown.

    Args:
        state: the last of the first search.
        start: where it began.
        search: for what was given, from other starts.
    """
    rows = [row for row, status in enumerate(state.status) if status is not Status.FOUND]
    others = search(start.only(*rows)) if rows else iter(())

    def nearer(other: State) -> dict[int, int]:
        return {row: n for n, row in enumerate(rows) if other.best[n] < state.best[row]}

    yield from with_successors(state, others, nearer)
