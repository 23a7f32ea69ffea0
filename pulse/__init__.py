"""PULSE: high-resolution faces that downscale to a given tiny one."""

__version__ = "0.1.0"
