"""Wakes idle workers, and hears whether RabbitMQ is there at all: a knock to which no queue has to answer."""

from __future__ import annotations

from typing import Any

from amqp import Message

import celery_config

#: No kind of worker, so that no queue takes it.
_NOBODY = "nobody"


class Bell:
    def __init__(self, connection: Any) -> None:
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._last = self._confirmed = self._knock = 0

    def knock(self) -> None:
        self._publish(_NOBODY)
        self._knock = self._last

    @property
    def is_answered(self) -> bool:
        """Whether RabbitMQ has taken the last knock."""
        return self._confirmed >= self._knock

    def ring(self, worker: str) -> None:
        """Let idle workers look at once. A bell that nobody hears is no loss: they look by themselves soon enough."""
        self._publish(worker)

    def _publish(self, routing_key: str) -> None:
        self._last += 1
        self._channel.basic_publish(
            Message("", delivery_mode=1), exchange=celery_config.DOORBELL.name, routing_key=routing_key
        )

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._confirmed = max(self._confirmed, number)
