"""Changing a task that waits: what is asked for holds, older tickets win nothing, and what runs is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import verdicts
from ledger import db, dispatches, editing, moving, queries, transitions
from ledger.callers import Caller, Scope
from ledger.editing import Change
from ledger.states import State
from ledger.tickets import Terms
from tasks import edit, relay
from tests import doors, life, task_types  # noqa: F401  registers the types

WAITING: dict[State, dict[str, Any]] = {
    State.SCHEDULED: {"delay_seconds": 60},
    State.QUEUED: {},
    State.RETRYING: {},
    State.BLOCKED: {},
    State.THROTTLED: {},
}


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The tickets that the door wants to have sent."""
    told: list[Any] = []
    monkeypatch.setattr(relay, "send_soon", told.extend)
    yield told


def patch(door: FlaskClient, task_id: str, headers: dict[str, str] | None = None, **body: Any) -> TestResponse:
    return door.patch(f"/api/tasks/{task_id}", json=body, headers=headers)


def waiting(state: State) -> str:
    task_id = life.accept(**WAITING[state])
    life.put(task_id, state=state)
    return task_id


@pytest.mark.parametrize("state", WAITING)
def test_a_waiting_task_takes_changes_and_stays_where_it_is(state: State, door: FlaskClient) -> None:
    task_id = waiting(state)
    answer = patch(door, task_id, priority="high", max_retries=7, timeout=9)
    assert (answer.status_code, answer.get_json()["state"]) == (200, state)
    row = life.task(task_id)
    assert (row.priority, row.queue, row.max_retries, row.timeout_seconds) == ("high", "data.high", 7, 9)
    edited = queries.history(task_id)[-1]
    assert (edited.event, edited.state, edited.detail["priority"]) == ("edited", state, "high")


@pytest.mark.parametrize("state", sorted(set(State) - set(WAITING)))
def test_a_task_that_runs_or_is_over_is_left_alone(state: State, door: FlaskClient) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    before = life.everything()
    answer = patch(door, task_id, priority="high")
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert (answer.get_json()["state"], answer.get_json()["task_id"]) == (state, task_id)
    assert life.everything() == before


@pytest.mark.parametrize(
    ("change", "queue", "timeout"), [({"priority": "low"}, "data.low", 600), ({"timeout": 5}, "data.normal", 5)]
)
def test_the_ticket_from_before_a_change_wins_nothing(
    change: dict[str, Any], queue: str, timeout: int, door: FlaskClient, sent: list[Any]
) -> None:
    task_id = life.accept()
    dispatches.mark_dispatched([life.ticket(task_id)])
    patch(door, task_id, **change)
    assert life.task(task_id).dispatched_at is None, "the monitor sends what the relay misses"
    [ticket] = sent
    assert (ticket.task_id, ticket.attempt, ticket.queue, ticket.timeout_seconds) == (task_id, 1, queue, timeout)

    def claim(terms: Terms) -> object:
        return transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60, terms=terms)

    assert claim(Terms("data.normal", 600)) is None
    assert life.state(task_id) is State.QUEUED
    assert claim(Terms(queue, timeout)) is not None


def test_a_confirm_of_the_older_ticket_is_not_taken_for_the_new_one(door: FlaskClient) -> None:
    task_id = life.accept()
    old = life.ticket(task_id)
    patch(door, task_id, priority="high")
    dispatches.mark_dispatched([old])
    assert life.task(task_id).dispatched_at is None
    dispatches.mark_dispatched([life.ticket(task_id)])
    assert life.task(task_id).dispatched_at is not None


def test_a_change_of_other_things_needs_no_ticket(door: FlaskClient, sent: list[Any]) -> None:
    task_id = life.accept()
    dispatches.mark_dispatched([life.ticket(task_id)])
    patch(door, task_id, max_retries=9, priority="normal")
    assert (sent, life.task(task_id).dispatched_at is not None) == ([], True)


@pytest.mark.parametrize("when", [{"delay": 60}, {"run_at": "2099-01-01T00:00:00+02:00"}])
def test_a_queued_task_can_be_put_off(when: dict[str, Any], door: FlaskClient, sent: list[Any]) -> None:
    task_id = life.accept()
    assert patch(door, task_id, **when).get_json()["state"] == "scheduled"
    assert transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60) is None
    assert (life.names_of_events(task_id)[-1], sent) == ("postponed", [])
    life.put(task_id, due_at=life.task(task_id).created_at)
    assert [ticket.task_id for ticket in dispatches.release_due()] == [task_id]


@pytest.mark.parametrize("state", [State.SCHEDULED, State.RETRYING])
def test_a_task_for_later_can_be_let_go_at_once(state: State, door: FlaskClient) -> None:
    task_id = waiting(state)
    assert patch(door, task_id, delay=0).status_code == 200
    assert [ticket.task_id for ticket in dispatches.release_due()] == [task_id]


def test_a_change_is_made_only_to_what_the_client_has_seen(door: FlaskClient) -> None:
    task_id = life.accept()
    etag = door.get(f"/api/tasks/{task_id}").headers["ETag"]
    first = patch(door, task_id, {"If-Match": etag}, priority="high")
    assert (first.status_code, first.headers["ETag"] != etag) == (200, True)
    second = patch(door, task_id, {"If-Match": etag}, priority="low")
    assert (second.status_code, second.mimetype) == (412, "application/problem+json")
    assert life.task(task_id).priority == "high"
    assert patch(door, task_id, {"If-Match": etag}, status="canceled").status_code == 412
    assert life.state(task_id) is State.QUEUED
    assert patch(door, task_id, {"If-Match": first.headers["ETag"]}, priority="low").status_code == 200
    assert patch(door, task_id, {"If-Match": "*"}, status="canceled").status_code == 200


