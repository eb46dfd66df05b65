"""Looks whether a server or a process is ready for work, our own and other people's alike.

A probe returns when it is, and raises when it is not; the exception says why.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import kombu
import redis
import requests
import sqlalchemy
from kombu.pidbox import Mailbox

Probe = Callable[[], None]

#: Seconds for one answer.
_PATIENCE = 2
#: Seconds for a worker's answer to a ping.
_ANSWER_SECONDS = 0.5
#: Answers of other workers, and late ones to earlier pings, that may come before it.
_MOST_ANSWERS = 1000


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
        with _connection(url) as connection:
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
    """Asks a Celery worker on this machine to answer; with its broker away nobody can, and that it runs must do."""
    node = f"{name}@{socket.gethostname()}"

    def probe() -> None:
        if why_not(broker(broker_url)) is None and not _answers(broker_url, node):
            raise NotReady(f"{node} does not answer")

    return probe


class _Answered(Exception):
    """The answer has come."""


def _answers(broker_url: str, node: str) -> bool:
    """Through Kombu's mailbox and not through a Celery application: that would ask the broker which CELERY_BROKER_URL
    names in our own environment, whatever it is told."""

    def hear(answer: Mapping[str, Any]) -> None:
        if node in answer:
            raise _Answered

    mailbox: Any = Mailbox("celery", type="fanout", accept=["json"], queue_durable=True, queue_exclusive=False)
    with _connection(broker_url) as connection:
        try:
            # Late answers to earlier pings may come first: several mailboxes may get the same name, an address.
            mailbox(connection).multi_call("ping", timeout=_ANSWER_SECONDS, limit=_MOST_ANSWERS, callback=hear)
        except _Answered:
            return True
    return False


def _connection(broker_url: str) -> kombu.Connection:
    options = {"read_timeout": _PATIENCE, "write_timeout": _PATIENCE}
    return kombu.Connection(broker_url, connect_timeout=_PATIENCE, transport_options=options)


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
