"""One queue's own channel to RabbitMQ: what was sent on it, and what became of that.

A channel works off what it gets in order, and waits for a queue that does not answer. So each queue has one, and what
is sent to the others does not stand behind it.
"""

from __future__ import annotations

import logging
from typing import Any

import celery_config
from ledger.tickets import Ticket
from tasks.cork import caught
from tasks.message import Form, blank, filled_in, form_of

log = logging.getLogger(__name__)

#: Forms that a line keeps.
MOST_FORMS = 1_000


class Line:
    def __init__(self, connection: Any, queue: str) -> None:
        self.queue = queue
        self._connection = connection
        self._channel = connection.channel()
        self._forms: dict[Form, bytes] = {}
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)
        self._last = 0
        self.begin()

    def begin(self) -> None:
        """Forget what was sent before."""
        self._sent: dict[int, Ticket] = {}
        self._unconfirmed: set[int] = set()
        self._refused: set[int] = set()
        self._returned: set[str] = set()

    def send(self, ticket: Ticket) -> None:
        """Whoever made the connection has bounded how long a write may take."""
        form = form_of(ticket)
        frames = self._forms.get(form) or self._written(form)
        self._last += 1
        self._sent[self._last] = ticket
        self._unconfirmed.add(self._last)
        self._connection.connection.transport.write(filled_in(frames, ticket))

    def _written(self, form: Form) -> bytes:
        """The frames of a blank form, as py-amqp writes them on this channel."""
        with caught(self._connection) as frames:
            self._channel.basic_publish(
                blank(form), exchange=celery_config.TICKETS.name, routing_key=self.queue, mandatory=True
            )
        if len(self._forms) == MOST_FORMS:
            self._forms.clear()
        self._forms[form] = bytes(frames)
        return self._forms[form]

    @property
    def waits(self) -> bool:
        """Whether something has been neither taken nor refused yet."""
        return bool(self._unconfirmed)

    @property
    def is_gone(self) -> bool:
        """Whether RabbitMQ has no such queue."""
        return bool(self._returned)

    @property
    def taken(self) -> list[Ticket]:
        """What the queue has."""
        not_taken = self._unconfirmed | self._refused
        return [
            ticket
            for number, ticket in self._sent.items()
            if number not in not_taken and ticket.task_id not in self._returned
        ]

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
