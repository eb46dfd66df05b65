"""Retry and resolve over HTTP, one task or many."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from flask.testing import FlaskClient

from api import schemas
from ledger import keys, replay, transitions
from ledger.callers import Scope
from ledger.states import FINAL, REPLAYABLE, State
from tasks import failure
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key

STRANGER = "019aa5c0-0000-7000-8000-000000000001"


def fail(task_id: str | None = None, *, kind: str = "ConnectionError", message: str = "hung up") -> str:
    task_id = task_id or life.accept()
    life.claim(task_id)
    assert transitions.give_up(task_id, 1, error=failure.silent(kind, message), remark="gave up")
    return task_id


def listed(door: FlaskClient, query: str) -> set[str]:
    return {item["task_id"] for item in door.get(f"/api/tasks?{query}").get_json()["items"]}


def retry_many(door: FlaskClient, **body: Any) -> Any:
    answer = door.post("/api/tasks/retry", json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


@pytest.mark.parametrize("body", [None, {}, {"note": "the host is back"}])
def test_a_failed_task_is_retried(body: Any, door: FlaskClient) -> None:
    task_id = fail()
    answer = door.post(f"/api/tasks/{task_id}/retry", **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/api/tasks/{task_id}")
    told = answer.get_json()
    assert (told["state"], told["status"], told["attempt"]) == ("queued", "pending", 2)
    remark = door.get(f"/api/tasks/{task_id}").get_json()["remarks"][-1]["text"]
    said = f": {body['note']}" if body else ""
    assert remark == f"replayed by POST /api/tasks/<id>/retry{said}"


@pytest.mark.parametrize("state", sorted(set(State) - REPLAYABLE))
def test_a_task_that_is_not_over_or_succeeded_is_refused_with_its_state(state: State, door: FlaskClient) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    answer = door.post(f"/api/tasks/{task_id}/retry")
    told = answer.get_json()
    assert (answer.status_code, told["state"], told["type"]) == (409, state, "/problems/not-replayable")
    assert ("succeeded" if state is State.SUCCEEDED else f"it is {state}") in told["detail"]
    assert life.state(task_id) is state


@pytest.mark.parametrize("what", ["retry", "resolve"])
@pytest.mark.parametrize("task_id", [STRANGER, "no-id"])
def test_an_unknown_task_is_not_found(what: str, task_id: str, door: FlaskClient) -> None:
    assert door.post(f"/api/tasks/{task_id}/{what}", json={"note": "x"}).status_code == 404


@pytest.mark.parametrize("state", sorted(REPLAYABLE))
def test_whatever_ended_without_its_effects_may_be_retried(state: State, door: FlaskClient) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    assert door.post(f"/api/tasks/{task_id}/retry").status_code == 202


def test_the_states_that_may_be_asked_for_are_those_of_the_ledger() -> None:
    assert set(get_args(schemas.Replayable)) == REPLAYABLE


# --- many ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_only_counts(door: FlaskClient) -> None:
    fail()
    fail(life.accept(priority="high"))
    before = life.everything()
    assert retry_many(door, state=["failed"], dry_run=True) == {"dry_run": True, "matching": 2}
    assert retry_many(door, priority=["high"], dry_run=True) == {"dry_run": True, "matching": 1}
    assert life.everything() == before


def test_those_that_fit_are_retried_and_no_others(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_AT_ONCE", 2)
    timed_out = [fail(kind="TimeoutError", message="took too long") for _ in range(3)]
    other, done = fail(), life.accept()
    life.work(done)
    body: dict[str, Any] = {"error": "TIMEOUT", "task_type": ["test_quick"], "note": "more room now"}
    told = retry_many(door, **body)
    assert told == {"dry_run": False, "replayed": 2, "more": True, "task_ids": timed_out[:2]}
    assert retry_many(door, **body)["more"] is False
    assert listed(door, "state=queued") == set(timed_out)
    assert (life.state(other), life.state(done)) == (State.FAILED, State.SUCCEEDED)
    assert "more room now" in life.remarks(timed_out[0])


def test_stopped_tasks_are_retried_only_when_they_are_meant(door: FlaskClient) -> None:
    task_id = life.accept()
    transitions.stop(task_id, remark="by a test")
    assert retry_many(door, task_type=["test_quick"], dry_run=True)["matching"] == 0
    assert retry_many(door, state=["revoked"])["replayed"] == 1


def test_what_is_dealt_with_or_may_have_happened_is_left_out(door: FlaskClient) -> None:
    uncertain, resolved = fail(kind="Uncertain"), fail()
    door.post(f"/api/tasks/{resolved}/resolve", json={"note": "paid by hand"})
    assert retry_many(door, state=["failed"], dry_run=True)["matching"] == 0
    assert retry_many(door, uncertain=True)["task_ids"] == [uncertain]
    assert retry_many(door, resolved=True)["task_ids"] == [resolved]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "say which tasks"),
        ({"dry_run": True}, "say which tasks"),
        ({"state": ["succeeded"]}, "'failed', 'revoked' or 'expired'"),
        ({"state": ["failed"], "dryrun": True}, "did you mean 'dry_run'?"),
        ({"state": "failed"}, "valid list"),
        ({"priority": ["urgent"]}, "'high', 'normal' or 'low'"),
        ({"created_after": "yesterday"}, "must be a time"),
        ({"resolved": "yes"}, "valid boolean"),
    ],
)
def test_a_retry_of_many_that_is_not_clear_changes_nothing(
    body: dict[str, Any], said: str, door: FlaskClient
) -> None:
    fail()
    before = life.everything()
    answer = door.post("/api/tasks/retry", json=body)
    assert answer.status_code == 422
    assert said in answer.get_json()["detail"]
    assert life.everything() == before


# --- who may -------------------------------------------------------------------------------------------------------


def failed_emptying() -> tuple[str, FlaskClient]:
    """A `truncate_table` that Ada's admin submitted and that failed, and the door for her key with the usual scopes."""
    admin, usual = door_for(key("ada", Scope.ADMIN)), door_for(key("ada", *keys.USUAL_SCOPES))
    answer = admin.post("/api/tasks", json={"task_type": "truncate_table", "parameters": {"table": "data"}})
    return fail(answer.get_json()["task_id"]), usual


