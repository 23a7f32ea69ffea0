"""How to search, and how a candidate can end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from pulse.search.tone import Tone

TOLERANCE = 1e-3
"""The usual one. What may be left beyond a tolerance is measured in it."""


class Status(StrEnum):
    """How a candidate ended."""

    FOUND = "found"
    NOT_CONVERGED = "not_converged"
    NONFINITE = "nonfinite"

    @property
    def advice(self) -> str:
        """What it means and what to try, in one sentence."""
        return {
            Status.FOUND: "It downscales to the input within the tolerance.",
            Status.NOT_CONVERGED: "It is not close enough: try more steps, more candidates, or a "
            "picture framed like the generator's faces.",
            Status.NONFINITE: "The numbers overflowed and it was stopped: try another seed.",
        }[self]


@dataclass(frozen=True)
class SearchConfig:
    """How to search. The defaults are the preset `default`; `PAPER` is the publication's recipe.

    Attributes:
        steps: pictures judged per candidate, the start not counted.
        tolerance: largest mean squared error, on [0, 1] RGB at LR size, that counts as a match.
        optimiser: `lbfgs`, which takes curvature into account, or the paper's `adam`.
        lr: Adam's learning rate, before the schedule.
        geocross: weight of GEOCROSS beside 100 * MSE, for who goes down to the tolerance; who may
            stop before, to be mended, is held by once more of it for each `TOLERANCE` of error
            that may be left beyond.
        strange: weight of how unlike the mapping network's own latents are, see
            `pulse.search.latent.LatentPrior.strangeness`, for each `TOLERANCE` that may be left
            beyond. Who has to go down to the tolerance gets there less often with any.
        noise_layers: how many of the first noise inputs are searched as well.
        draws: latents drawn for each candidate, of which the nearest to the input starts; 0 starts
            every layer at a point of its own as the paper does.
        goal: share of the tolerance below which the error counts no more. What goes further than a
            match looks less real: the last of the error is mended by what faces do not have.
        stop: whether a candidate that reaches the goal is done; else all steps are taken.
        precondition: whether each latent moves as suits its usual influence on the small picture.
        whiten: whether errors that are easy to mend count less while the search goes on.
        coarse: whether early layers stand in for the whole generator where they can.
        hold: weight of how far a candidate is from where it began, see
            `pulse.search.losses.departure`; for the next frame of a film, which begins where the
            last one ended.
        tone: how readily a candidate's brightness, contrast and white follow the target's; None
            leaves them as the generator draws them.
        mend: whether a candidate that comes near is made a match by a network that was trained for
            that, if the generator draws such faces; else the search goes on to a match. Only where
            what reaches the goal is done.
        guide: whether, where candidates are mended, a first search follows what a network makes of
            the small picture, see `pulse.guide`.
        exact: whether candidates that match are at last changed by the little that makes them match
            exactly, see `pulse.imaging.back_projection`.
        time_limit: seconds for a face; while they last, a candidate that took all its steps without
            a match begins anew elsewhere (with L-BFGS). None is no limit and one attempt.
    """

    steps: int = 100
    tolerance: float = TOLERANCE
    optimiser: Literal["lbfgs", "adam"] = "lbfgs"
    lr: float = 0.4
    geocross: float = 0.002
    strange: float = 0.018
    noise_layers: int = 5
    draws: int = 64
    goal: float = 1.0
    stop: bool = True
    precondition: bool = True
    whiten: bool = True
    coarse: bool = True
    hold: float = 0.0
    tone: Tone | None = field(default_factory=Tone)
    mend: bool = True
    guide: bool = True
    exact: bool = True
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("The search needs at least one step.")
        if not 0 < self.tolerance <= 1:  # The largest error there can be.
            raise ValueError("The tolerance must be a number above 0 and at most 1.")
        if not 0 <= self.hold < math.inf:
            raise ValueError("The weight that holds a search to its start cannot be negative.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise ValueError("The time limit must be a number of seconds above 0.")

    def with_noise(self, sigma: float) -> SearchConfig:
        """The same for a target with noise of that standard deviation, on [0, 1].

        Independent noise adds sigma^2 to the expected error of any picture, the true one included,
        so tolerance and goal both go up by that: going lower would fit the noise (Morozov's
        discrepancy principle).
        """
        if sigma == 0:
            return self
        tolerance = min(self.tolerance + sigma**2, 1.0)
        goal = (self.goal * self.tolerance + sigma**2) / tolerance
        return replace(self, tolerance=tolerance, goal=goal)


PAPER = SearchConfig(
    optimiser="adam",
    geocross=0.05,
    strange=0.0,
    draws=0,
    goal=1.0,
    stop=False,
    precondition=False,
    whiten=False,
    coarse=False,
    tone=None,
    mend=False,
    guide=False,
    exact=False,
)
PRESETS = {"default": SearchConfig(), "paper": PAPER}
