"""Finds tickets that the broker lost: purged, expired by hand, or gone with its disk.

A long queue is not a loss. A ticket counts as lost only when the ledger has more confirmed tickets waiting than the
broker holds, in two scans in a row; then just as many are sent again as are missing, the longest waiting first.
Sending again whatever waits too long instead would double a backlog with every round.
"""

from __future__ import annotations

import logging
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

import celery_config
from ledger import queries, transitions
from ledger.tickets import Ticket
from settings import settings
from tasks import dispatch
from tasks.dispatch import BrokerUnavailable, Publisher

log = logging.getLogger(__name__)

#: What is dispatched after a scan began is not compared with it.
SETTLE_SECONDS = 3.0
MOST_AT_ONCE = 2_000


class Scan:
    """Compares the two, and remembers the last comparison."""

    def __init__(self) -> None:
        self._missing_before: dict[str, int] = {}

    def resend(self, publisher: Publisher) -> int:
        """One round; answers how many tickets were sent again."""
        ready = _ready_by_queue()
        waiting = queries.waiting_by_queue(SETTLE_SECONDS)
        missing = {queue: waiting.get(queue, 0) - ready.get(queue, 0) for queue in waiting}
        resent = 0
        for queue, number in missing.items():
            surely = min(number, self._missing_before.get(queue, 0))
            if surely > 0:
                resent += self._resend(publisher, queue, surely)
                missing[queue] = 0
        self._missing_before = missing
        return resent

    def _resend(self, publisher: Publisher, queue: str, number: int) -> int:
        tickets = queries.oldest_dispatched(queue, min(number, MOST_AT_ONCE))
        sent = dispatch.dispatch(publisher, tickets)
        transitions.count("redispatched", sent)
        for ticket in tickets:
            _tell(ticket)
        log.warning("sent %d lost tickets of %s again", sent, queue, extra={"action": "tickets_resent"})
        return sent


def _tell(ticket: Ticket) -> None:
    transitions.remark(ticket.task_id, "redispatched", f"its ticket was lost from {ticket.queue} and sent again")


def _ready_by_queue() -> dict[str, int]:
    """How many tickets each queue holds; 0 for a queue that is gone."""
    url = settings().broker_url.get_secret_value()
    seconds = celery_config.SOCKET_SECONDS
    connection = Connection(
        url,
        connect_timeout=dispatch.CONNECT_SECONDS,
        transport_options={"read_timeout": seconds, "write_timeout": seconds},
    )
    try:
        connection.connect()
        return {
            queue.name: _ready(connection, queue.name)
            for worker in celery_config.WORKERS
            for queue in celery_config.queues_of(worker)
        }
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
    finally:
        connection.collect(socket_timeout=1)


def _ready(connection: Connection, name: str) -> int:
    channel: Any = connection.channel()
    try:
        return int(channel.queue_declare(name, passive=True).message_count)
    except NotFound:
        return 0
    finally:
        channel.close()
