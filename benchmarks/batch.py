"""Faces a minute of a batch, against `pulse run` once a file, and its memory over many pictures.

    python benchmarks/batch.py [--pictures 8] [--steps 30]       # the table
    python benchmarks/batch.py --memory 500                      # the memory

Every line is `python -m pulse` in processes of its own, start-up included. The pictures are drawn
by the generator and downscaled to 16x16; four candidates each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import stylegan
from stylegan.evaluate import samples

RAY = ["--engine", "ray", "--workers"]
ROWS: dict[str, list[str]] = {
    "batch": [],
    "batch, --batch-size 4": ["--batch-size", "4"],
    "batch, --batch-size 16": ["--batch-size", "16"],
    "batch, Ray, 1 worker": [*RAY, "1"],
    "batch, Ray, 2 workers": [*RAY, "2"],
}


def draw(folder: Path, count: int) -> list[Path]:
    files = []
    for number, pixels in enumerate(samples(stylegan.load(stylegan.EMBEDDED), count, seed=1)):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        files.append(folder / f"{number}.png")
        image.resize((16, 16), Image.Resampling.BICUBIC).save(files[-1])
    return files


def pulse(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pulse", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)


def table(pictures: int, steps: int) -> None:
    # Every step is taken, so that all lines do the same work.
    options = ["--steps", str(steps), "--tolerance", "1e-9"]
    print(f"{pictures} pictures, {steps} steps")
    print(f"{'':<24}faces a minute  times")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        files = draw(folder / "in", pictures)
        start = time.perf_counter()
        for file in files:
            pulse("run", file, "-o", folder / "run", *options)
        once = 60 * pictures / (time.perf_counter() - start)
        print(f"{'run, once a file':<24}{once:14.1f}{1:7.2f}", flush=True)
        for row, (words, further) in enumerate(ROWS.items()):
            start = time.perf_counter()
            pulse("batch", folder / "in", folder / str(row), *options, *further)
            rate = 60 * pictures / (time.perf_counter() - start)
            print(f"{words:<24}{rate:14.1f}{rate / once:7.2f}", flush=True)


def memory(pictures: int) -> None:
    """Resident memory of a batch of short searches, at each tenth of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        draw(folder / "in", pictures)
        arguments = ["--steps", "1", "-n", "1", "--preset", "paper"]  # The shortest search.
        process = subprocess.Popen(
            [sys.executable, "-m", "pulse", "batch", folder / "in", folder / "out", *arguments],
            stdout=subprocess.DEVNULL,
        )
        manifest = folder / "out" / "manifest.jsonl"
        page = os.sysconf("SC_PAGE_SIZE")
        wanted = 1
        print(f"{'pictures':>8}  MiB")
        while process.poll() is None:
            time.sleep(0.05)
            done = manifest.read_bytes().count(b"\n") if manifest.exists() else 0
            if done >= wanted:
                try:
                    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                except (FileNotFoundError, IndexError):
                    break
                if pages:
                    print(f"{done:8}  {pages * page / 2**20:.0f}", flush=True)
                wanted = done + pictures // 10
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--memory", type=int, metavar="PICTURES")
    asked = parser.parse_args()
    if asked.memory is None:
        table(asked.pictures, asked.steps)
    else:
        memory(asked.memory)
