"""What is known of a generator beforehand and makes a search shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Aids:
    """What is given is used; `SearchConfig.coarse`, `precondition` and `whiten` tell
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
