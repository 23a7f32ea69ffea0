"""The method: spherical gradient descent in the latent space of a generator.

PULSE (Menon et al., CVPR 2020): among the pictures that a generator draws, find some whose
downscaled version is the given one. `search` is an iterable of states: to watch, iterate; to
cancel, stop; the last state is the answer.
"""

from pulse.search.aids import Aids, Level, Mending
from pulse.search.config import PAPER, PRESETS, SearchConfig, Status
from pulse.search.optimisers import follows_schedule
from pulse.search.run import Job, search, search_many
from pulse.search.start import Start
from pulse.search.state import State

__all__ = [
    "PAPER", "PRESETS", "Aids", "Job", "Level", "Mending", "SearchConfig", "Start", "State",
    "Status", "follows_schedule", "search", "search_many",
]  # fmt: skip
