"""Means over faces, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
SURE = 0.95
"""Of intervals: how often such a one holds what more faces would give."""
FEWEST = 2
"""Faces from which a group, an interval and a distance of sets are told."""


@dataclass(frozen=True)
class Value:
    """A mean over faces.

    Attributes:
        mean: over candidates, then over faces.
        low, high: of its interval of 95%; None from fewer than two faces.
        best: the mean of each face's best candidate; None where there is one candidate.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    best: float | None = None


def mean_of(values: Sequence[float]) -> Value | None:
    """The mean with the percentile bootstrap's interval (Efron 1979), over values that are told.

    Faces are drawn again and again with replacement, always the same ones.
    """
    numbers = np.array([value for value in values if not math.isnan(value)])
    if len(numbers) == 0:
        return None
    if len(numbers) < FEWEST or not np.isfinite(numbers).all():
        return Value(float(numbers.mean()))
    drawn = np.random.default_rng(0).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    outside = 100 * (1 - SURE) / 2
    low, high = np.percentile(numbers[drawn].mean(1), (outside, 100 - outside))
    return Value(float(numbers.mean()), float(low), float(high))


def jackknifed(of: Callable[[Float[np.ndarray, " k"]], float], count: int) -> Value:
    """A figure of a set with an interval from leaving out one after the other (Tukey 1958).

    The bootstrap draws faces twice, which a distance without bias must not see.
    """
    everything = np.arange(count)
    value = of(everything)
    if count <= FEWEST:
        return Value(value)
    left_out = np.array([of(np.delete(everything, one)) for one in range(count)])
    error = math.sqrt((count - 1) * np.square(left_out - left_out.mean()).mean())
    return Value(value, value - 1.96 * error, value + 1.96 * error)
