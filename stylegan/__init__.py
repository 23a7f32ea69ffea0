"""Generators of faces and their weights."""

from stylegan.checkpoints import CheckpointError
from stylegan.generator import Generator, Noise
from stylegan.zoo import EMBEDDED, checksum, load, locate

__all__ = ["EMBEDDED", "CheckpointError", "Generator", "Noise", "checksum", "load", "locate"]
