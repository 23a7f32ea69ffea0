"""Many pictures: folders, patterns and lists, on one machine or on a Ray cluster."""

from pulse.batch.inputs import Inputs, Item
from pulse.batch.jobs import Batch, Engine, Local, Outcome, Summary, run
from pulse.batch.manifest import Entry

__all__ = ["Batch", "Engine", "Entry", "Inputs", "Item", "Local", "Outcome", "Summary", "run"]
