"""Wakes idle workers, and hears whether RabbitMQ is there at all: a knock to which no queue has to answer."""

from __future__ import annotations

from typing import Any

from amqp import Message

import celery_config

#: No kind of worker, so that no queue takes it.
_NOBODY = "nobody"


class Bell:
    def __init__(self, connection: Any) -> None:
        self._knocking, self._ringing = connection.channel(), connection.channel()
        self._knocking.confirm_select()
        self._knocking.events["basic_ack"].add(self._on_ack)
        self._knocks = self._answered = 0

    def knock(self) -> None:
        self._knocks += 1
        _publish(self._knocking, _NOBODY, "")

    @property
    def is_answered(self) -> bool:
        """Whether RabbitMQ has taken the last knock."""
        return self._answered == self._knocks

    def ring(self, queue: str) -> None:
        """Let idle workers look into a queue at once. A bell that nobody hears is no loss: they look by themselves soon
        enough."""
        _publish(self._ringing, celery_config.worker_of(queue), queue)

    def _on_ack(self, number: int, multiple: bool) -> None:
        self._answered = max(self._answered, number)


def _publish(channel: Any, routing_key: str, words: str) -> None:
    channel.basic_publish(
        Message(words, delivery_mode=1), exchange=celery_config.DOORBELL.name, routing_key=routing_key
    )
