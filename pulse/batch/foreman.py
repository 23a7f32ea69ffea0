"""Who gives orders to the actors of a Ray cluster, and collects what they report.

Ray itself is handed in, so that the tests can put something smaller in its place.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pulse.batch.manifest import Entry
from pulse.batch.worker import Order, Report
from pulse.imaging.pictures import InputError

TIMES = 3
"""How many workers a picture may kill."""
PATIENCE = 30.0
"""Seconds without any worker after which that is said."""


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


class Foreman:
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
                raise InputError(*cause.args) from None
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
