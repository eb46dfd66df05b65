"""Many tasks in one request: all or none, in one commit, and every fault with its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, text
from werkzeug.test import TestResponse

from ledger import db, queries
from tests import life, task_types  # noqa: F401  registers the types

QUICK: dict[str, Any] = {"task_type": "test_quick"}


def post(door: FlaskClient, tasks: Any, **headers: str) -> TestResponse:
    return door.post("/api/tasks/batch", json={"tasks": tasks}, headers=headers)


def inserts() -> int:
    """INSERT statements that the ledger's server has done so far: the driver tells of many rows as of one."""
    with db.reading() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Com_insert'")).one()[1])


@contextmanager
def commits() -> Iterator[list[Any]]:
    told: list[Any] = []
    note, engine = told.append, db.ledger()
    event.listen(engine, "commit", note)
    yield told
    event.remove(engine, "commit", note)


def test_a_batch_is_accepted_in_its_order(door: FlaskClient) -> None:
    given = [QUICK | {"priority": priority, "delay": 60} for priority in ("high", "low", "normal")]
    answer = post(door, given)
    body = answer.get_json()
    assert (answer.status_code, body["count"]) == (202, 3)
    assert [life.task(task_id).priority for task_id in body["task_ids"]] == ["high", "low", "normal"]
    assert [each["task_id"] for each in body["items"]] == body["task_ids"] == sorted(body["task_ids"])
    assert life.names_of_events(body["task_ids"][1]) == ["accepted"]


def test_a_thousand_tasks_are_two_statements_and_one_commit(door: FlaskClient) -> None:
    given = [QUICK | {"delay": 60, "run_at": None} for _ in range(1_000)]
    door.get("/api/tasks")  # which looks up the key
    post(door, [QUICK | {"delay": 60}])
    before = inserts()
    with commits() as committed:
        answer = post(door, given)
    assert answer.status_code == 202
    assert (inserts() - before, len(committed)) == (2, 1)
    assert len(set(answer.get_json()["task_ids"])) == 1_000
    assert queries.counts()["scheduled"] == 1_001


def test_one_bad_task_keeps_all_of_them_out(door: FlaskClient) -> None:
    given = [
        QUICK,
        QUICK | {"priority": "urgent", "delay": -1},
        {"task_type": "email_sending", "parameters": {"to": "nobody"}},
        {"task_type": "emial_sending"},
        [],
        "word",
    ]
    answer = post(door, given[:4])
    pointers = [fault["pointer"] for fault in answer.get_json()["errors"]]
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert pointers[:2] == ["#/tasks/1/priority", "#/tasks/1/delay"]
    assert pointers[2].startswith("#/tasks/2/parameters/to")
    assert pointers[3:] == ["#/tasks/3/task_type"]
    assert "did you mean 'email_sending'" in answer.get_json()["detail"]
    assert queries.page().rows == []


def test_the_faults_that_are_told_have_a_bound(door: FlaskClient) -> None:
    answer = post(door, [{"task_type": "x"}] * 1_000)
    assert (answer.status_code, len(answer.get_json()["errors"])) == (422, 100)


@pytest.mark.parametrize(
    "given", [[], [QUICK] * 1_001, None, "x", {}, [1], [None], [[]]], ids=lambda part: str(part)[:20]
)
def test_only_one_to_a_thousand_tasks_are_a_batch(given: Any, door: FlaskClient) -> None:
    answer = post(door, given)
    assert (answer.status_code, queries.page().rows) == (422, [])
    assert answer.get_json()["errors"][0]["pointer"].startswith("#/tasks")


def test_a_batch_may_be_larger_than_a_task_but_not_endless(door: FlaskClient) -> None:
    big = {"task_type": "data_processing", "parameters": {"data": "x" * 200_000}}
    assert post(door, [big] * 3).status_code == 202
    answer = post(door, [big] * 45)
    assert (answer.status_code, "8,388,608 bytes" in answer.get_json()["detail"]) == (413, True)


def test_a_batch_that_is_sent_again_is_accepted_once(door: FlaskClient) -> None:
    headers = {"Idempotency-Key": "batch-1"}
    first, second = post(door, [QUICK] * 5, **headers), post(door, [QUICK] * 5, **headers)
    assert first.get_json() == second.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert post(door, [QUICK] * 4, **headers).status_code == 422
    assert door.post("/api/tasks", json=QUICK, headers=headers).status_code == 422
    assert len(queries.page().rows) == 5
