"""What is known of a generator beforehand and makes a search shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.coarse import Coarse
from stylegan import Generator, Noise


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


class Mending(Protocol):
    """A way to make a match of a picture that nearly is one."""

    @property
    def reach(self) -> float:
        """Mean squared error from which that is tried."""
        ...

    def __call__(
        self, images: Float[Tensor, "b 3 r r"], target: Float[Tensor, "b 3 l l"]
    ) -> Float[Tensor, "b 3 r r"]:
        """Pictures in [0, 1], mended for their targets."""
        ...


@dataclass(frozen=True)
class Aids:
    """What is given is used; `SearchConfig.coarse`, `precondition`, `whiten` and `mend`
    tell `pulse.known.Known.aids` what to give.

    Attributes:
        levels: coarse stand-ins for the generator and its degradation, cheapest first.
        scale: how far latents [L, w_dim] and noise inputs [N] move for the same slope; None is
            equally far. For L-BFGS.
        easy: [k, 3, l, l], what errors are reduced by, as `pulse.search.curvature` has it; None is
            not.
        mending: None leaves it to the search to bring a candidate to a match.
    """

    levels: Sequence[Level] = ()
    scale: tuple[Float[Tensor, "L w_dim"], Float[Tensor, " N"]] | None = None
    easy: Float[Tensor, "k 3 l l"] | None = None
    mending: Mending | None = None


NO_AIDS = Aids()
