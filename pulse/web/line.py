"""Visitors in a line, and work that tells how far it is and can be left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pulse.imaging.pictures import InputError
from pulse.web.updates import Waiting

Update = TypeVar("Update")
EVERY = 0.25
"""Seconds between two looks at a search that is going on."""


class RefusedError(InputError):
    """There is no place in the line."""


class _StoppedError(BaseException):
    """Leaves the work of a visitor who does not wait for it any more.

    No part of the work may take it for a failure that it can go on after.
    """


@dataclass(frozen=True, eq=False)
class _Ticket:
    address: str


class Line:
    """First come, first served, `places` at a time."""

    def __init__(self, places: int, waiting: int, each: int) -> None:
        """
        Args:
            each: how many tickets one address may hold.
        """
        self._places, self._most, self._each = places, places + waiting, each
        self._tickets: list[_Ticket] = []
        self._lock = threading.Lock()

    def join(self, address: str = "") -> object:
        """A ticket, to be handed to `leave` in any case.

        Args:
            address: of who asks for it, where that is known.

        Raises:
            RefusedError: too many wait already, or too many of that address.
        """
        with self._lock:
            if len(self._tickets) >= self._most:
                raise RefusedError(
                    "Too many people are waiting; please come back in a few minutes."
                )
            held = sum(ticket.address == address for ticket in self._tickets)
            if address and held >= self._each:
                raise RefusedError("Too many searches of yours are waiting; let one of them end.")
            self._tickets.append(ticket := _Ticket(address))
            return ticket

    def ahead(self, ticket: object) -> int:
        """How many have to leave before it is the ticket's turn."""
        with self._lock:
            place = next(i for i, other in enumerate(self._tickets) if other is ticket)
            return max(place - self._places + 1, 0)

    def leave(self, ticket: object) -> None:
        with self._lock:
            self._tickets = [other for other in self._tickets if other is not ticket]

    def turn(self, ticket: object, stop: threading.Event) -> Iterator[Waiting]:
        """Wait until it is the ticket's turn, or a stop."""
        last = None
        while (ahead := self.ahead(ticket)) and not stop.wait(0.1):
            if ahead != last:
                yield Waiting(ahead)
            last = ahead

    def serve(
        self,
        work: Callable[[Callable[[Update], None]], None],
        stop: threading.Event,
        address: str = "",
    ) -> Iterator[Waiting | Update]:
        """Wait, then `follow` the work; it ends within a second after `stop` is set.

        The place is free again when what is being computed then is over.

        Raises:
            RefusedError: the line is too long.
        """
        ticket = self.join(address)
        try:
            yield from self.turn(ticket, stop)
        except GeneratorExit:
            self.leave(ticket)
            raise
        if stop.is_set():
            self.leave(ticket)
            return

        def served(tell: Callable[[Update], None]) -> None:
            try:
                work(tell)
            finally:
                self.leave(ticket)

        yield from follow(served, stop)


def follow(
    work: Callable[[Callable[[Update], None]], None], stop: threading.Event, every: float = EVERY
) -> Iterator[Update]:
    """Do the work in a thread and yield the newest of what it tells, at intervals of
    `every` seconds.

    So a stop need not wait for a step that takes long, and a slow line delays no search. After a
    stop the thread ends as soon as it tells something. What it raises is raised here.
    """
    condition = threading.Condition()
    newest: Update | None = None
    over = left = False
    failure: BaseException | None = None

    def tell(update: Update) -> None:
        nonlocal newest
        with condition:
            if left or stop.is_set():
                raise _StoppedError
            newest = update
            condition.notify()

    def body() -> None:
        nonlocal over, failure
        try:
            work(tell)
        except _StoppedError:
            pass
        except BaseException as error:
            failure = error
        with condition:
            over = True
            condition.notify()

    threading.Thread(target=body, daemon=True).start()

    def news() -> bool:
        return over or newest is not None

    try:
        while True:
            with condition:
                condition.wait_for(news, timeout=0.1)
                update, newest, ended = newest, None, over
            if update is not None:
                yield update
                if not ended:
                    stop.wait(every)
            elif ended:
                if failure is not None:
                    raise failure
                return
            elif stop.is_set():
                return
    finally:
        left = True
