"""The work of a comparison: drawing and measuring, in processes of their own."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from pulse.evaluation.faces import lowered
from pulse.evaluation.judge import Judge
from pulse.evaluation.memory import peak_memory
from pulse.evaluation.methods import TRUTH, Method
from pulse.evaluation.store import Drawn, Entry, Store
from pulse.imaging.pictures import InputError
from stylegan import CheckpointError
from stylegan.memory import ran_out

OFTEN = 0.5
"""Seconds between two looks at how far the work is."""
PARTS = 8
"""Faces that a process measures before it ends, at least; it takes seconds to begin."""


@dataclass(frozen=True)
class Plan:
    """What to compare on what.

    Attributes:
        faces: in the order of the table's sheet.
        methods: in the order of the table.
        workers: processes at once.
    """

    store: Store
    faces: tuple[Entry, ...]
    methods: tuple[Method, ...]
    workers: int = 1

    @property
    def rows(self) -> tuple[Method | str, ...]:
        """What has a row in the table: the original first."""
        return (TRUTH, *self.methods)


@dataclass(frozen=True)
class TableProgress:
    """How far the work is: pictures drawn or measured, of how many, and which of the two."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Job:
    """Faces for one process: to draw with a method, or to measure where `method` is None."""

    store: Store
    method: Method | None
    faces: tuple[Entry, ...]
    threads: int
    rows: tuple[Method | str, ...] = ()


def compare(plan: Plan) -> Iterator[TableProgress]:
    """Draw what is not drawn yet, then measure what is not measured. To stop is to stop iterating.

    Each method draws in a process of its own, so that its memory can be told. A process that
    outlives this one ends after the face that it is at.

    Raises:
        InputError, stylegan.CheckpointError: a method cannot be used.
    """
    store, workers = plan.store, plan.workers
    threads = max(1, torch.get_num_threads() // workers)
    jobs = []
    for method in plan.methods:
        todo = [entry for entry in plan.faces if store.drawn(method, entry) is None]
        parts = min(workers, len(todo))
        jobs += [Job(store, method, tuple(todo[p::parts]), threads) for p in range(parts)]
    items = [(method, entry) for method in plan.methods for entry in plan.faces]
    yield from _watched(jobs, workers, _Stage("drawing", items, store.drawn))
    items = [(row, entry) for row in plan.rows for entry in plan.faces]
    left = {entry: None for row, entry in items if store.judged(row, entry) is None}
    todo, parts = list(left), min(workers, -(-len(left) // PARTS))
    jobs = [Job(store, None, tuple(todo[p::parts]), threads, plan.rows) for p in range(parts)]
    yield from _watched(jobs, workers, _Stage("measuring", items, store.judged))


@dataclass(frozen=True)
class _Stage:
    """What is to be done, and a way to find out of what is done."""

    name: str
    items: Sequence[tuple[Method | str, Entry]]
    known: Callable[[Method | str, Entry], object]


def _watched(jobs: list[Job], workers: int, stage: _Stage) -> Iterator[TableProgress]:
    """Run the jobs, a few at once, and say how far they are until all have ended."""
    spawn = multiprocessing.get_context("spawn")
    waiting, running = deque(jobs), dict[BaseProcess, Connection]()
    left = stage.items
    try:
        while True:
            left = [item for item in left if stage.known(*item) is None]
            yield TableProgress(stage.name, len(stage.items) - len(left), len(stage.items))
            while waiting and len(running) < workers:
                receiver, sender = spawn.Pipe(duplex=False)
                process = spawn.Process(target=_work, args=(waiting.popleft(), sender), daemon=True)
                process.start()
                sender.close()
                running[process] = receiver
            if not running:
                return
            wait([process.sentinel for process in running], OFTEN)
            for process in [process for process in running if not process.is_alive()]:
                _check(process, running.pop(process))
    finally:
        for process in running:
            process.terminate()
            process.join()


def _check(process: BaseProcess, receiver: Connection) -> None:
    """Raise what went wrong in a process that has ended."""
    try:
        raise receiver.recv()
    except EOFError:
        pass
    finally:
        receiver.close()
    code = process.exitcode
    if code is not None and code < 0:
        raise InputError(
            f"A process was ended by the system (signal {-code}), perhaps for want of memory: give "
            "fewer --workers. The same command goes on from there."
        )
    if code:
        raise RuntimeError(f"A process failed with exit code {code}; what it said is above.")


def _work(job: Job, sender: Connection) -> None:
    """What a process does. It sends what a person can mend, and shows other faults itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    torch.set_num_threads(job.threads)
    try:
        if job.method is None:
            _judge(job)
        else:
            _draw(job, job.method)
    except (InputError, CheckpointError) as error:
        sender.send(error)
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        words = "There is too little memory for {}: close other programs, or give fewer --workers."
        what = "measuring" if job.method is None else job.method.name
        sender.send(InputError(words.format(what)))


def _draw(job: Job, method: Method) -> None:
    store = job.store
    draw = method.open(store.lr_size, store.size)
    for entry in _while_wanted(job.faces):
        low = lowered(store.pictures(TRUTH, entry)[0], store.lr_size)
        start = time.monotonic()
        pictures = draw(low)
        drawn = Drawn(len(pictures), time.monotonic() - start, peak_memory())
        store.put_drawn(method, entry, pictures, drawn)


def _judge(job: Job) -> None:
    store, judge = job.store, Judge()
    for entry in _while_wanted(job.faces):
        truth = store.pictures(TRUTH, entry)[0]
        for row in job.rows:
            if store.judged(row, entry) is None:
                judged = judge.judge(store.pictures(row, entry), truth, store.lr_size)
                store.put_judged(row, entry, judged)


def _while_wanted(faces: tuple[Entry, ...]) -> Iterator[Entry]:
    """The faces, as long as the process that wants them lives."""
    parent = multiprocessing.parent_process()
    for entry in faces:
        if parent is not None and not parent.is_alive():
            return
        yield entry
