"""Many visitors of the page at once, some of whom go away in the middle: does its memory stay?

    python benchmarks/page_load.py --clients 50 --minutes 10

Starts the page with the embedded generator. Each client asks for small searches through the API,
one after the other, and gives up three in ten of them while they run. Prints the server's resident
memory, and what became of the searches. Exit code 1 if the memory is at the end by more than 10%
above that after three tenths of the time, or if anything failed but in a sentence. Linux only.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from pathlib import Path

import httpx
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from page_memory import PICTURES, ROOT, files, resident

GIVEN_UP = 0.3
PATIENCE = 60
"""Seconds in which searches that go on at the end may still be answered."""
TOO_MANY = "Too many"
"""How the server's refusal begins when its line is full."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    became: Counter[str] = Counter()
    end = time.monotonic() + 60 * options.minutes

    def visit(url: str, number: int, folder: Path) -> None:
        rng = random.Random(number)
        # Without that each of its requests reads all certificates, which takes the machine.
        client = Client(url, verbose=False, download_files=folder / str(number), ssl_verify=False)
        while time.monotonic() < end:
            job = client.submit(
                handle_file(rng.choice(PICTURES)), candidates=2, steps=rng.randrange(1, 20),
                seed=number, api_name="/upscale",
            )  # fmt: skip
            try:
                if rng.random() < GIVEN_UP:
                    time.sleep(rng.random())
                    job.cancel()
                    became["given up"] += 1
                else:
                    job.result(timeout=600)
                    became["done"] += 1
            except httpx.TimeoutException:  # Its own, of five seconds, on a machine that is busy.
                became["timed out"] += 1
            except AppError as error:
                became["refused" if TOO_MANY in str(error) else f"failed: {error}"] += 1
                time.sleep(5)
            except CancelledError:  # By the client itself, at times for the search before.
                became["given up"] += 1

    with tempfile.TemporaryDirectory() as name:
        folder, environment = Path(name), {**os.environ, "TMPDIR": name}
        command = [sys.executable, str(ROOT / "app.py"), "--port", "0", "--no-fetch"]
        command += ["--waiting", str(options.clients // 2), "--per-address", str(options.clients)]
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,  # Gradio logs every client that goes away.
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[3]
            threads = [
                threading.Thread(target=visit, args=(url, number, folder / "clients"), daemon=True)
                for number in range(options.clients)
            ]
            for thread in threads:
                thread.start()
            measured: list[float] = []
            for part in range(10):
                time.sleep(6 * options.minutes)
                measured.append(resident(server.pid))
                (temporary,) = folder.glob("pulse-*")
                sizes = f"{measured[-1]:.0f} MiB, {files(temporary):.0f} MB of files"
                print(f"{10 * (part + 1)}%: {sizes}, {dict(became)}", flush=True)
            last = time.monotonic() + PATIENCE  # For all of them together.
            for thread in threads:
                thread.join(max(last - time.monotonic(), 0))
        finally:
            server.terminate()
            server.wait()
    failed = sum(count for what, count in became.items() if what.startswith("failed"))
    ratio = measured[-1] / measured[2]
    print(f"{ratio:.2f} of the memory after three tenths of the time; {failed} failed")
    return 0 if ratio <= 1.1 and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
