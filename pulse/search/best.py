"""The best picture of each candidate, with all that belongs to it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Best:
    """The nearest that each of n candidates came, every part of it from the same step.

    Attributes:
        error: [n], infinite before anything was offered.
        drawn: [n], the same before the picture was mended.
        step: [n], when that was.
        images, low: [n, 3, R, R] and [n, 3, l, l], the picture and the same downscaled.
        ws, noise: what drew it.
    """

    def __init__(
        self,
        images: Float[Tensor, "n 3 r r"],
        low: Float[Tensor, "n 3 l l"],
        ws: Float[Tensor, "n L w_dim"],
        noise: list[Float[Tensor, "n 1 h w"]],
        goal: float,
    ) -> None:
        """Take tensors of those shapes to write into; errors below `goal` count the same."""
        self.images, self.low, self.ws, self.noise, self.goal = images, low, ws, noise, goal
        self.error = images.new_full([len(images)], torch.inf)
        self.drawn = self.error.clone()
        self.step = torch.zeros(len(images), dtype=torch.int64, device=images.device)

    def forget(self, index: Int[Tensor, " k"]) -> None:
        """Make room for other candidates there."""
        self.error[index] = torch.inf
        self.step[index] = 0

    def offer(
        self,
        index: Int[Tensor, " k"],
        step: Int[Tensor, " k"],
        error: Float[Tensor, " k"],
        images: Float[Tensor, "k 3 r r"],
        low: Float[Tensor, "k 3 l l"],
        ws: Float[Tensor, "k L w_dim"],
        noise: list[Float[Tensor, "k 1 h w"]],
    ) -> None:
        """Keep of those candidates what is at least as good as their best.

        Of those below the goal the last is kept: it is the one that GEOCROSS had most time to work
        on. The very first picture is kept in any case, so that there is one.
        """
        best = self.error[index]
        first = best.isinf() & (step == 0)
        better = error.clamp_min(self.goal) <= best.clamp_min(self.goal)
        better = better & error.isfinite() | first
        rows = index[better]
        self.error[rows], self.step[rows] = error[better], step[better]
        self.drawn[rows] = error[better]
        self.images[rows], self.low[rows], self.ws[rows] = images[better], low[better], ws[better]
        for kept, new in zip(self.noise, noise, strict=True):
            kept[rows] = new[better]
