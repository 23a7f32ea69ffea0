"""What is minimised: from a point to its picture, error, loss and gradients. Nothing is kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pulse.imaging.degrade import Degradation
from pulse.search.aids import Level
from pulse.search.latent import LatentPrior
from pulse.search.losses import departure, geocross, squared_error, weighted_error
from pulse.search.tone import Tone
from stylegan import Generator


@dataclass(frozen=True)
class Objective:
    """100 * MSE(degrade(G(w)), target) + weight * GEOCROSS(v), for every candidate by itself.

    Where more error may be left than the tolerance, GEOCROSS weighs more, and how strange latents
    are counts (`LatentPrior.strangeness`); who is held to a beginning also has hold * departure
    from it.

    A point is the latents v [b, L, w_dim] and the first noise inputs [b, 1, h, w]; the rest of
    those, `fixed`, is not moved.

    Attributes:
        geocross: weight of GEOCROSS.
        strange: weight of how far latents are from what the mapping network gives, for each usual
            tolerance of error that may be left beyond the one that counts.
        cut: whether colours count as they will be saved, cut to [0, 1].
        easy: what errors are reduced by, as `Aids` has it.
        hold: weight of the departure from a beginning, where one is given.
        tone: how readily the tone of a picture follows the target's; None leaves it.
    """

    generator: Generator
    prior: LatentPrior
    degrade: Degradation
    geocross: float
    strange: float = 0.0
    cut: bool = True
    easy: Float[Tensor, "k 3 l l"] | None = None
    hold: float = 0.0
    tone: Tone | None = None

    def images(
        self,
        point: list[Tensor],
        fixed: list[Tensor],
        target: Float[Tensor, "... 3 l l"],
    ) -> Float[Tensor, "b 3 r r"]:
        """The generator's pictures with the target's tone, nominally in [0, 1]."""
        ws = self.prior.to_w(point[0])
        images = (self.generator.synthesis(ws, [*point[1:], *fixed]) + 1) / 2
        if self.tone is None:
            return images
        gain, offset = self.tone.fit(self.degrade(images), target)
        return images * gain + offset

    def sketch(
        self,
        level: Level,
        point: list[Tensor],
        fixed: list[Tensor],
        target: Float[Tensor, "... 3 l l"],
    ) -> Float[Tensor, "b 3 l l"]:
        """About what those pictures are downscaled to, from a coarse one."""
        low = level.low(self.generator, self.prior.to_w(point[0]), [*point[1:], *fixed])
        if self.tone is None:
            return low
        gain, offset = self.tone.fit(low, target)
        return low * gain + offset

    def at(
        self,
        point: list[Tensor],
        fixed: list[Tensor],
        target: Float[Tensor, "b 3 l l"],
        floor: float,
        *,
        begin: list[Tensor] | None = None,
        spare: Float[Tensor, " b"] | float = 0.0,
    ) -> tuple[Float[Tensor, "b 3 r r"], Float[Tensor, " b"], list[Tensor]]:
        """Pictures, losses, and gradients by the point.

        Args:
            floor: error below which it has no gradient, so that the priors alone go on.
            begin: the point that it is held to.
            spare: what error may be left beyond the tolerance, in usual ones.
        """
        point = [x.detach().requires_grad_() for x in point]
        images = self.images(point, fixed, target)
        counted = images.clamp(0, 1) if self.cut else images
        low = self.degrade(counted)
        _, loss, gradients = self._loss(low, target, floor, point, begin, spare)
        return images.detach(), loss, gradients

    def near(
        self,
        level: Level,
        point: list[Tensor],
        fixed: list[Tensor],
        target: Float[Tensor, "b 3 l l"],
        floor: float,
        offset: Float[Tensor, "b 3 l l"] | None = None,
        plain: Float[Tensor, "b 3 l l"] | None = None,
        begin: list[Tensor] | None = None,
        spare: Float[Tensor, " b"] | float = 0.0,
    ) -> tuple[Float[Tensor, "b 3 l l"], Float[Tensor, " b"], Float[Tensor, " b"], list[Tensor]]:
        """Offset, errors, losses and gradients of the coarse picture in the generator's place.

        Args:
            offset: what the coarse small picture lacks, which is added to it.
            plain: instead of that, the real small picture at this point, which tells the offset.
        """
        point = [x.detach().requires_grad_() for x in point]
        low = self.sketch(level, point, fixed, target)
        if plain is not None:
            offset = (plain - low).detach()
        if offset is not None:
            low = low + offset
        error, loss, gradients = self._loss(low, target, floor, point, begin, spare)
        return torch.zeros_like(target) if offset is None else offset, error, loss, gradients

    def _loss(
        self,
        low: Float[Tensor, "b 3 l l"],
        target: Float[Tensor, "b 3 l l"],
        floor: float,
        point: list[Tensor],
        begin: list[Tensor] | None,
        spare: Float[Tensor, " b"] | float,
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], list[Tensor]]:
        error = squared_error(low, target)
        if self.easy is None:
            counted = error.clamp_min(floor)
        else:
            weighted = weighted_error(low, target, self.easy)
            counted = torch.where(error > floor, weighted, weighted.detach())
        loss = 100 * counted + self.geocross * (1 + spare) * geocross(point[0])
        if self.strange:
            loss = loss + self.strange * spare * self.prior.strangeness(point[0])
        if begin is not None:
            loss = loss + self.hold * departure(point, begin)
        gradients = torch.autograd.grad(loss.sum(), point, materialize_grads=True)
        return error.detach(), loss.detach(), list(gradients)