def test_who_may_not_submit_a_type_may_not_retry_it(door: FlaskClient) -> None:
    task_id, usual = failed_emptying()
    answer = usual.post(f"/api/tasks/{task_id}/retry")
    assert (answer.status_code, answer.get_json()["missing_scope"]) == (403, "admin")
    assert life.state(task_id) is State.FAILED
    assert door.post(f"/api/tasks/{task_id}/retry").status_code == 202


def test_a_retry_of_many_leaves_out_what_the_key_may_not_submit(door: FlaskClient) -> None:
    task_id, usual = failed_emptying()
    mine = fail(usual.post("/api/tasks", json={"task_type": "test_quick"}).get_json()["task_id"])
    for wanted in ({"state": ["failed"]}, {"task_type": ["truncate_table", "test_quick"]}):
        assert retry_many(usual, **wanted, dry_run=True)["matching"] == 1
    told = retry_many(usual, state=["failed"])
    assert (told["task_ids"], told["more"], life.state(task_id)) == ([mine], False, State.FAILED)
    assert retry_many(door, state=["failed"])["task_ids"] == [task_id]


def test_a_type_that_is_not_known_here_is_an_admins_to_retry(door: FlaskClient) -> None:
    usual = door_for(key("ada", *keys.USUAL_SCOPES))
    task_id = fail(usual.post("/api/tasks", json={"task_type": "test_quick"}).get_json()["task_id"])
    life.put(task_id, task_type="of_a_newer_version")
    assert usual.post(f"/api/tasks/{task_id}/retry").status_code == 403
    assert retry_many(usual, state=["failed"], dry_run=True)["matching"] == 0
    assert door.post(f"/api/tasks/{task_id}/retry").status_code == 202


# --- dealt with ----------------------------------------------------------------------------------------------------


def test_a_failure_that_is_dealt_with_can_be_told_from_one_that_is_not(door: FlaskClient) -> None:
    open_, closed = fail(), fail()
    answer = door.post(f"/api/tasks/{closed}/resolve", json={"note": "paid by hand"})
    told = answer.get_json()
    assert (answer.status_code, told["state"], told["resolved"]["note"]) == (200, "failed", "paid by hand")
    assert told["resolved"]["by"] == "POST /api/tasks/<id>/resolve"
    assert listed(door, "state=failed&resolved=0") == {open_}
    assert listed(door, "state=failed&resolved=1") == {closed}
    assert listed(door, "error=HUNG%20up") == {open_, closed}
    door.post(f"/api/tasks/{closed}/retry")
    assert door.get(f"/api/tasks/{closed}").get_json()["resolved"] is None


@pytest.mark.parametrize("state", sorted(FINAL - {State.FAILED} | {State.RUNNING}))
def test_only_a_failure_is_resolved(state: State, door: FlaskClient) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    answer = door.post(f"/api/tasks/{task_id}/resolve", json={"note": "x"})
    assert (answer.status_code, answer.get_json()["state"]) == (409, state)


@pytest.mark.parametrize("body", [{"note": ""}, {"notes": "x"}, {"note": "x" * 1_001}, {"note": 5}])
def test_a_resolution_says_why(body: dict[str, Any], door: FlaskClient) -> None:
    task_id = fail()
    assert door.post(f"/api/tasks/{task_id}/resolve", json=body).status_code == 422
    assert door.post(f"/api/tasks/{task_id}/resolve").status_code == 400
    assert life.task(task_id).resolved_at is None
