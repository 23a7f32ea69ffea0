"""Where a search begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pulse.search.aids import Aids, Level
from pulse.search.latent import LatentPrior, to_sphere
from pulse.search.losses import squared_error
from pulse.search.memory import in_chunks
from pulse.search.objective import Objective
from pulse.search.optimisers import SphericalLBFGS
from pulse.search.state import State

RACERS, RACE_STEPS = 4, 8
"""Of how many starts the best is taken, and after how many coarse steps."""
COMPARED = 8
"""Of how many draws, those nearest by the coarsest pictures, finer ones are compared."""
APART = 2.5
"""How far starts near a point are from it, see `Start.near`: other people who look alike.

The search leads back part of the way. Matches for a face of 16 pixels end 40 to 50 degrees from the
liked one, where those of unrelated seeds are 70 apart; from 1.2 they are 30, and the same person.
"""


@dataclass(frozen=True)
class Start:
    """Where candidates begin: drawn at random, or carried over from elsewhere.

    Attributes:
        seeds: one for each candidate, of all its random numbers.
        ws: [n, L, w_dim], latents to begin at; None draws them.
        noise: noise inputs to begin with, each [n, 1, h, w]; None draws them.
    """

    seeds: Sequence[int]
    ws: Float[Tensor, "n L w_dim"] | None = None
    noise: tuple[Float[Tensor, "n 1 h w"], ...] | None = None

    def __post_init__(self) -> None:
        carried = (() if self.ws is None else (self.ws,)) + (self.noise or ())
        if any(len(x) != len(self.seeds) for x in carried):
            raise ValueError("A start needs latents and noise for each of its seeds.")

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def of(cls, start: Start | Sequence[int]) -> Start:
        """A start from seeds alone, or as it is."""
        return start if isinstance(start, Start) else cls(start)

    @classmethod
    def after(cls, state: State, seeds: Sequence[int]) -> Start:
        """Where another search ended: at the best of each of its candidates."""
        return cls(seeds, state.ws, state.noise)

    @classmethod
    def near(
        cls,
        ws: Float[Tensor, "L w_dim"],
        prior: LatentPrior,
        seeds: Sequence[int],
        apart: float = APART,
    ) -> Start:
        """Around one point, each seed in a direction of its own that all layers share.

        Layers keep their differences, so that what GEOCROSS has brought together stays together.

        Args:
            ws: latents that drew a candidate.
            apart: how far each goes, in radii of the sphere, before it is put back on it.
        """
        v = prior.from_w(ws)
        steps = [
            torch.randn(v.shape[-1], generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        away = torch.stack(steps).to(v.device)[:, None]
        return cls(seeds, prior.to_w(prior.on_sphere(v + apart * away)))

    def only(self, *candidates: int) -> Start:
        """Those alone, by number."""
        rows = list(candidates)
        return Start(
            [self.seeds[row] for row in rows],
            None if self.ws is None else self.ws[rows],
            None if self.noise is None else tuple(x[rows] for x in self.noise),
        )


class Starter:
    """Finds the point at which a candidate begins."""

    def __init__(self, objective: Objective, draws: int, floor: float, aids: Aids) -> None:
        """
        Args:
            draws: latents of which the nearest starts, as in `SearchConfig`.
            floor: error below which a coarse picture is not brought nearer.
        """
        self.objective, self.draws, self.floor, self.aids = objective, draws, floor, aids
        self.levels = [level for level in aids.levels if level.descend]

    def point(
        self, start: Start, rng: torch.Generator, target: Float[Tensor, "3 l l"]
    ) -> tuple[Float[Tensor, "L w_dim"], list[Float[Tensor, "1 h w"]]]:
        """Latents and noise on their spheres.

        Args:
            start: of one candidate.
            rng: its random numbers, from which on it draws.
        """
        generator, prior = self.objective.generator, self.objective.prior
        device = generator.device
        noise = [torch.randn(1, *shape, generator=rng) for shape in generator.noise_shapes]
        noise = [to_sphere(x, math.sqrt(x.numel()), (1, 2)).to(device) for x in noise]
        if start.noise is not None:
            noise = [x[0].to(device) for x in start.noise]
        layers, draws = generator.num_layers, self.draws
        if start.ws is not None:
            return prior.on_sphere(prior.from_w(start.ws[0].to(device))), noise
        if draws == 0:
            v = torch.randn(layers, generator.w_dim, generator=rng).to(device)
            return prior.on_sphere(v), noise
        z = torch.randn(draws, generator.z_dim, generator=rng).to(device)
        nearest = self._nearest(z, noise, target)[:, None].expand(-1, layers, -1)
        if not self.levels:
            return prior.on_sphere(nearest[0]), noise
        return self._raced(prior.on_sphere(nearest[:RACERS]), noise, target), noise

    def _raced(
        self,
        v: Float[Tensor, "k L w_dim"],
        noise: list[Float[Tensor, "1 h w"]],
        target: Float[Tensor, "3 l l"],
    ) -> Float[Tensor, "L w_dim"]:
        """Where a few coarse steps lead, from that one of the starts from which they lead nearest.

        They cost little, and from some starts all that follows would take many times as long.
        """
        count = len(v)
        scale = None if self.aids.scale is None else [self.aids.scale[0]]
        optimiser = SphericalLBFGS([v], scale)
        fixed = [x.expand(count, -1, -1, -1) for x in noise]
        target = target.expand(count, -1, -1, -1)
        everyone = torch.ones(count, dtype=torch.bool, device=v.device)
        best, where = torch.full([count], torch.inf, device=v.device), v
        for _ in range(RACE_STEPS + 1):
            point = optimiser.point
            _, error, loss, gradients = self.objective.near(
                self.levels[0], point, fixed, target, self.floor
            )
            nearer = error < best
            best = torch.where(nearer, error, best)
            where = torch.where(nearer[:, None, None], point[0], where)
            optimiser.step(loss, gradients, everyone)
        return where[best.argmin()]

    @torch.no_grad()
    def _nearest(
        self,
        z: Float[Tensor, "k z_dim"],
        noise: list[Float[Tensor, "1 h w"]],
        target: Float[Tensor, "3 l l"],
    ) -> Float[Tensor, "k w_dim"]:
        """The latents of many draws, those first whose pictures are nearest to the target.

        Of those that are nearest by the cheapest coarse pictures some are compared by finer ones,
        where there are any.
        """
        v = self.objective.prior.on_sphere(
            self.objective.prior.from_w(self.objective.generator.mapping(z))
        )
        first, *finer = self.aids.levels or [None]
        v = v[self._order(first, v, noise, target)]
        if finer:
            few = v[:COMPARED]
            v = torch.cat([few[self._order(finer[0], few, noise, target)], v[COMPARED:]])
        return v

    def _order(
        self,
        level: Level | None,
        v: Float[Tensor, "k w_dim"],
        noise: list[Float[Tensor, "1 h w"]],
        target: Float[Tensor, "3 l l"],
    ) -> Int[Tensor, " k"]:
        """Numbers of latents, in the order of errors: by coarse pictures, or the generator's."""
        objective, generator = self.objective, self.objective.generator

        def errors(part: Tensor) -> Tensor:
            several = part[:, None].expand(-1, generator.num_layers, -1)
            inputs = [x.expand(len(part), -1, -1, -1) for x in noise]
            if level is None:
                images = objective.images([several], inputs, target)
                low = objective.degrade(images.clamp(0, 1))
            else:
                low = objective.sketch(level, [several], inputs, target)
            return squared_error(low, target)

        # As many at once as have about the pixels of sixteen of 128x128.
        side = level.coarse.size if level else generator.resolution
        found, _ = in_chunks(errors, v, max(1, min(64, 16 * 128**2 // side**2)))
        return torch.cat(found).nan_to_num(torch.inf).argsort(stable=True)
