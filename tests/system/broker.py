"""Ways in which RabbitMQ loses what it holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import Connection

import celery_config
from cli.stack import Stack
from tests.system.processes import away

QUEUES = [
    celery_config.queue_name(worker, priority)
    for worker in celery_config.WORKERS
    for priority in celery_config.PRIORITIES
]


def purge(stack: Stack) -> None:
    with _channel(stack) as channel:
        for queue in QUEUES:
            channel.queue_purge(queue)


def delete(stack: Stack) -> None:
    with _channel(stack) as channel:
        for queue in QUEUES:
            channel.queue_delete(queue)


def wipe(stack: Stack) -> None:
    """A broken disk: RabbitMQ comes back and remembers nothing."""
    with away(stack, "rabbitmq"):
        shutil.rmtree(stack.layout.server("rabbitmq") / "data")


def take_by_crash(stack: Stack, queue: str) -> None:
    """Kill RabbitMQ after a queue was deleted and declared again, before its disk was told: it cannot start that queue
    then, and does not say so. The table in question is written every three minutes."""
    stack.rabbitmqctl("eval", "[dets:sync(Table) || Table <- dets:all()].")
    with _channel(stack) as channel:
        channel.queue_delete(queue)
        for each in celery_config.all_queues():
            each(channel).declare()
    pid = stack.kill("rabbitmq")
    stack.wait("rabbitmq", after_pid=pid)


def ready(stack: Stack, queue: str) -> int:
    """Tickets that nobody has been given."""
    with _channel(stack) as channel:
        return int(channel.queue_declare(queue, passive=True).message_count)


@contextmanager
def _channel(stack: Stack) -> Iterator[Any]:
    """By AMQP: rabbitmqctl takes the better part of a second for each queue."""
    with Connection(stack.environment()["CELERY_BROKER_URL"]) as connection:
        yield connection.channel()
