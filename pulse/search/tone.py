"""Brightness, contrast and white of a candidate, set as the target has them.

A generator draws the light and the cameras of what it was trained on. A photograph that is darker,
flatter or warmer is matched by latents far from the generator's own, which draw stains and halos,
though a photographer would turn a knob. So each colour of the picture gets a gain about its mean
and a shift, which are known in closed form at every point of the search.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Tone:
    """How readily the tone of a picture is changed, as weights of a ridge regression on [0, 1].

    Attributes:
        gain: how much a change of contrast costs: the variance of a colour at which half of what
            is lacking is made up for.
        shift: how much one of brightness does: 1 makes up for half of what the mean lacks.
    """

    gain: float = 0.02
    shift: float = 0.5

    def fit(
        self, low: Float[Tensor, "b 3 l l"], target: Float[Tensor, "... 3 l l"]
    ) -> tuple[Float[Tensor, "b 3 1 1"], Float[Tensor, "b 3 1 1"]]:
        """Gain and offset with which `low` comes near to the target, differentiable by `low`.

        The offset is added after the gain. Any degradation that is linear and treats colours alike
        does the same to the large picture. Pixels where the target is NaN do not count.
        """
        known = (~target.isnan()).to(low.dtype)
        count = known.sum((-2, -1), keepdim=True).clamp_min(1)
        wanted = target.nan_to_num(0)
        mean = (low * known).sum((-2, -1), keepdim=True) / count
        wanted_mean = (wanted * known).sum((-2, -1), keepdim=True) / count
        x, y = (low - mean) * known, (wanted - wanted_mean) * known
        variance = x.square().sum((-2, -1), keepdim=True) / count
        covariance = (x * y).sum((-2, -1), keepdim=True) / count
        gain = (covariance + self.gain) / (variance + self.gain)
        return gain, mean + (wanted_mean - mean) / (1 + self.shift) - gain * mean
