"""Sends the tickets of freshly accepted tasks from a thread of the accepting process, so that no client waits for the
broker.

It holds nothing that matters: the rows are on disk, and what this thread misses, because the broker is away, the
process is killed, or more is accepted than it can send, the monitor sends. One of the two sends a ticket, and not both:
what has waited here for FRESH_SECONDS is left to the monitor, which begins `workers.monitor.MISSED_AFTER_SECONDS` after
the acceptance. What lies between the two is the time for a batch to be confirmed and marked.

That the broker has them is written down a moment later, for all tickets of that moment together: a transaction for
each few would cost the door and the ledger more, and would hold the row of a task just when a worker claims it. What
has been claimed by then needs no mark any more. A process that ends in peace sends and marks first what it has.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence

from ledger import db, dispatches
from ledger.tickets import Ticket
from tasks import dispatch
from tasks.dispatch import BATCH, BrokerUnavailable, Publisher

log = logging.getLogger(__name__)

#: Tickets that may wait here; beyond it they are left to the monitor.
MOST_WAITING = 10_000
#: Seconds that a ticket may wait here.
FRESH_SECONDS = 1.0
#: Seconds from the begin of a round to that of the next one: what comes meanwhile goes together.
ROUND_SECONDS = 0.01
#: Seconds for which marks are gathered.
MARK_SECONDS = 0.05
#: Seconds that a process which ends gives to what is under way.
FINISH_SECONDS = 1.0


class Waiting:
    """Tickets on their way to the thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._posts: deque[tuple[float, Sequence[Ticket]]] = deque()
        self.number = 0
        #: Some were taken, and what became of all of them is not written down yet.
        self.is_at_work = False

    def wait_until_over(self, *, within: float) -> None:
        """Until all that was put is sent and marked, or left to the monitor, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._posts and not self.is_at_work, within)

    def put(self, tickets: Sequence[Ticket]) -> bool:
        """False when there is no room for all of them."""
        with self._changed:
            if self.number + len(tickets) > MOST_WAITING:
                return False
            self._posts.append((time.monotonic(), tickets))
            self.number += len(tickets)
            self._changed.notify_all()
            return True

    def take(self, *, within: float | None) -> list[Ticket]:
        """About a batch of tickets that are fresh, as soon as there are any; none when all that came meanwhile have
        waited for too long, or nothing came within so many seconds."""
        found: list[Ticket] = []
        with self._changed:
            if not self._posts:
                self._changed.wait(within)
            while self._posts and len(found) < BATCH:
                since, tickets = self._posts.popleft()
                self.number -= len(tickets)
                if since > time.monotonic() - FRESH_SECONDS:
                    found += tickets
            self.is_at_work = self.is_at_work or bool(found)
        return found

    def settle(self) -> None:
        with self._changed:
            self.is_at_work = False
            self._changed.notify_all()


class Marks:
    """Tickets that the broker has, of which the ledger is still to be told."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._since = 0.0

    def add(self, tickets: Sequence[Ticket]) -> None:
        if not self._tickets:
            self._since = time.monotonic()
        self._tickets += tickets

    @property
    def due_in(self) -> float | None:
        """Seconds until they are to be written down; None when there are none."""
        if not self._tickets:
            return None
        return 0 if len(self._tickets) >= BATCH else max(0, self._since + MARK_SECONDS - time.monotonic())

    def write(self) -> None:
        written, self._tickets = self._tickets, []
        try:
            dispatches.mark_dispatched(written)
        except db.Unavailable as error:
            _tell_missed(written, error)


_waiting = Waiting()
_thread: threading.Thread | None = None
_starting = threading.Lock()


def send_soon(tickets: Sequence[Ticket]) -> None:
    """Hand tickets over and return at once."""
    _start()
    if tickets and not _waiting.put(tickets):
        log.info("too many tickets wait, leaving these to the monitor", extra={"action": "relay_full"})


def finish() -> None:
    """Wait until nothing is under way any more."""
    _waiting.wait_until_over(within=FINISH_SECONDS)


# While a process ends its daemons still run.
atexit.register(finish)


def _start() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        with _starting:
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_run, name="relay", daemon=True)
                _thread.start()


def _forget() -> None:
    global _waiting, _thread, _starting
    _waiting, _thread, _starting = Waiting(), None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _run() -> None:
    publisher, marks = Publisher(), Marks()
    while True:
        if marks.due_in is None:
            _waiting.settle()
        tickets = _waiting.take(within=marks.due_in)
        next_at = time.monotonic() + ROUND_SECONDS
        try:
            for arrived in dispatch.send(publisher, tickets):
                marks.add(arrived)
            if marks.due_in == 0:
                marks.write()
        except BrokerUnavailable as error:
            _tell_missed(tickets, error)
        except Exception:  # a broken batch must not end the relay
            log.exception("relay failed", extra={"action": "relay_failed"})
        time.sleep(max(0.0, next_at - time.monotonic()))


def _tell_missed(tickets: Sequence[Ticket], error: Exception) -> None:
    log.warning("left %d tickets to the monitor: %s", len(tickets), error, extra={"action": "relay_missed"})
