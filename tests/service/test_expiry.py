"""A task with a time by which it must have started: afterwards it never does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from ledger import db, transitions
from ledger.states import WAITING, State
from tests import life, task_types  # noqa: F401  registers the types

BODY = {"task_type": "test_quick"}


def out_of_time(state: State = State.QUEUED) -> str:
    task_id = life.accept(expires_in_seconds=60)
    life.put(task_id, state=state, expires_at=text("UTC_TIMESTAMP(6) - INTERVAL 1 MICROSECOND"))
    return task_id


def test_the_time_is_the_databases() -> None:
    row = life.task(life.accept(expires_in_seconds=90))
    assert (row.expires_at - row.created_at).total_seconds() == 90
    assert life.task(life.accept()).expires_at is None


@pytest.mark.parametrize("state", sorted(WAITING))
def test_whatever_waits_expires_once(state: State) -> None:
    task_id, other = out_of_time(state), life.accept(expires_in_seconds=60)
    assert [transitions.expire(), transitions.expire()] == [1, 0]
    row = life.task(task_id)
    assert (row.state, row.finished_at is not None) == (State.EXPIRED, True)
    assert life.names_of_events(task_id) == ["accepted", "expired"]
    assert life.state(other) is State.QUEUED


@pytest.mark.parametrize("state", sorted(set(State) - WAITING))
def test_nothing_else_does(state: State) -> None:
    task_id = out_of_time(state)
    assert transitions.expire() == 0
    assert life.state(task_id) is state


def test_a_claim_that_comes_too_late_loses_and_says_so() -> None:
    task_id = out_of_time()
    life.work(task_id)
    assert (life.state(task_id), life.task(task_id).attempt) == (State.EXPIRED, 0)
    assert life.names_of_events(task_id) == ["accepted", "expired"]


def test_an_old_ticket_expires_nothing() -> None:
    task_id = life.accept(expires_in_seconds=60)
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="leaving")
    life.put(task_id, expires_at=text("UTC_TIMESTAMP(6) - INTERVAL 1 MICROSECOND"))
    life.work(task_id, 1)
    assert life.state(task_id) is State.QUEUED
    life.work(task_id, 2)
    assert life.state(task_id) is State.EXPIRED


def test_of_a_claim_and_the_monitor_one_wins() -> None:
    with ThreadPoolExecutor(2) as racers:
        for _ in range(20):
            task_id = out_of_time()
            claiming = racers.submit(transitions.claim, task_id, 1, worker=life.WORKER, lease_seconds=60)
            racers.submit(transitions.expire).result()
            assert claiming.result() is None
            transitions.expire()
            assert life.names_of_events(task_id) == ["accepted", "expired"]


def test_a_stop_comes_too_late_for_an_expired_task(door: Any) -> None:
    task_id = out_of_time()
    transitions.expire()
    said = door.post(f"/api/tasks/{task_id}/stop")
    assert (said.status_code, said.json["verdict"], said.json["state"]) == (409, "already_finished", "expired")


def test_the_door_takes_and_shows_it(door: Any) -> None:
    task_id = door.post("/api/tasks", json=BODY | {"expires_in": 1.5}).json["task_id"]
    assert door.get(f"/api/tasks/{task_id}").json["expires_at"].endswith("Z")
    with db.transaction() as connection:
        connection.execute(text("UPDATE tasks SET expires_at = created_at"))
    transitions.expire()
    shown = door.get("/api/tasks?status=expired").json["items"]
    assert [(each["task_id"], each["state"]) for each in shown] == [(task_id, "expired")]


@pytest.mark.parametrize("seconds", [0, -1, 30 * 86_400 + 1, "60", None, True])
def test_a_time_that_makes_no_sense_is_refused(door: Any, seconds: object) -> None:
    said = door.post("/api/tasks", json=BODY | {"expires_in": seconds})
    if seconds is None:
        assert said.status_code == 202
        return
    assert (said.status_code, said.json["errors"][0]["pointer"]) == (422, "#/expires_in")
    assert life.everything() == ([], [], 0)
