"""The same request sent again, under an Idempotency-Key: accepted once, answered alike."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from api import create_app
from ledger import db, idempotency
from ledger.models import idempotency_keys, tasks
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for

BODY: dict[str, Any] = {"task_type": "test_quick", "priority": "high"}
KEY = '"8e03978e-40d5-43e8-bc93-6894a57f9324"'


def post(door: FlaskClient, key: str = KEY, path: str = "/api/tasks", **body: Any) -> TestResponse:
    return door.post(path, json=BODY | body, headers={"Idempotency-Key": key})


def number(table: Any) -> int:
    with db.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_second_request_is_answered_like_the_first(door: FlaskClient) -> None:
    first = post(door)
    life.work(first.get_json()["task_id"])
    second = post(door)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.get_json() == second.get_json()
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert number(tasks) == 1


def test_the_order_of_keys_and_the_quotes_do_not_matter(door: FlaskClient) -> None:
    first = door.post("/api/tasks", json=dict(BODY), headers={"Idempotency-Key": KEY})
    turned = dict(reversed(BODY.items()))
    second = door.post("/api/tasks/", json=turned, headers={"Idempotency-Key": KEY.strip('"')})
    assert first.get_json()["task_id"] == second.get_json()["task_id"]


@pytest.mark.parametrize("key", ['"with \\"quotes\\" and \\\\ "', "x", "x" * 255, '"' + " " * 255 + '"'])
def test_a_key_may_hold_any_printable_character(key: str, door: FlaskClient) -> None:
    first, second = post(door, key), post(door, key)
    assert first.status_code == 202, first.text
    assert second.headers["Idempotency-Replayed"] == "true"


def test_keys_that_differ_in_blanks_are_different(door: FlaskClient) -> None:
    assert post(door, '"a"').get_json()["task_id"] != post(door, '"a "').get_json()["task_id"]


@pytest.mark.parametrize("key", ["", '""', "a b", '"', '"a', 'a"b"', "x" * 256, '"' + "x" * 256 + '"', "\u00e9"])
def test_a_key_of_another_form_is_refused(key: str, door: FlaskClient) -> None:
    answer = post(door, key)
    assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert answer.get_json()["errors"][0]["pointer"] == "Idempotency-Key"
    assert number(tasks) == 0


def test_another_request_under_the_same_key_is_refused(door: FlaskClient) -> None:
    task_id = post(door).get_json()["task_id"]
    for answer in (post(door, priority="low"), post(door, delay=1)):
        assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
        assert answer.get_json()["type"] == "/problems/idempotency-key-reused"
        assert "take a new key" in answer.get_json()["detail"]
    assert number(tasks) == 1
    assert life.task(task_id).priority == "high"


def test_what_was_refused_leaves_its_key_free(door: FlaskClient) -> None:
    assert post(door, task_type="no_such").status_code == 422
    assert number(idempotency_keys) == 0
    assert post(door).status_code == 202


def test_of_many_at_the_same_time_one_is_accepted(door: FlaskClient) -> None:
    app, start, answers = create_app(), threading.Barrier(8), []

    def ask() -> None:
        start.wait(30)
        answers.append(post(door_for(app=app)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.get_json()["task_id"] for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers].count(None) == 1
    assert number(tasks) == 1


def test_each_caller_has_keys_of_its_own() -> None:
    for owner in ("ada", "emmy"):
        new = life.new()
        with db.transaction() as connection:
            idempotency.take(connection, idempotency.Once(owner, "same", "0" * 64), [new.task_id])
    assert number(idempotency_keys) == 2


def test_a_key_is_forgotten_after_its_day(door: FlaskClient) -> None:
    first = post(door).get_json()
    assert idempotency.purge() == 0
    with db.transaction() as connection:
        connection.execute(update(idempotency_keys).values(created_at=db.earlier(idempotency.KEPT_SECONDS + 1)))
    assert idempotency.purge() == 1
    assert post(door).get_json()["task_id"] != first["task_id"]


def test_a_request_without_a_key_leaves_none(door: FlaskClient) -> None:
    door.post("/api/tasks", json=BODY)
    assert number(idempotency_keys) == 0
