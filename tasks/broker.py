"""A short look into the broker: a connection of its own, with a deadline for every answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AMQPError, InternalError, NotFound
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


#: Seconds that a queue has to say whether it lives.
QUEUE_SECONDS = 1.0


@contextmanager
def look(seconds: float = celery_config.SOCKET_SECONDS) -> Iterator[Look]:
    """With so many seconds for each answer. Raises BrokerUnavailable, also for whatever goes wrong inside."""
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


def is_dead(name: str) -> bool | None:
    """Whether RabbitMQ knows a queue and has no process for it; None when the queue does not answer in time. Raises
    BrokerUnavailable when nobody does."""
    with look(QUEUE_SECONDS) as open_look:
        try:
            return open_look.ready(name) == 0 and has_no_process(open_look.channel, name)
        except (AMQPError, OSError):
            return None


def has_no_process(channel: Any, name: str) -> bool:
    """Of a queue that says that it is empty, as such a queue does too. If so, RabbitMQ has closed the connection."""
    try:
        message = channel.basic_get(name)
    except InternalError as error:
        if _NO_PROCESS not in str(error):
            raise
        return True
    if message is not None:
        # It came just now, and is not for us.
        channel.basic_reject(message.delivery_tag, requeue=True)
    return False


#: RabbitMQ's word for it, in the text of its error.
_NO_PROCESS = "noproc"


def declare_anew(name: str) -> None:
    """Whatever it held is lost.

    Twice, because RabbitMQ's table of processes keeps the dead one until a living queue of that name is deleted: the
    new queue would be dead again after the next start.
    """
    with look() as open_look:
        for _ in range(2):
            open_look.channel.queue_delete(name)
            for queue in celery_config.all_queues():
                queue(open_look.channel).declare()
