"""What anybody who may write to RabbitMQ can make a worker do: answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from celery import Celery

from tests.service import hands
from tests.service.hands import Hands, ticket

at_work = pytest.fixture(hands.at_work)

COMMANDS: dict[str, dict[str, Any]] = {
    "shutdown": {},
    "revoke": {"task_id": "x", "terminate": True},
    "terminate": {"signal": "KILL", "task_id": "x"},
    "cancel_consumer": {"queue": "data.normal"},
    "add_consumer": {"queue": "more"},
    "pool_shrink": {"n": 1},
    "pool_grow": {"n": 9},
    "pool_restart": {"reload": True, "modules": ["os"]},
    "rate_limit": {"task_name": hands.TYPE, "rate_limit": "1/h"},
    "time_limit": {"task_name": hands.TYPE, "hard": 1},
    "disable_events": {},
}


@pytest.fixture
def ask(at_work: Hands) -> Iterator[Any]:
    # A connection of the test's own: those of the pool may be of another test's RabbitMQ.
    with Celery("sluice", broker=at_work.url) as app, app.connection_for_write() as connection:
        yield partial(app.control.broadcast, connection=connection)


def test_a_worker_refuses_every_command_and_goes_on(at_work: Hands, ask: Any) -> None:
    worker = at_work.start()
    for command, arguments in COMMANDS.items():
        [answer] = ask(command, arguments=arguments, reply=True, timeout=10, limit=1)
        [said] = answer.values()
        assert "refused" in said["error"], (command, said)
    at_work.send([ticket("sleep:0:after")])
    at_work.await_("done", "after")
    assert worker.poll() is None


def test_a_worker_answers_who_asks(at_work: Hands, ask: Any) -> None:
    at_work.start()
    [answer] = ask("ping", reply=True, timeout=10, limit=1)
    assert list(answer.values()) == [{"ok": "pong"}]
    [answer] = ask("conf", reply=True, timeout=10, limit=1)
    assert "amqp://sluice_worker:***" in str(answer)
