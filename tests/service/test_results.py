"""Results in Redis: a copy that is served while it is there, and missed by nobody when it is not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from cli.stack import Stack
from settings import settings
from tasks import results
from tests import life, task_types  # noqa: F401  registers the types

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _awake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_client", None)
    monkeypatch.setattr(results, "_rests_until", 0.0)


def client() -> Any:
    return redis.Redis.from_url(settings().result_backend.get_secret_value())


@pytest.mark.parametrize("result", [{"a": [1, 2.5, None, "ü"]}, [], "", 0, False, None])
def test_a_result_comes_back_as_it_was(result: Any) -> None:
    results.keep(TASK_ID, 1, result)
    assert results.fetch(TASK_ID, 1) == (True, result)


def test_a_result_belongs_to_one_attempt_of_one_task() -> None:
    results.keep(TASK_ID, 1, "first")
    assert results.fetch(TASK_ID, 2) == (False, None)
    assert results.fetch(TASK_ID[:-1] + "2", 1) == (False, None)


def test_a_result_does_not_stay_for_ever(configured: Callable[..., None]) -> None:
    configured(SLUICE_RESULT_TTL_SECONDS=100)
    results.keep(TASK_ID, 1, "short")
    assert 0 < client().ttl(results.key(TASK_ID, 1)) <= 100


def test_an_absent_redis_costs_one_short_wait(configured: Callable[..., None]) -> None:
    configured(CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0")
    began = time.monotonic()
    results.keep(TASK_ID, 1, "lost")
    for _ in range(50):
        assert results.fetch(TASK_ID, 1) == (False, None)
    assert time.monotonic() - began < 1
    assert not results.ping()


def shown(door: FlaskClient, task_id: str) -> Any:
    answer = door.get(f"/api/tasks/{task_id}")
    assert answer.status_code == 200
    return answer.get_json()["result"]


def test_the_ledger_serves_what_redis_forgot(door: FlaskClient) -> None:
    task_id = life.accept("test_quick")
    life.work(task_id)
    client().set(results.key(task_id, 1), '{"answer": "from redis"}')
    assert shown(door, task_id) == {"answer": "from redis"}
    client().flushall()
    assert shown(door, task_id) == {"answer": 42}


def test_a_task_succeeds_while_redis_is_frozen(servers: Stack, door: FlaskClient) -> None:
    task_id = life.accept("test_quick")
    servers.kill("redis", signal.SIGSTOP)
    try:
        began = time.monotonic()
        life.work(task_id)
        assert shown(door, task_id) == {"answer": 42}
        assert time.monotonic() - began < 1.5
    finally:
        servers.kill("redis", signal.SIGCONT)
    assert life.task(task_id).state == "succeeded"


def test_redis_is_asked_again_after_a_rest(
    monkeypatch: pytest.MonkeyPatch, configured: Callable[..., None]
) -> None:
    monkeypatch.setattr(results, "_rests_until", time.monotonic() + 60)
    results.keep(TASK_ID, 1, "skipped")
    assert results.fetch(TASK_ID, 1) == (False, None)
    assert results.ping(), "health asks all the same"
    monkeypatch.setattr(results, "_rests_until", 0.0)
    results.keep(TASK_ID, 1, "kept")
    assert results.fetch(TASK_ID, 1) == (True, "kept")
