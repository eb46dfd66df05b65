"""Tickets to RabbitMQ, many for one wait, each confirmed; and the note in the ledger that the broker has them.

A bell rings for idle workers behind the tickets of a batch, in the same write. They ask for a ticket by a word that
stands behind it in the queue's log, so that nobody has to wait for the confirm first.

When things fail: what is not confirmed is not marked, and what is not marked is sent again by the monitor. A ticket
that arrives twice loses the claim. So nothing here is retried for long. A queue that takes nothing while RabbitMQ
answers is left alone for a while (`tasks.silence`), and keeps nobody waiting whose queue does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from amqp.exceptions import AccessRefused, AMQPError
from kombu import Connection

import celery_config
from ledger import dispatches
from ledger.tickets import Ticket
from settings import settings
from tasks.bell import Bell
from tasks.cork import corked
from tasks.line import Line
from tasks.silence import Silence

log = logging.getLogger(__name__)

#: Tickets that wait for one confirmation together.
BATCH = 200
#: Seconds for the broker to connect, to take a batch, and to confirm it. In an alarm it does none of them.
CONNECT_SECONDS = 2
CONFIRM_SECONDS = 5
#: The same for a queue that did not confirm the last time either, while the others wait for their turn.
SILENT_SECONDS = 2


class BrokerUnavailable(Exception):
    """RabbitMQ cannot be reached, is blocked by an alarm, or did not confirm in time."""


def reach(connection: Connection) -> None:
    """Connect to the first node that answers; each is tried once. kombu's `connect` makes two tries however many nodes
    there are, and sits two seconds between them when there is one."""
    connection.ensure_connection(
        max_retries=len(settings().broker_urls) - 1, interval_start=0, reraise_as_library_errors=False
    )


class Publisher:
    """One connection to the broker, for one thread. Opened when needed, dropped after any trouble."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._bell: Bell | None = None
        self._lines: dict[str, Line] = {}
        self.silence = Silence()

    def send(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Publish tickets and wait for their confirms. Answers with those that a queue has taken.

        Raises BrokerUnavailable; some of the tickets may have arrived all the same.
        """
        fresh = self._connection is None
        try:
            return self._send(tickets)
        except BrokerUnavailable:
            # An old connection may have died unnoticed while nothing was sent.
            if fresh:
                raise
            return self._send(tickets)

    def close(self) -> None:
        if self._connection is not None:
            # collect, not close: a polite goodbye hangs on a broker that does not answer.
            self._connection.collect(socket_timeout=1)
            self._connection, self._bell, self._lines = None, None, {}

    def _send(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        try:
            if self._connection is None:
                self._open()
            return self._publish(tickets)
        except (AMQPError, OSError, TimeoutError) as error:
            self.close()
            raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error

    def _open(self) -> None:
        self._connection = Connection(
            settings().broker_url.get_secret_value(),
            connect_timeout=CONNECT_SECONDS,
            heartbeat=0,
            transport_options={"read_timeout": CONFIRM_SECONDS, "write_timeout": CONFIRM_SECONDS},
        )
        reach(self._connection)
        # Or py-amqp looks for an alarm before each message, which takes as long as to write it. In an alarm nothing is
        # confirmed, which is seen.
        self._connection.connection.client_properties["capabilities"]["connection.blocked"] = False
        self._declare(self._connection)
        self._bell, self._lines = Bell(self._connection), {}

    def _declare(self, connection: Connection) -> None:
        """Every queue. Who may not declare them sends to those that the workers made: RabbitMQ closes the channel of
        who tries."""
        channel = connection.channel()
        with suppress(AccessRefused):
            for queue in celery_config.all_queues():
                queue(channel).declare()
            celery_config.DOORBELL(channel).declare()

    def _publish(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        assert self._bell is not None
        if not tickets:
            return []
        called = {ticket.queue for ticket in tickets}
        # Best first, as the bell rings for them.
        lines = [self._line(queue) for queue in celery_config.queue_names() if queue in called]
        with corked(self._connection):
            self._bell.knock()
            for ticket in tickets:
                self._lines[ticket.queue].send(ticket)
            for line in lines:
                self._bell.ring(line.queue)
        self._wait(lines)
        taken = [ticket for line in lines for ticket in line.taken]
        if not taken and not self._bell.is_answered:
            raise TimeoutError(f"no confirm within {CONFIRM_SECONDS} s")
        self._judge(lines)
        return taken

    def _line(self, queue: str) -> Line:
        if queue not in self._lines:
            self._lines[queue] = Line(self._connection, queue)
        line = self._lines[queue]
        line.begin()
        return line

    def _wait(self, lines: Sequence[Line]) -> None:
        """Until no ticket waits for its confirm any more, or none has come for long."""
        while waiting := [line for line in lines if line.waits]:
            known = all(line.queue in self.silence for line in waiting)
            assert self._connection is not None
            try:
                self._connection.drain_events(timeout=SILENT_SECONDS if known else CONFIRM_SECONDS)
            except TimeoutError:
                return

    def _judge(self, lines: Sequence[Line]) -> None:
        """Remember the queues that took nothing. Those that were deleted are declared again the next time."""
        for line in lines:
            if line.taken and not line.waits:
                self.silence.ends(line.queue)
            elif not line.is_gone:
                seconds = self.silence.begins(line.queue)
                words = "queue %s takes no tickets, leaving it alone for %.0f s"
                log.warning(words, line.queue, seconds, extra={"action": "queue_silent", "queue": line.queue})
        if any(line.waits or line.is_gone for line in lines):
            self.close()


def send(publisher: Publisher, tickets: Iterable[Ticket]) -> Iterator[list[Ticket]]:
    """Send tickets in batches; gives those of each batch that arrived. What belongs to a queue that rests is left for
    later."""
    waiting = [ticket for ticket in tickets if not publisher.silence.rests(ticket.queue)]
    for start in range(0, len(waiting), BATCH):
        yield publisher.send(waiting[start : start + BATCH])


def dispatch(publisher: Publisher, tickets: Iterable[Ticket]) -> int:
    """Send tickets, and mark those that arrived; answers how many did."""
    sent = 0
    for arrived in send(publisher, tickets):
        if arrived:
            dispatches.mark_dispatched(arrived)
        sent += len(arrived)
    return sent
