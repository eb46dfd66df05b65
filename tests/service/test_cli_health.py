"""A worker is ready when it answers; one that could not answer for a while is ready again once it does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any

import pytest
from celery import Celery
from kombu.pidbox import Mailbox

from cli import health
from tests.conftest import eventually
from tests.service.hands import Hands, at_work
from tests.system.processes import frozen

hands = pytest.fixture(at_work)


def test_a_worker_that_was_frozen_is_ready_again(hands: Hands) -> None:
    worker = hands.start("data")
    probe = health.worker(hands.url, "data")
    assert health.why_not(probe) is None
    with frozen(worker.pid):
        assert "does not answer" in str(health.why_not(probe))
    eventually(lambda: health.why_not(probe) is None, within=10, what="an answer")


def test_one_late_answer_does_not_make_a_worker_deaf(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    # A mailbox is named after an address in memory, which in a long loop is the same each time.
    monkeypatch.setattr(Mailbox, "oid", "the-same-again")
    probe = health.worker(hands.url, "unhurried")
    with answering(hands.url, "unhurried", seconds=chain([1.0], repeat(0.05))):
        assert "does not answer" in str(health.why_not(probe))
        eventually(lambda: health.why_not(probe) is None, within=10, what="an answer")


def test_the_broker_of_our_own_environment_is_not_asked(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    hands.start("data")
    monkeypatch.setenv("CELERY_BROKER_URL", hands.url.rpartition("/")[0] + "/elsewhere")
    assert health.why_not(health.worker(hands.url, "data")) is None


def test_a_worker_that_is_not_there_is_not_ready(hands: Hands) -> None:
    assert "nobody@" in str(health.why_not(health.worker(hands.url, "nobody")))


@contextmanager
def answering(url: str, name: str, *, seconds: Iterator[float]) -> Iterator[None]:
    """Somebody who answers pings as a worker does, and takes his time for each."""
    app: Any = Celery("unhurried", broker=url, set_as_current=False)
    app.conf.update(control_queue_durable=False, control_queue_exclusive=False)

    def ping(_: Any) -> dict[str, str]:
        time.sleep(next(seconds))
        return {"ok": "pong"}

    over = threading.Event()
    with app.connection_for_read() as connection:
        node = app.control.mailbox(connection).Node(
            f"{name}@{socket.gethostname()}", handlers={"ping": ping}, channel=connection.channel()
        )
        node.listen()

        def listen() -> None:
            while not over.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()
