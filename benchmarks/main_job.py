"""Seconds and memory of the main job, start-up included.

    python benchmarks/main_job.py

Runs `python -m pulse run examples/face.png --steps 100` in a process of its own.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FACE = Path(__file__).parents[1] / "examples" / "face.png"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pulse", "run", str(FACE), "--steps", "100", "-o", folder]
        start = time.perf_counter()
        done = subprocess.run(command, check=False)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"exit code {done.returncode}, {seconds:.1f} s, at most {peak:.0f} MiB")
