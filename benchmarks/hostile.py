"""Damaged and crafted files: what the readers say of them, and what they cost.

    python benchmarks/hostile.py --count 10000

Files that were sound are damaged at random and read again. A row says how many were opened, how
many were refused in a sentence, and how many did anything else, which should be none; then the
longest that one took, and the memory that the process had at most. The crafted ones of the tests
come after them, each in a process of its own. Exit code 1 if anything failed or missed its aim.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from pulse.imaging.pictures import InputError, decode_picture, read_picture
from pulse.superres import weights
from pulse.superres.networks import RRDBNetConfig
from stylegan import CheckpointError
from stylegan.checkpoints import open_checkpoint, save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from tests.crafted import bombs, mutate, rosinality
from tests.crafted_pictures import costly_pictures, sound_pictures

torch.set_num_threads(1)
AIMS = {"checkpoints": (3.0, 200.0), "networks": (3.0, 200.0), "pictures": (5.0, 1000.0)}
"""Seconds; megabytes beside three times the file's size, or with pictures of the whole process."""


@dataclass
class Tally:
    opened: int = 0
    refused: int = 0
    failed: int = 0
    slowest: float = 0.0

    def take(self, read: Callable[[], object], refusal: type[Exception], name: str) -> None:
        start = time.process_time()
        try:
            read()
            self.opened += 1
        except refusal as error:
            self.refused += 1
            if not str(error).isprintable():
                print(f"{name}: its message cannot be printed: {error!r}")
                self.failed += 1
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}")
            self.failed += 1
            if isinstance(error, KeyboardInterrupt):
                raise
        self.slowest = max(self.slowest, time.process_time() - start)


def memory() -> float:
    """That this process had at most, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sound_checkpoints(folder: Path) -> Iterator[tuple[str, bytes]]:
    save(StyleGAN2(StyleGAN2Config((4, 4), 4, 4, 1)), folder / "x")
    yield "safetensors", (folder / "x").read_bytes()
    content = {"g_ema": rosinality(), "latent_avg": torch.zeros(4)}
    torch.save(content, folder / "x")
    yield "zip", (folder / "x").read_bytes()
    torch.save(content, folder / "x", _use_new_zipfile_serialization=False)
    yield "legacy", (folder / "x").read_bytes()
    yield "pickle", pickle.dumps(content)


def sound_networks(folder: Path) -> Iterator[tuple[str, bytes]]:
    network = weights.build(RRDBNetConfig(4, 1, 4, 4))
    weights.save(network, folder / "x")
    yield "safetensors", (folder / "x").read_bytes()
    torch.save({"params": network.state_dict()}, folder / "x")
    yield "zip", (folder / "x").read_bytes()


def damaged(kind: str, count: int, folder: Path) -> bool:
    """Read `count` damaged files of a kind in a process of its own; whether all was well."""

    def work() -> bool:
        sound = {
            "checkpoints": lambda: list(sound_checkpoints(folder)),
            "networks": lambda: list(sound_networks(folder)),
            "pictures": lambda: list(sound_pictures()),
        }[kind]()
        read: Callable[[bytes], object]
        refusal: type[Exception] = InputError
        file = folder / "x"
        if kind == "pictures":
            read = decode_picture
        elif kind == "networks":
            read, refusal = lambda _: weights.load(file), weights.NetworkError
        else:
            read, refusal = lambda _: open_checkpoint(file), CheckpointError
        before, tally = memory(), Tally()
        for number in range(count):
            name, data = sound[number % len(sound)]
            data = mutate(data, random.Random(number))
            file.write_bytes(data)
            tally.take(lambda data=data: read(data), refusal, f"{kind} {name}, seed {number}")
        grown = memory() if kind == "pictures" else memory() - before
        seconds, megabytes = AIMS[kind]
        print(
            f"{kind:12} {count:6} damaged: {tally.opened:6} opened {tally.refused:6} refused "
            f"{tally.failed:3} failed, at most {tally.slowest:5.2f} s, {grown:5.0f} MB",
            flush=True,
        )
        return not tally.failed and tally.slowest < seconds and grown < megabytes

    return apart(work)


def crafted(kind: str, paths: Iterator[Path]) -> bool:
    """Read files that are made to cost much, each in a process of its own."""
    sound, refusal = True, CheckpointError if kind == "checkpoints" else InputError
    read = open_checkpoint if kind == "checkpoints" else read_picture
    seconds, megabytes = AIMS[kind]
    for path in paths:

        def work(path: Path = path) -> bool:
            before, tally = memory(), Tally()
            tally.take(lambda: read(path), refusal, path.name)
            size = path.stat().st_size / 2**20
            used = memory() if kind == "pictures" else memory() - before - 3 * size
            done = "opened" if tally.opened else "refused" if tally.refused else "failed"
            print(f"{kind:12} {path.name:20} {size:6.1f} MB {done:8} {tally.slowest:5.2f} s")
            return not tally.failed and tally.slowest < seconds and used < megabytes

        sound &= apart(work)
    return sound


def apart(work: Callable[[], bool]) -> bool:
    """Do it in a process of its own, so that its memory can be told."""
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="damaged files of each kind")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = [damaged(kind, count, folder) for kind in AIMS]
        sound.append(crafted("checkpoints", bombs(folder)))
        sound.append(crafted("pictures", costly_pictures(folder)))
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
