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


@contextmanager
def _channel(stack: Stack) -> Iterator[Any]:
    """By AMQP: rabbitmqctl takes the better part of a second for each queue."""
    with Connection(stack.environment()["CELERY_BROKER_URL"]) as connection:
        yield connection.channel()
