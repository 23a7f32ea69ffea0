"""Memory of the page's server over many searches, and eight visitors at once.

    python benchmarks/page_memory.py [--runs 50] [--steps 5]

Starts the page with the embedded generator, searches through its API, and prints the server's
resident memory and the size of its temporary files as it goes. Linux only.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gradio_client import Client, handle_file

ROOT = Path(__file__).parents[1]
PICTURES = [ROOT / "examples" / name for name in ("face.png", "imaginary.png", "two.jpg")]


def resident(pid: int) -> float:
    """MiB that a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kib,) = re.findall(r"VmRSS:\s+(\d+)", status)
    return int(kib) / 1024


def files(folder: Path) -> float:
    """MB of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        command = [sys.executable, str(ROOT / "app.py"), "--port", "0"]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[3]
            client = Client(url, verbose=False, download_files=Path(folder) / "client")

            def search(run: int) -> None:
                picture = handle_file(PICTURES[run % len(PICTURES)])
                client.predict(
                    picture, candidates=2, steps=options.steps, seed=run, api_name="/upscale"
                )

            print(f"start: {resident(server.pid):.0f} MiB")
            start = time.perf_counter()
            for run in range(1, options.runs + 1):
                search(run)
                if run % 10 == 0 or run == 1:
                    (temporary,) = Path(folder).glob("pulse-*")
                    size = f"{resident(server.pid):.0f} MiB, {files(temporary):.1f} MB of files"
                    print(f"after {run} runs: {size}", flush=True)
            each = (time.perf_counter() - start) / options.runs
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(search, range(8)))
            print(f"after 8 at once: {resident(server.pid):.0f} MiB; {each:.2f} s a run one by one")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
