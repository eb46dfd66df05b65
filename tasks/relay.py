"""Sends the tickets of freshly accepted tasks from a thread of the accepting process, so that no client waits for the
broker.

It holds nothing that matters: the rows are on disk, and what this thread misses, because the broker is away, the
process is killed, or more is accepted than it can send, the monitor sends. One of the two sends a ticket, and not both:
what has waited here for FRESH_SECONDS is left to the monitor, which begins `workers.monitor.MISSED_AFTER_SECONDS` after
the acceptance. What lies between the two is the time for a batch to be confirmed.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from ledger import db
from ledger.tickets import Ticket
from tasks import dispatch
from tasks.dispatch import BATCH, BrokerUnavailable, Publisher

log = logging.getLogger(__name__)

#: Tickets that may wait here; beyond it they are left to the monitor.
MOST_WAITING = 10_000
#: Seconds that a ticket may wait here.
FRESH_SECONDS = 1.0


class _Waiting(NamedTuple):
    ticket: Ticket
    since: float


_waiting: queue.Queue[_Waiting] = queue.Queue(MOST_WAITING)
_thread: threading.Thread | None = None
_starting = threading.Lock()


def send_soon(tickets: Sequence[Ticket]) -> None:
    """Hand tickets over and return at once."""
    _start()
    now = time.monotonic()
    for ticket in tickets:
        try:
            _waiting.put_nowait(_Waiting(ticket, now))
        except queue.Full:
            log.info("too many tickets wait, leaving the rest to the monitor", extra={"action": "relay_full"})
            return


def _start() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        with _starting:
            if _thread is None or not _thread.is_alive():
                _thread = threading.Thread(target=_run, name="relay", daemon=True)
                _thread.start()


def _forget() -> None:
    global _waiting, _thread, _starting
    _waiting, _thread, _starting = queue.Queue(MOST_WAITING), None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _run() -> None:
    publisher = Publisher()
    while True:
        tickets = _take()
        try:
            dispatch.dispatch(publisher, tickets)
        except (BrokerUnavailable, db.Unavailable) as error:
            log.warning("left %d tickets to the monitor: %s", len(tickets), error, extra={"action": "relay_missed"})
        except Exception:  # a broken batch must not end the relay
            log.exception("relay failed", extra={"action": "relay_failed"})


def _take() -> list[Ticket]:
    """The next tickets that are fresh; none when all that came meanwhile have waited for too long."""
    found = [_waiting.get()]
    while len(found) < BATCH:
        try:
            found.append(_waiting.get_nowait())
        except queue.Empty:
            break
    oldest = time.monotonic() - FRESH_SECONDS
    return [each.ticket for each in found if each.since > oldest]
