"""How much memory a process has had, on any system."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil
import torch

STATUS = Path("/proc/self/status")


def peak_memory() -> int | None:
    """Bytes at most that this process has had, or a GPU's part of it; None where nobody tells."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    # First, since the other number of Linux is also that of the process that started this one.
    if STATUS.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text("utf-8"))):
        return int(found[1]) * 1024
    try:
        import resource  # Unix has it.
    except ImportError:
        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
