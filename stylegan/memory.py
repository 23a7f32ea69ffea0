"""Keep freed memory for the next tensor, and know when there is none left."""

import ctypes
import sys

import torch

# Parameters of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Tell glibc not to return large blocks to the system; does nothing elsewhere.

    A network allocates the same large tensors at every step. By default each is mapped, and each
    of its pages cleared, anew: see `benchmarks/training.py` for what that costs. All threads share
    what is kept; else each would keep its own, and a page that serves many visitors grows.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Absent from other C libraries.
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def ran_out(error: Exception) -> bool:
    """Whether it says that memory ran out: only CUDA has a class of its own for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
