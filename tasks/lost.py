"""Finds tickets that the broker lost: purged, expired by hand, or gone with its disk.

A long queue is not a loss. Tickets count as lost only when the ledger has more confirmed tickets waiting than the
broker has ready, in two scans in a row, and the same tasks wait longest in both: tickets that workers are just taking
are missed for a moment too, but others each time. Then just as many are sent again as are missing, the longest waiting
first. Sending again whatever waits too long instead would double a backlog with every round.

Why what is ready, and not what is in a worker's hands too: docs/decisions/0005-lost-is-less-than-ready.md.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import celery_config
from ledger import dispatches, leadership, queries
from ledger.tickets import Place
from tasks import broker, dispatch
from tasks.dispatch import Publisher

log = logging.getLogger(__name__)

#: Seconds that a ticket has before it may count as lost, doubled each time that it does.
PATIENCE_SECONDS = 3.0
MOST_AT_ONCE = 2_000


@dataclass(frozen=True)
class Missing:
    """So many tickets of a queue, and the place of the last of those that would be sent again."""

    number: int
    up_to: Place


class Scan:
    """Compares the two, and remembers the last comparison."""

    def __init__(self) -> None:
        self._before: dict[str, Missing] = {}

    def resend(self, publisher: Publisher) -> int:
        """One round; answers how many tickets were sent again."""
        found, before = _missing(), self._before
        self._before = found
        return sum(
            self._resend(publisher, queue, min(found[queue].number, before[queue].number), before[queue].up_to)
            for queue in found.keys() & before.keys()
        )

    def _resend(self, publisher: Publisher, queue: str, number: int, up_to: Place) -> int:
        limit = min(number, MOST_AT_ONCE)
        tickets = dispatches.redispatch(queue, limit, up_to=up_to, patience_seconds=PATIENCE_SECONDS)
        if tickets:
            log.warning("sends %d lost tickets of %s again", len(tickets), queue, extra={"action": "tickets_resent"})
            leadership.check()
            dispatch.dispatch(publisher, tickets)
        return len(tickets)


def _missing() -> dict[str, Missing]:
    """By queue. The broker is asked first, and the ledger of what had been confirmed before that: what comes or is
    claimed in between is then not missed."""
    began = time.monotonic()
    with broker.look() as look:
        ready = {
            queue.name: look.ready(queue.name) or 0
            for worker in celery_config.WORKERS
            for queue in celery_config.queues_of(worker)
        }
    found = {}
    for queue, waiting in queries.waiting_by_queue(time.monotonic() - began).items():
        number = waiting - ready.get(queue, 0)
        if number > 0 and (up_to := queries.place_in_queue(queue, number)):
            found[queue] = Missing(number, up_to)
    return found
