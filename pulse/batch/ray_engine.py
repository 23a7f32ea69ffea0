"""The engine of a batch on a Ray cluster.

Actors hold the generator. They get orders, read pictures and write results by themselves, so that
what goes through the driver is names and lines of the manifest. Each has a few orders at a time and
gets more as it reports. The orders of one that dies are given to others.

Why this is not `ray.data` with a pool of actors: a data set is laid out from inputs that are listed
beforehand, where orders here are drawn one by one while earlier ones are reported; a block whose
worker died is tried again whole, and after the last try either ends the job or is left out
(`max_errored_blocks`) without saying which picture it held, where here a picture that kills three
workers is recorded by name and those it shared a worker with are done; and each call of a pool's
actor ends before the next begins, so that the candidates of two pictures could not share a batch.
"""

from __future__ import annotations

import os
import queue
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stylegan
from pulse.batch.foreman import PATIENCE, Foreman
from pulse.batch.storage import OWNER, open_folder
from pulse.batch.worker import Order, Report, Reports, Worker
from pulse.devices import Precision, choose_device
from pulse.imaging.pictures import InputError, setting
from pulse.search.latent import LatentPrior
from pulse.upscale import Upscaler
from stylegan.checkpoints import files_of
from stylegan.memory import keep_freed_memory

ON_CPU, ON_GPU = 4, 64
"""Orders that a worker has at a time."""
PAUSE = 0.05
"""Seconds that a worker waits for another order before it finishes what it has."""
MEBIBYTE = 2**20


def check(places: Sequence[str], device: str) -> None:
    """Find out before the work whether Ray is here and can do it.

    Args:
        places: of inputs and outputs.

    Raises:
        InputError: it is not, or cannot.
    """
    _ray()
    for place in places:
        if place.startswith("memory://"):
            raise InputError(
                f"{place} is in this process's memory, which workers cannot see; give a folder "
                "that they share, or an object storage."
            )
    if device == "mps":
        raise InputError(f"Ray knows no device mps; give {setting('device')} auto, cpu or cuda.")


