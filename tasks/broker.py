"""A short look into the broker: a connection of its own, with a deadline for every answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

import celery_config
from settings import settings
from tasks.dispatch import CONNECT_SECONDS, BrokerUnavailable, reach


class Look:
    """What the broker holds, asked over one channel."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.channel: Any = connection.channel()

    def ready(self, queue: str) -> int | None:
        """Messages that nobody has been given; None when there is no such queue."""
        try:
            return int(self.channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            # The broker closes a channel that asked for what is not there.
            self.channel = self._connection.channel()
            return None


@contextmanager
def look() -> Iterator[Look]:
    """Raises BrokerUnavailable, also for whatever goes wrong with the broker inside."""
    seconds = celery_config.SOCKET_SECONDS
    connection = Connection(
        settings().broker_url.get_secret_value(),
        connect_timeout=CONNECT_SECONDS,
        transport_options={"read_timeout": seconds, "write_timeout": seconds},
    )
    try:
        reach(connection)
        yield Look(connection)
    except (AMQPError, OSError) as error:
        raise BrokerUnavailable(f"{type(error).__name__}: {error}") from error
    finally:
        # collect, not close: a polite goodbye hangs on a broker that does not answer.
        connection.collect(socket_timeout=1)
