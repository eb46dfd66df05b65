"""How much a key may ask for, and what it is told when that is used up."""

from __future__ import annotations

import io
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import create_app, quotas
from cli.stack import Stack
from ledger.keys import USUAL_SCOPES
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key

A_TASK = {"task_type": "test_quick", "delay": 60}


def mail(*to: str) -> dict[str, Any]:
    return {"task_type": "email_sending", "parameters": {"to": list(to)}, "delay": 60}


@pytest.fixture(autouse=True)
def _fresh(servers: Stack) -> None:
    quotas.forget()


def spent(door: FlaskClient, times: int) -> list[int]:
    return [door.get("/api/tasks").status_code for _ in range(times)]


def test_requests_over_the_bound_are_told_when_to_come_back() -> None:
    door = door_for(key("ada", requests_per_minute=3))
    first = door.get("/api/tasks")
    assert first.headers["RateLimit-Policy"] == '"requests";q=3;w=60'
    assert first.headers["RateLimit"].startswith('"requests";r=2;t=')
    assert spent(door, 3) == [200, 200, 429]
    refused = door.get("/api/tasks")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.get_json()["type"].endswith("#quota-exceeded")


def test_a_key_without_a_bound_gets_no_such_headers(door: FlaskClient) -> None:
    assert "RateLimit" not in door.get("/api/tasks").headers


def test_one_keys_requests_are_not_anothers() -> None:
    ada, emmy = (door_for(key(owner, requests_per_minute=1)) for owner in ("ada", "emmy"))
    assert spent(ada, 2) == [200, 429]
    assert spent(emmy, 1) == [200]


def test_all_processes_count_together() -> None:
    shown = key("ada", requests_per_minute=2)
    assert spent(door_for(shown), 2) == [200, 200]
    quotas.forget()  # as another process, which has counted nothing yet
    assert spent(door_for(shown), 1) == [429]


def test_without_redis_requests_are_counted_here(configured: Callable[..., None]) -> None:
    configured(CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0")
    quotas.forget()
    assert spent(door_for(key("ada", requests_per_minute=2)), 3) == [200, 200, 429]


def test_a_frozen_redis_lets_requests_in(servers: Stack) -> None:
    door = door_for(key("ada", requests_per_minute=2))
    servers.kill("redis", signal.SIGSTOP)
    try:
        assert spent(door, 3) == [200, 200, 429]
    finally:
        servers.kill("redis", signal.SIGCONT)


def test_an_owner_has_so_many_open_tasks_and_no_more() -> None:
    door = door_for(key("ada", most_open_tasks=2))
    answers = [door.post("/api/tasks", json=A_TASK) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert "2 tasks may be open" in answers[2].get_json()["detail"]
    door.post(f"/api/tasks/{answers[0].get_json()['task_id']}/stop")
    assert door.post("/api/tasks", json=A_TASK).status_code == 202


def test_of_many_at_the_same_time_no_more_come_in_than_may() -> None:
    most, clients, posts = 5, 8, 4
    app, shown, start = create_app(), key("ada", most_open_tasks=most), threading.Barrier(clients)

    def ask(_: int) -> list[int]:
        door = door_for(shown, app)
        start.wait(30)
        return [door.post("/api/tasks", json=A_TASK).status_code for _ in range(posts)]

    with ThreadPoolExecutor(clients) as asking:
        answers = Counter(code for codes in asking.map(ask, range(clients)) for code in codes)
    assert answers == {202: most, 429: clients * posts - most}


def test_a_batch_over_the_bound_is_refused_whole() -> None:
    door = door_for(key("ada", most_open_tasks=2))
    assert door.post("/api/tasks/batch", json={"tasks": [A_TASK] * 3}).status_code == 429
    assert door.get("/api/tasks").get_json()["items"] == []


def test_mails_are_counted_by_their_recipients() -> None:
    door = door_for(key("ada", mails_per_day=3))
    assert door.post("/api/tasks", json=mail("a@example.com", "b@example.com")).status_code == 202
    refused = door.post("/api/tasks", json=mail("a@example.com", "b@example.com"))
    assert (refused.status_code, "2 were" in refused.get_json()["detail"]) == (429, True)
    assert door.post("/api/tasks", json=mail("a@example.com")).status_code == 202
    assert door.post("/api/tasks", json=A_TASK).status_code == 202
    assert door_for(key("emmy", mails_per_day=1)).post("/api/tasks", json=mail("a@example.com")).status_code == 202


def test_keys_are_made_listed_and_revoked_by_an_admin(door: FlaskClient) -> None:
    made = door.post("/api/keys", json={"owner": "ada", "scopes": ["read"], "note": "for a test"})
    assert made.status_code == 201
    ada = door_for(made.get_json()["key"])
    assert ada.get("/api/tasks").status_code == 200
    assert ada.get("/api/keys").status_code == 403
    listed = door.get("/api/keys")
    assert made.get_json()["key"] not in listed.get_data(as_text=True)
    assert made.get_json()["id"] in [each["id"] for each in listed.get_json()["items"]]
    assert door.delete(made.headers["Location"]).status_code == 204
    assert door.delete(made.headers["Location"]).status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"owner": "Ada Lovelace"}, {"owner": "ada", "scopes": ["all"]}, {"owner": "ada", "digest": "x"}]
)
def test_a_key_that_makes_no_sense_is_refused(body: dict[str, Any], door: FlaskClient) -> None:
    assert door.post("/api/keys", json=body).status_code == 422


def test_a_file_that_anothers_task_made_is_not_there(servers: Stack, door: FlaskClient) -> None:
    ada = door_for(key("ada"))
    emmy = door_for(key("emmy", *USUAL_SCOPES))
    ada.post("/api/files", data={"file": (io.BytesIO(b"words"), "mine.txt")})
    body = {"task_type": "file_processing", "parameters": {"filename": "mine.txt", "operation": "compress"}}
    task_id = ada.post("/api/tasks", json=body).get_json()["task_id"]
    life.work(task_id)
    path = f"/api/files/out/{task_id}-mine.txt.gz"
    assert (ada.get(path).status_code, emmy.get(path).status_code) == (200, 404)
    assert task_id not in emmy.get("/api/files").get_data(as_text=True)
