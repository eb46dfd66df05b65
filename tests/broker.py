"""The private RabbitMQ as a test sees it: what its queues hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import InternalError, NotFound
from kombu import Connection

import celery_config
from cli.stack import Stack
from settings import settings
from tasks import dispatch
from tasks.broker import declare_anew, is_dead

#: Where nobody listens.
NOWHERE = "amqp://guest@127.0.0.1:1//"


@contextmanager
def channel() -> Iterator[Any]:
    with Connection(settings().broker_url.get_secret_value(), connect_timeout=5) as connection:
        dispatch.reach(connection)
        yield connection.channel()


def declare_empty() -> None:
    """Every queue is there, and holds nothing."""
    try:
        _purge_all()
    except InternalError:
        # A test before this one killed RabbitMQ at a bad moment for one of them.
        for queue in celery_config.all_queues():
            if is_dead(queue.name):
                declare_anew(queue.name)
        _purge_all()


def _purge_all() -> None:
    with channel() as open_channel:
        for queue in celery_config.all_queues():
            bound = queue(open_channel)
            bound.declare()
            bound.purge()


def purge(name: str) -> None:
    with channel() as open_channel:
        open_channel.queue_purge(name)


def delete(name: str) -> None:
    with channel() as open_channel:
        open_channel.queue_delete(name)


def depth(name: str) -> int | None:
    """Tickets that a queue holds; None when there is no such queue."""
    with channel() as open_channel:
        try:
            return int(open_channel.queue_declare(name, passive=True).message_count)
        except NotFound:
            return None


def take(name: str, number: int = 1) -> list[Any]:
    """Take messages out of a queue, for good."""
    with channel() as open_channel:
        found = [open_channel.basic_get(name, no_ack=True) for _ in range(number)]
    return [message for message in found if message is not None]


def take_by_crash(servers: Stack, name: str) -> None:
    """Kill RabbitMQ before its disk has been told that a queue was deleted and declared again, which it keeps in memory
    for up to three minutes. What the disk knows is the deleted one, which cannot be started any more."""
    servers.rabbitmqctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
    delete(name)
    with channel() as open_channel:
        for queue in celery_config.all_queues():
            queue(open_channel).declare()
    pid = servers.kill("rabbitmq")
    servers.wait("rabbitmq", after_pid=pid)