def test_only_its_owner_with_the_right_to_write_changes_a_task() -> None:
    scopes = (Scope.READ, Scope.WRITE, Scope.STOP)
    ada, emmy = (doors.door_for(doors.key(owner, *scopes)) for owner in ("ada", "emmy"))
    task_id = ada.post("/api/tasks", json={"task_type": "test_quick"}).get_json()["task_id"]
    assert patch(emmy, task_id, priority="high").status_code == 404
    assert patch(emmy, task_id, {"If-Match": "*"}, priority="high").status_code == 404
    stopper = doors.door_for(doors.key("ada", Scope.STOP, Scope.READ))
    assert patch(stopper, task_id, priority="high").status_code == 403
    assert life.task(task_id).priority == "normal"
    assert patch(ada, task_id, priority="high").status_code == 200


def test_the_ledger_itself_leaves_alone_what_moved_or_is_anothers() -> None:
    task_id, change = life.accept(), Change(max_retries=9)
    seen_at = life.task(task_id).updated_at
    stranger = Caller("emmy", frozenset({Scope.WRITE}))
    assert editing.edit(task_id, change, remark="by a stranger", caller=stranger) is None
    assert life.task(task_id).max_retries != 9
    done = editing.edit(task_id, change, remark="by a test", seen_at=seen_at)
    assert done is not None and done.won
    for act in (partial(editing.edit, task_id, change), partial(transitions.stop, task_id)):
        with pytest.raises(moving.Stale):
            act(remark="by a test", seen_at=seen_at)
    assert life.state(task_id) is State.QUEUED


def test_a_cancel_of_what_was_seen_waiting_takes_nothing_back_that_runs(
    door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = life.accept()
    seen = {"If-Match": door.get(f"/api/tasks/{task_id}").headers["ETag"]}
    stop = verdicts.stop

    def too_late(*task: Any, **named: Any) -> Any:
        life.claim(task_id)
        return stop(*task, **named)

    monkeypatch.setattr(verdicts, "stop", too_late)
    answer = door.patch(f"/api/tasks/{task_id}", json={"status": "canceled"}, headers=seen)
    assert (answer.status_code, life.state(task_id)) == (412, State.RUNNING)


def test_a_cancel_that_took_effect_says_so_also_when_the_task_cannot_be_shown(
    door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = life.accept()
    stop = verdicts.stop

    def and_then_away(*task: Any, **named: Any) -> Any:
        done = stop(*task, **named)
        monkeypatch.setattr(queries, "task", away)
        return done

    monkeypatch.setattr(verdicts, "stop", and_then_away)
    answer = door.patch(f"/api/tasks/{task_id}", json={"status": "canceled"})
    assert (answer.status_code, answer.get_json()["verdict"]) == (200, "stopped_before_start")


def away(*_: object, **__: object) -> None:
    raise db.Unavailable("it went away just now")


@pytest.mark.parametrize("wanted", ["normal", "high"])
def test_two_changes_of_priority_at_once_leave_it_and_its_queue_together(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = life.accept(priority="normal")
    look = queries.task

    def look_and_freeze(*task: Any, **named: Any) -> Any:
        monkeypatch.setattr(queries, "task", look)
        seen = look(*task, **named)
        edit.edit(task_id, Change(priority="high"), by="another")
        return seen

    monkeypatch.setattr(queries, "task", look_and_freeze)
    edit.edit(task_id, Change(priority=wanted), by="a test")
    row = life.task(task_id)
    assert (row.priority, row.queue) == (wanted, f"data.{wanted}")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"priority": "urgent"}, "#/priority"),
        ({"delay": -1}, "#/delay"),
        ({"delay": 1, "run_at": "2099-01-01T00:00:00Z"}, "#"),
        ({"run_at": 5}, "#/run_at"),
        ({"max_retries": 101}, "#/max_retries"),
        ({"timeout": 0}, "#/timeout"),
        ({"status": "canceled", "priority": "high"}, "#"),
        ({"state": "queued"}, "#/state"),
        ({"attempt": 5}, "#/attempt"),
        ({"priority": None}, "#"),
    ],
)
def test_a_wrong_change_is_named(wrong: dict[str, Any], pointer: str, door: FlaskClient) -> None:
    task_id = life.accept()
    before = life.everything()
    answer = patch(door, task_id, **wrong)
    assert answer.status_code == 422, answer.text
    assert pointer in [fault["pointer"] for fault in answer.get_json()["errors"]]
    assert life.everything() == before


def test_who_may_not_submit_a_type_may_not_bring_it_forward(door: FlaskClient) -> None:
    admin, usual = (doors.door_for(doors.key("ada", *scopes)) for scopes in ((Scope.ADMIN,), (Scope.WRITE, Scope.STOP)))
    body = {"task_type": "truncate_table", "parameters": {"table": "data"}, "delay": 3_600}
    task_id = admin.post("/api/tasks", json=body).get_json()["task_id"]
    before = life.task(task_id)
    answer = patch(usual, task_id, delay=0)
    assert (answer.status_code, answer.get_json()["missing_scope"]) == (403, "admin")
    assert life.task(task_id) == before
    assert patch(admin, task_id, delay=0).status_code == 200
