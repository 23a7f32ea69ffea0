"""Generators of faces and their weights."""

from stylegan.checkpoints import CheckpointError
from stylegan.generator import Generator, Noise
from stylegan.zoo import EMBEDDED, home, identity, load, locate

__all__ = [
    "EMBEDDED",
    "CheckpointError",
    "Generator",
    "Noise",
    "home",
    "identity",
    "load",
    "locate",
]
