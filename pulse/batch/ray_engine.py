"""The engine of a batch on a Ray cluster.

Actors hold the generator. They get orders, read pictures and write results by themselves, so that
what goes through the driver is names and lines of the manifest. Each has a few orders at a time and
gets more as it reports. The orders of one that dies are given to others.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stylegan
from pulse.batch.jobs import Order, Report, Reports, Worker
from pulse.batch.manifest import Entry
from pulse.batch.storage import OWNER, open_folder
from pulse.imaging.pictures import InputError
from pulse.search.latent import LatentPrior
from pulse.upscale import Upscaler, choose_device
from stylegan.checkpoints import files_of
from stylegan.memory import keep_freed_memory

ON_CPU, ON_GPU = 4, 64
"""Orders that a worker has at a time."""
TIMES = 3
"""How many workers a picture may kill."""
PATIENCE = 30.0
"""Seconds without any worker after which that is said."""
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
        raise InputError("Ray knows no device mps; give --device auto, cpu or cuda.")


class Cluster:
    """A Ray cluster, or one that is started on this machine for the time."""

    def __init__(
        self,
        upscaler: Upscaler,
        generator: str,
        device: str = "auto",
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
            batch: as of `Local`.
            address: as of `ray.init`; None starts Ray on this machine.
            workers: at most so many; None takes all that the cluster has room for.
        """
        self._files = [
            (path.name, np.fromfile(path, np.uint8))
            for path in files_of(stylegan.locate(generator))
        ]
        prior = LatentPrior(upscaler.prior.mean.cpu(), upscaler.prior.std.cpu())
        self._name, self._sha256, self._prior = upscaler.name, upscaler.sha256, prior
        self._device, self._batch, self._address = device, batch, address
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
                raise InputError("The Ray cluster has no GPU; give --device auto or cpu.")
            places = gpus or int(resources.get("CPU", 0)) // self._cpus
            if not places:
                raise InputError(
                    f"The Ray cluster has {resources.get('CPU', 0):.0f} CPUs; give a smaller "
                    "--cpus-per-worker."
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
                threads,
                self._batch,
                output,
                owner,
                str(Path.cwd()),
            )
            most = ON_GPU if gpus else ON_CPU
            if self._batch is not None:
                most = max(ON_CPU, 2 * self._batch)
            yield from _Foreman(ray, lambda: station.remote(weights, facts), len(first), most).work(
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
                "--head`, or leave out --address."
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
            if stylegan.identity(path) != facts.sha256:
                raise InputError(f"The generator {facts.name} was changed at this moment.")
            generator = stylegan.load(path, device)
        prior = LatentPrior(prior.mean.to(device), prior.std.to(device))
        upscaler = Upscaler(generator, facts.name, facts.sha256, prior)
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


@dataclass(eq=False)
class _Hand:
    """An actor as the driver sees it.

    Attributes:
        call: that it has not answered yet.
        started: whether it is ready for orders.
        orders: that it has, by number.
        new: those of them that it was not told of yet.
    """

    actor: Any
    call: Any
    started: bool = False
    orders: dict[int, Order] = field(default_factory=dict)
    new: list[Order] = field(default_factory=list)

    def give(self, order: Order) -> None:
        self.orders[order.number] = order
        self.new.append(order)


class _Foreman:
    """Gives orders to actors and collects their reports."""

    def __init__(self, ray: Any, hire: Any, count: int, most: int) -> None:
        """
        Args:
            hire: makes an actor.
            count: of actors.
            most: orders that one has at a time.
        """
        self._ray, self._hire, self._most = ray, hire, most
        self._hands = [self._new_hand() for _ in range(count)]
        # By the number of an order: workers that it may have killed, and what was done of it then.
        self._strikes: dict[int, int] = {}
        self._partly: dict[int, list[Entry]] = {}
        self._again: deque[Order] = deque()
        self._failures = 0
        self._over = count == 0  # Whether the last order was taken.

    def work(self, first: list[Order], orders: Iterator[Order]) -> Iterator[Report]:
        fresh: deque[Order] = deque(first)
        waiting_since = time.monotonic()
        try:
            while True:
                self._give(fresh, orders)
                left = fresh or self._again or any(hand.orders for hand in self._hands)
                if self._over and not left:
                    return
                calls = {hand.call: hand for hand in self._hands if hand.call is not None}
                done, _ = self._ray.wait(list(calls), num_returns=1, timeout=PATIENCE)
                if any(hand.started for hand in self._hands):
                    waiting_since = time.monotonic()
                elif time.monotonic() - waiting_since > PATIENCE:
                    _say("No Ray worker has started yet; the cluster may have no room for one.")
                    waiting_since = time.monotonic()
                for call in done:
                    yield from self._answer(calls[call])
        finally:
            for hand in self._hands:
                self._ray.kill(hand.actor)

    def _give(self, fresh: deque[Order], orders: Iterator[Order]) -> None:
        """Fill up all who wait for orders, in turn, and tell them."""
        waiting = [hand for hand in self._hands if hand.started and hand.call is None]
        for hand in waiting:
            # Who may have killed a worker is given out alone, so that it can be known.
            if self._again and not hand.orders:
                hand.give(self._again.popleft())
        open_hands = [hand for hand in waiting if self._may_have_more(hand)]
        while open_hands:
            for hand in list(open_hands):
                order = fresh.popleft() if fresh else next(orders, None)
                if order is None:
                    self._over, open_hands = True, []
                    break
                hand.give(order)
                if len(hand.orders) >= self._most:
                    open_hands.remove(hand)
        for hand in waiting:
            if hand.orders:
                hand.call = hand.actor.exchange.remote(hand.new)
                hand.new = []

    def _may_have_more(self, hand: _Hand) -> bool:
        suspect = any(number in self._strikes for number in hand.orders)
        return not (suspect or self._again or len(hand.orders) >= self._most)

    def _answer(self, hand: _Hand) -> Iterator[Report]:
        """What one that was called has to say."""
        call, hand.call = hand.call, None
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            yield from self._lost(hand, error)
            return
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, InputError):
                raise InputError(str(cause)) from None
            raise
        if not hand.started:
            host, process = answer
            hand.started, self._failures = True, 0
            _say(f"A worker has started: process {process} on {host}.")
            return
        reports, error = answer
        for report in reports:
            done = self._partly.get(report.number, [])
            if report.fresh and not report.last:
                self._partly.setdefault(report.number, []).extend(report.entries)
            if not report.fresh:  # What was reported before a worker died is known.
                told = {entry.face for entry in done}
                entries = tuple(entry for entry in report.entries if entry.face not in told)
                report = replace(report, entries=entries)
            if report.last:
                hand.orders.pop(report.number, None)
                self._partly.pop(report.number, None)
                self._strikes.pop(report.number, None)
            yield report
        if error is not None:
            raise error

    def _lost(self, hand: _Hand, error: Exception) -> Iterator[Report]:
        """Another takes the place of an actor that died; what it had in work is done again."""
        self._hands.remove(hand)
        if not hand.started:
            self._failures += 1
            if self._failures >= TIMES:
                raise InputError(f"No Ray worker can start: {error}") from None
        _say("A worker has died; others do what it had in work.")
        for number, order in hand.orders.items():
            strikes = self._strikes[number] = self._strikes.get(number, 0) + 1
            if strikes < TIMES:
                self._again.append(self._rest(order))
                continue
            item = order.item
            reason = f"{item.source} ended {TIMES} workers that worked on it, so it was given up."
            entry = Entry(
                item.output, None, item.source, None, None, None, 0, "error", reason=reason
            )
            del self._strikes[number]
            yield Report(number, (entry,))
        self._hands.append(self._new_hand())

    def _rest(self, order: Order) -> Order:
        """An order without what was done of it."""
        done = tuple(self._partly.get(order.number, ()))
        if not done:
            return order
        return replace(order, known=done if order.force else order.known + done, force=False)

    def _new_hand(self) -> _Hand:
        actor = self._hire()
        return _Hand(actor, actor.start.remote())


def _say(text: str) -> None:
    print(text, file=sys.stderr)


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
            "--engine ray needs Ray, which is not installed: pip install ray."
        ) from error
    return ray
