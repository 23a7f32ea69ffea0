"""Generators of faces and their weights."""

from stylegan.checkpoints import CheckpointError
from stylegan.generator import Generator, Noise
from stylegan.zoo import load

__all__ = ["CheckpointError", "Generator", "Noise", "load"]
