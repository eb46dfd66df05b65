"""What is sent to RabbitMQ in here leaves in one write at the end, or not at all.

py-amqp writes each message by itself. Each write lets the other threads of the process run and waits for Python's lock
again, which takes longer than the write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def corked(connection: Any) -> Iterator[None]:
    """For a connection of kombu's that has no other user meanwhile. When this raises, some of it may have been sent."""
    with caught(connection) as waiting:
        yield
    connection.connection.transport.write(waiting)


@contextmanager
def caught(connection: Any) -> Iterator[bytearray]:
    """The bytes that would have been sent."""
    transport, waiting = connection.connection.transport, bytearray()
    # No public name: the writer of frames has kept `transport.write`, which asks for this one each time.
    write, transport._write = transport._write, waiting.extend
    try:
        yield waiting
    finally:
        transport._write = write