class Cluster:
    """A Ray cluster, or one that is started on this machine for the time."""

    def __init__(
        self,
        upscaler: Upscaler,
        generator: str,
        device: str = "auto",
        precision: Precision = "auto",
        batch: int | None = None,
        address: str | None = None,
        workers: int | None = None,
        cpus_per_worker: int = 1,
    ) -> None:
        """
        Args:
            upscaler: with the generator of that name, on any device.
            device: of the workers: `cuda`, one GPU for each, or `cpu`; `auto` takes GPUs if the
                cluster has any.
            precision: as of `Upscaler.load`.
            batch: as of `Local`.
            address: as of `ray.init`; None starts Ray on this machine.
            workers: at most so many; None takes all that the cluster has room for.
        """
        self._files = [
            (path.name, np.fromfile(path, np.uint8))
            for path in files_of(stylegan.locate(generator))
        ]
        self._name = self.generator = upscaler.name
        self._sha256, self._prior = upscaler.sha256, upscaler.prior.to("cpu")
        self._device = device
        self._precision: Precision = precision
        self._batch, self._address = batch, address
        self._workers, self._cpus = workers, cpus_per_worker

    def work(self, output: str, owner: bytes, orders: Iterator[Order]) -> Reports:
        """Do the orders on all workers.

        Raises:
            InputError: there is no such cluster, or its workers cannot start.
            StorageError: the output folder cannot be used any more.
        """
        with self._connected() as ray:
            resources = ray.cluster_resources()
            gpus = int(resources.get("GPU", 0)) if self._device != "cpu" else 0
            if self._device == "cuda" and not gpus:
                raise InputError(
                    f"The Ray cluster has no GPU; give {setting('device')} auto or cpu."
                )
            places = gpus or int(resources.get("CPU", 0)) // self._cpus
            if not places:
                raise InputError(
                    f"The Ray cluster has {resources.get('CPU', 0):.0f} CPUs; give a smaller "
                    f"{setting('cpus_per_worker')}."
                )
            # No more workers than pictures.
            first = list(islice(orders, min(places, self._workers or places)))
            station = ray.remote(_Station).options(
                num_gpus=1 if gpus else 0,
                num_cpus=0 if gpus else self._cpus,
            )
            device, threads = ("cuda", 0) if gpus else ("cpu", self._cpus)
            weights = ray.put((self._files, self._prior))
            facts = _Facts(
                self._name,
                self._sha256,
                device,
                self._precision,
                threads,
                self._batch,
                output,
                owner,
                str(Path.cwd()),
            )
            most = ON_GPU if gpus else ON_CPU
            if self._batch is not None:
                most = max(ON_CPU, 2 * self._batch)
            yield from Foreman(ray, lambda: station.remote(weights, facts), len(first), most).work(
                first, orders
            )

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Ray, connected; what was started for it ends with the context."""
        ray = _ray()
        if ray.is_initialized():  # By the program that this is used in.
            yield ray
            return
        try:
            if self._address is not None:
                _knock(self._address)
                ray.init(self._address, log_to_driver=False, logging_level="ERROR")
            else:
                size = sum(len(data) for _, data in self._files)
                cpus = None if self._workers is None else self._workers * self._cpus
                ray.init(
                    "local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    object_store_memory=2 * size + 100 * MEBIBYTE,
                )
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(
                f"There is no Ray cluster at {self._address} ({error}); start one with `ray start "
                f"--head`, or leave out {setting('address')}."
            ) from error
        try:
            yield ray
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class _Facts:
    """What a worker has to know, beside the weights."""

    name: str
    sha256: str
    device: str
    precision: Precision
    threads: int
    batch: int | None
    output: str
    owner: bytes
    cwd: str


class _Station:
    """A worker in an actor. It works in a thread, so that it can report meanwhile."""

    def __init__(
        self, weights: tuple[list[tuple[str, np.ndarray]], LatentPrior], facts: _Facts
    ) -> None:
        self._weights, self._facts = weights, facts
        self._orders: queue.Queue[Order] = queue.Queue()
        self._reports: queue.Queue[Report | Exception] = queue.Queue()

    def start(self) -> tuple[str, int]:
        """Make ready. Gives host and process.

        Raises:
            InputError: it cannot.
        """
        facts, (files, prior) = self._facts, self._weights
        if Path(facts.cwd).is_dir():
            os.chdir(facts.cwd)  # So that relative paths mean what they mean to the driver.
        if facts.threads:
            torch.set_num_threads(facts.threads)
        keep_freed_memory()
        host = socket.gethostname()
        output = open_folder(facts.output)
        if output.read(OWNER) != facts.owner:
            raise InputError(
                f"A worker on {host} does not see {facts.output}: give an output folder that all "
                "machines share, or an object storage."
            )
        device = choose_device(facts.device)
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files:
                data.tofile(Path(folder) / name)
            path = Path(folder) / files[0][0]
            upscaler = Upscaler.open(path, facts.name, device, facts.precision, prior)
        if upscaler.sha256 != facts.sha256:
            raise InputError(f"The generator {facts.name} was changed at this moment.")
        worker = Worker(upscaler, output, facts.batch)
        threading.Thread(target=self._work, args=(worker,), daemon=True).start()
        return host, os.getpid()

    def exchange(self, orders: list[Order]) -> tuple[list[Report], Exception | None]:
        """Take orders; give what was done since the last time, at least one report.

        The second part is what ended the work, if something did.
        """
        for order in orders:
            self._orders.put(order)
        reports: list[Report] = []
        while not reports or not self._reports.empty():
            got = self._reports.get()
            if isinstance(got, Exception):
                return reports, got
            reports.append(got)
        return reports, None

    def _work(self, worker: Worker) -> None:
        try:
            for report in worker.work(self._stream()):
                self._reports.put(report)
        except Exception as error:  # It is raised again by the driver.
            self._reports.put(error)

    def _stream(self) -> Iterator[Order | None]:
        while True:
            try:
                yield self._orders.get(timeout=PAUSE)
            except queue.Empty:
                yield None


def _knock(address: str) -> None:
    """Raises OSError if nobody listens at `host:port`; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def _ray() -> Any:
    """Ray itself, told to be quiet and to report nothing to anyone.

    Raises:
        InputError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"{setting('engine')} ray needs Ray, which is not installed: pip install ray."
        ) from error
    return ray
