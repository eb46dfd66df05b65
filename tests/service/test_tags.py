"""Tags: given with a task, shown with it, and found by them whatever else is there."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from api import create_app
from cli.stack import Stack
from ledger import acceptance, db, queries, retention, transitions
from ledger.callers import EVERYBODY, Caller, Scope
from ledger.filters import Filter
from ledger.models import task_tags, tasks
from ledger.states import State
from tasks import failure
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import door_for, key

ADA = Caller("ada", frozenset({Scope.READ}))


@pytest.fixture
def app(servers: Stack) -> Flask:
    return create_app()


def tagged(*tags: str, owner: str = "") -> str:
    task = life.new(tags=tags)
    acceptance.accept([task], caller=Caller(owner, frozenset({Scope.WRITE})))
    return task.task_id


def found(*tags: str, caller: Caller = EVERYBODY, **wanted: Any) -> list[str]:
    return [row.id for row in queries.page(Filter(tags=tags, **wanted), caller=caller).rows]


def post(door: FlaskClient, tags: Any) -> Any:
    return door.post("/api/tasks", json={"task_type": "test_quick", "tags": tags, "delay": 60})


def listed(door: FlaskClient, query: str) -> list[str]:
    answer = door.get(f"/api/tasks?{query}")
    assert answer.status_code == 200, answer.text
    return [item["task_id"] for item in answer.get_json()["items"]]


def test_a_task_shows_its_tags_and_is_found_by_them(door: FlaskClient) -> None:
    task_id = post(door, ["eu", "tenant:42", "eu"]).get_json()["task_id"]
    post(door, [])
    assert door.get(f"/api/tasks/{task_id}").get_json()["tags"] == ["eu", "tenant:42"]
    assert door.get("/api/tasks?tag=eu").get_json()["items"][0]["tags"] == ["eu", "tenant:42"]
    assert listed(door, "tag=eu") == listed(door, "tag=eu&tag=tenant:42") == listed(door, "tag=eu&state=scheduled")
    assert listed(door, "tag=us") == listed(door, "tag=eu&tag=us") == listed(door, "tag=eu&state=queued") == []
    assert [item["tags"] for item in door.get("/api/tasks").get_json()["items"]] == [[], ["eu", "tenant:42"]]


@pytest.mark.parametrize(
    ("tags", "pointer"),
    [
        ("eu", "#/tags"),
        ([str(number) for number in range(11)], "#/tags"),
        ([""], "#/tags/0"),
        (["eu", "x" * 41], "#/tags/1"),
        (["two words"], "#/tags/0"),
        (["größe"], "#/tags/0"),
        (["-x"], "#/tags/0"),
        ([1], "#/tags/0"),
    ],
)
def test_a_wrong_tag_is_told_with_its_place(tags: Any, pointer: str, door: FlaskClient) -> None:
    answer = post(door, tags)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, pointer)
    assert found() == []


def test_a_filter_by_what_is_no_tag_is_refused(door: FlaskClient) -> None:
    assert door.get("/api/tasks?tag=two%20words").status_code == 400
    assert door.post("/api/tasks/retry", json={"tag": ["two words"]}).status_code == 422


def test_a_cursor_goes_through_all_that_have_a_tag() -> None:
    task_ids = [tagged("eu") for _ in range(5) if tagged()]
    first = queries.page(Filter(tags=["eu"]), limit=3)
    second = queries.page(Filter(tags=["eu"]), limit=3, cursor=first.next_cursor)
    assert [row.id for row in (*first.rows, *second.rows)] == task_ids[::-1]
    assert second.next_cursor is None


def test_counts_are_of_those_that_have_the_tag(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    life.put(tagged("eu"), state=State.REVOKED)
    tagged("eu", "a")
    tagged()
    told = door.get("/api/tasks?tag=eu&counts=1").get_json()["counts"]
    assert {state: number for state, number in told.items() if number} == {"revoked": 1, "queued": 1}
    assert queries.counts(["eu", "a"])["queued"] == 1
    monkeypatch.setattr(queries, "MOST_COUNTED", 1)
    assert sum(queries.counts(["eu"]).values()) == 1


def test_nobody_finds_anothers_tasks_by_their_tags(app: Flask) -> None:
    ada, emmy = door_for(key("ada"), app), door_for(key("emmy", Scope.READ), app)
    mine = post(ada, ["secret"]).get_json()["task_id"]
    assert listed(ada, "tag=secret") == [mine]
    assert listed(emmy, "tag=secret") == []
    assert sum(emmy.get("/api/tasks?tag=secret&counts=1").get_json()["counts"].values()) == 0


def test_those_with_a_tag_are_retried_and_no_others(door: FlaskClient) -> None:
    for task_id in (wanted := tagged("eu", "nightly")), (other := tagged("eu")):
        life.claim(task_id)
        transitions.give_up(task_id, 1, error=failure.silent("ValueError", "no"), remark="")
    body = {"tag": ["eu", "nightly"]}
    assert door.post("/api/tasks/retry", json=body | {"dry_run": True}).get_json()["matching"] == 1
    assert door.post("/api/tasks/retry", json=body).get_json()["task_ids"] == [wanted]
    assert life.state(other) is State.FAILED


def test_a_batch_has_tags_and_a_purge_forgets_them(door: FlaskClient) -> None:
    bodies = [{"task_type": "test_quick", "tags": ["a", "b"]}, {"task_type": "test_quick"}]
    [task_id, _] = door.post("/api/tasks/batch", json={"tasks": bodies}).get_json()["task_ids"]
    assert found("a") == found("b") == [task_id]
    life.put(task_id, state=State.SUCCEEDED, finished_at=text("UTC_TIMESTAMP(6) - INTERVAL 9 DAY"))
    old = [retention.Over(task_id, 0, (), is_old=True)]
    assert retention.purge(old, State.SUCCEEDED, days=8, first=len) == 1
    with db.reading() as connection:
        assert connection.execute(select(func.count()).select_from(task_tags)).scalar_one() == 0


@pytest.mark.parametrize(("caller", "index"), [(EVERYBODY, "ix_task_tags_tag"), (ADA, "ix_task_tags_owner")])
@pytest.mark.parametrize("common", [1.0, 0.001])
def test_an_index_leads_to_a_tag_however_many_have_it(caller: Caller, index: str, common: float) -> None:
    """Neither a sort of all that have it, nor a walk past all that have it not."""
    new = [life.new(tags=("eu",) if number < common * 2_000 else ("x",)) for number in range(2_000)]
    acceptance.accept(new, caller=Caller("ada", frozenset({Scope.WRITE})))
    statement = Filter(tags=["eu"]).newest(tasks.c.id, caller=caller, below="f").limit(51)
    with db.reading() as connection:
        connection.execute(text("ANALYZE TABLE tasks, task_tags"))
        words = str(statement.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
        plan = connection.execute(text(f"EXPLAIN FORMAT=TRADITIONAL {words}")).all()
    assert [(row.table, row.key) for row in plan] == [("task_tags", index), ("tasks", "PRIMARY")]
    assert not any("filesort" in (row.Extra or "") or "temporary" in (row.Extra or "") for row in plan)


def test_a_task_without_tags_costs_their_table_nothing() -> None:
    tagged()
    with db.reading() as connection:
        assert connection.execute(select(func.count()).select_from(task_tags)).scalar_one() == 0
