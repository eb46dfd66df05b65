"""The accept path waits for the ledger alone: without broker and Redis it is as quick, without the database honest."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from cli.stack import Stack
from ledger import queries
from ledger.states import State
from tasks import relay, results
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.doors import door_for

STRANGER = "019aa5c0-0000-7000-8000-000000000001"
NO_DATABASE = "mysql+pymysql://nobody@127.0.0.1:1/none"
#: Seconds within which a request is answered when the database is not there, and a little for a busy machine.
SOON = 2.3

NEEDS_THE_LEDGER = [
    ("POST", "/api/tasks"),
    ("GET", "/api/tasks"),
    ("GET", f"/api/tasks/{STRANGER}"),
    ("POST", f"/api/tasks/{STRANGER}/stop"),
    ("POST", "/insert/5"),
    ("POST", f"/stop/{STRANGER}"),
    ("GET", f"/status/{STRANGER}"),
    ("DELETE", "/delete_all"),
]


@pytest.fixture(autouse=True)
def _rested(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(results, "_client", None)
    monkeypatch.setattr(results, "_rests_until", 0.0)
    yield
    relay._forget()


def ask(door: FlaskClient, method: str, path: str) -> tuple[TestResponse, float]:
    began = time.monotonic()
    body = {"task_type": "test_quick"} if method == "POST" else None
    answer = door.open(path, method=method, json=body)
    return answer, time.monotonic() - began


def test_without_broker_and_redis_a_task_is_accepted_quickly(configured: Callable[..., None]) -> None:
    configured(CELERY_BROKER_URL=broker.NOWHERE, CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0")
    relay._forget()
    door = door_for()
    ask(door, "GET", "/api/tasks")
    for _ in range(20):
        answer, seconds = ask(door, "POST", "/api/tasks")
        assert answer.status_code == 202
        assert seconds < 0.5
    shown, seconds = ask(door, "GET", answer.headers["Location"])
    assert (shown.get_json()["state"], seconds < 0.5) == ("queued", True)
    assert len(queries.undispatched(-1)) == 20, "the monitor will send their tickets"


def test_a_frozen_broker_slows_nobody_down(servers: Stack, door: FlaskClient) -> None:
    ask(door, "POST", "/api/tasks")
    servers.kill("rabbitmq", signal.SIGSTOP)
    try:
        for _ in range(10):
            answer, seconds = ask(door, "POST", "/api/tasks")
            assert answer.status_code == 202
            assert seconds < 0.5
    finally:
        servers.kill("rabbitmq", signal.SIGCONT)


def test_a_frozen_redis_slows_nobody_down(servers: Stack, door: FlaskClient) -> None:
    task_id = life.accept()
    life.put(task_id, state=State.SUCCEEDED, result={"kept": True})
    servers.kill("redis", signal.SIGSTOP)
    try:
        for method, path in (
            ("POST", "/api/tasks"),
            ("GET", f"/api/tasks/{task_id}"),
            ("GET", f"/api/tasks/{task_id}"),
        ):
            answer, seconds = ask(door, method, path)
            assert answer.status_code in (200, 202)
            assert seconds < 0.6
    finally:
        servers.kill("redis", signal.SIGCONT)
    assert answer.get_json()["result"] == {"kept": True}


@pytest.mark.parametrize(("method", "path"), NEEDS_THE_LEDGER)
def test_without_the_database_it_says_so_soon(
    method: str, path: str, configured: Callable[..., None]
) -> None:
    configured(LEDGER_DATABASE_URL=NO_DATABASE, DATA_DATABASE_URL=NO_DATABASE)
    answer, seconds = ask(door_for(), method, path)
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "1"
    assert "nothing was accepted" in answer.get_json()["detail"]
    assert seconds < SOON


def test_a_frozen_database_is_told_soon_and_forgotten_after(servers: Stack, door: FlaskClient) -> None:
    ask(door, "POST", "/api/tasks")
    eventually(lambda: queries.undispatched(-1) == [], what="the relay is done with the ledger")
    servers.kill(servers.databases["ledger"], signal.SIGSTOP)
    try:
        for method, path in (*NEEDS_THE_LEDGER, ("GET", "/get_data/count")):
            answer, seconds = ask(door, method, path)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), path
            assert seconds < (6 if path == "/get_data/count" else SOON), path
    finally:
        servers.kill(servers.databases["ledger"], signal.SIGCONT)
    eventually(lambda: ask(door, "POST", "/api/tasks")[0].status_code == 202)


def test_a_restarted_database_is_found_again(servers: Stack, door: FlaskClient) -> None:
    ask(door, "POST", "/api/tasks")
    server = servers.databases["ledger"]
    servers.wait(server, after_pid=servers.kill(server))
    answer, _ = ask(door, "POST", "/api/tasks")
    assert answer.status_code == 202
    assert life.state(answer.get_json()["task_id"]) is State.QUEUED
