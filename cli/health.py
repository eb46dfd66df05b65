"""Looks whether a server or a process is ready for work, our own and other people's alike.

A probe returns when it is, and raises when it is not; the exception says why.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import kombu
import redis
import requests
import sqlalchemy
from amqp.exceptions import NotFound
from celery import Celery

Probe = Callable[[], None]

#: Seconds for one answer.
_PATIENCE = 2


class NotReady(Exception):
    """It answers, but not as it should."""


def why_not(probe: Probe) -> str | None:
    """None when it is ready, else the reason in a line."""
    try:
        probe()
    except Exception as error:  # noqa: BLE001  however its driver words it, a failure is a reason to wait
        lines = str(error).strip().splitlines()
        return lines[0] if lines else type(error).__name__
    return None


def database(url: str) -> Probe:
    def probe() -> None:
        engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,
            connect_args={"connect_timeout": _PATIENCE, "read_timeout": _PATIENCE},
        )
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    return probe


def broker(url: str) -> Probe:
    def probe() -> None:
        options = {"read_timeout": _PATIENCE, "write_timeout": _PATIENCE}
        with kombu.Connection(url, connect_timeout=_PATIENCE, transport_options=options) as connection:
            connection.connect()

    return probe


def result_backend(url: str) -> Probe:
    def probe() -> None:
        with redis.Redis.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_PATIENCE) as client:
            client.ping()

    return probe


def port(host: str, number: int) -> Probe:
    def probe() -> None:
        socket.create_connection((host, number), timeout=_PATIENCE).close()

    return probe


def mail_server(url: str) -> Probe:
    """Its port only: what else it wants, the worker's first mail will show."""
    parts = urlsplit(url)
    usual = 465 if parts.scheme == "smtps" else 25
    return port(parts.hostname or "localhost", parts.port or usual)


def worker(broker_url: str, name: str) -> Probe:
    """Asks a Celery worker on this machine to answer; with its broker away nobody can, and that it runs must do.

    An answer may get lost on the way; that the worker listens for the question shows as well that it is at work.
    """
    app = Celery("sluice-cli", broker=broker_url, set_as_current=False)
    app.conf.update(control_queue_durable=True, control_queue_exclusive=False)
    node = f"{name}@{socket.gethostname()}"

    def probe() -> None:
        if why_not(broker(broker_url)) is not None or app.control.ping(destination=[node], timeout=0.5):
            return
        if not _listeners(broker_url, f"{node}.celery.pidbox"):
            raise NotReady(f"{node} does not answer")

    return probe


def _listeners(broker_url: str, queue: str) -> int:
    """How many consumers a queue has; 0 when it is not there."""
    options = {"read_timeout": _PATIENCE, "write_timeout": _PATIENCE}
    with kombu.Connection(broker_url, connect_timeout=_PATIENCE, transport_options=options) as connection:
        channel: Any = connection.channel()
        try:
            return int(channel.queue_declare(queue, passive=True).consumer_count)
        except NotFound:
            return 0


def page(url: str) -> Probe:
    def probe() -> None:
        answer = requests.get(url, timeout=_PATIENCE)
        if not answer.ok:
            raise NotReady(f"{answer.status_code} {answer.text[:300]}")

    return probe


def all_of(*probes: Probe) -> Probe:
    def probe() -> None:
        for each in probes:
            each()

    return probe
