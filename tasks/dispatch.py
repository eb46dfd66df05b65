"""Tickets to RabbitMQ, many for one wait, each confirmed; and the note in the ledger that the broker has them.

A ticket is a Celery message, protocol 2, made by hand: `apply_async` costs eight times as much, knows no `mandatory`
flag, and copies the arguments into headers and events, where everybody reads them. Ours carries the task's id and the
number of the attempt; a test compares it with Celery's own.

When things fail: what is not confirmed is not marked, and what is not marked is sent again by the monitor. A ticket
that arrives twice loses the claim. So nothing here is retried for long.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from amqp import Message
from amqp.exceptions import AccessRefused, AMQPError
from kombu import Connection

import celery_config
from ledger import transitions
from ledger.tickets import Terms, Ticket
from settings import settings

log = logging.getLogger(__name__)

#: Tickets that wait for one confirmation together.
BATCH = 200
#: Seconds for the broker to connect, to take a batch, and to confirm it. In an alarm it does none of them.
CONNECT_SECONDS = 2
CONFIRM_SECONDS = 5
#: Seconds beyond a task's own timeout after which its worker kills the attempt, rollback included.
HARD_LIMIT_MARGIN_SECONDS = 15


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
        self._channel: Any = None
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._returned: set[str] = set()

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
            self._connection = None

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
        self._channel = self._declared(self._connection)
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._last = 0

    def _declared(self, connection: Connection) -> Any:
        """A channel, with every queue declared. Who may not declare them sends to those that the workers made: RabbitMQ
        closes the channel of who tries."""
        channel = connection.channel()
        try:
            for queue in celery_config.all_queues():
                queue(channel).declare()
            celery_config.DOORBELL(channel).declare()
        except AccessRefused:
            return connection.channel()
        return channel

    def _publish(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        self._unconfirmed, self._refused, self._returned = set(), set(), set()
        numbers: dict[int, Ticket] = {}
        for ticket in tickets:
            self._last += 1
            numbers[self._last] = ticket
            self._unconfirmed.add(self._last)
            self._channel.basic_publish(
                message_of(ticket),
                exchange=celery_config.TICKETS.name,
                routing_key=ticket.queue,
                mandatory=True,
                timeout=CONFIRM_SECONDS,
            )
        while self._unconfirmed:
            self._drain()
        self._ring({ticket.queue for ticket in tickets})
        if self._returned:
            # A queue was deleted; declare them all again for the next time.
            self.close()
        return [
            ticket
            for number, ticket in numbers.items()
            if number not in self._refused and ticket.task_id not in self._returned
        ]

    def _ring(self, queues: set[str]) -> None:
        """Let idle workers look at once. A bell that nobody hears is no loss: they look by themselves soon enough."""
        for worker in {celery_config.worker_of(queue) for queue in queues}:
            self._last += 1  # confirms count it too
            self._channel.basic_publish(
                Message("", delivery_mode=1), exchange=celery_config.DOORBELL.name, routing_key=worker
            )

    def _drain(self) -> None:
        assert self._connection is not None
        try:
            self._connection.drain_events(timeout=CONFIRM_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(f"no confirm within {CONFIRM_SECONDS} s") from error

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._unconfirmed -= self._meant(number, multiple)

    def _on_nack(self, number: int, multiple: bool) -> None:
        meant = self._meant(number, multiple)
        self._refused |= meant
        self._unconfirmed -= meant

    def _meant(self, number: int, multiple: bool) -> set[int]:
        return {each for each in self._unconfirmed if each <= number} if multiple else {number}

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        log.warning("queue %s is gone, it will be declared again", routing_key, extra={"action": "queue_gone"})
        self._returned.add(message.headers["id"])


def message_of(ticket: Ticket) -> Message:
    """The ticket as Celery's workers read it."""
    return Message(
        json.dumps([[ticket.attempt], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        correlation_id=ticket.task_id,
        application_headers={
            "lang": "py",
            "task": ticket.task_type,
            "id": ticket.task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": ticket.attempt - 1,
            # The soft limit is ours, see tasks.heartbeat: Celery's could hit a database driver in mid-conversation.
            "timelimit": [ticket.timeout_seconds + HARD_LIMIT_MARGIN_SECONDS, None],
            "root_id": ticket.task_id,
            "parent_id": None,
            "argsrepr": f"attempt {ticket.attempt}",
            "kwargsrepr": "",
            "origin": _ORIGIN,
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
    )


def terms_of(request: Any) -> Terms:
    """The terms of the ticket that a worker's child was given, as Celery hands it over."""
    return Terms(request.delivery_info["routing_key"], int(request.timelimit[0]) - HARD_LIMIT_MARGIN_SECONDS)


_ORIGIN = f"sluice@{socket.gethostname()}"


def dispatch(publisher: Publisher, tickets: Iterable[Ticket]) -> int:
    """Send tickets in batches and mark those that arrived; answers how many did."""
    waiting, sent = list(tickets), 0
    for start in range(0, len(waiting), BATCH):
        arrived = publisher.send(waiting[start : start + BATCH])
        if arrived:
            transitions.mark_dispatched(arrived)
        sent += len(arrived)
    return sent
