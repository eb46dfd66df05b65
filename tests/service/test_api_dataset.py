"""The endpoints of the sample table over HTTP, with a worker at work beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import insert

from ledger import db, queries, xa
from ledger.filters import Filter
from ledger.states import State
from ledger.xa import Branch, BranchId
from tasks import revoke
from tasks.revoke import Verdict
from tasks.types.dataset import data
from tests import life
from tests.conftest import eventually


@pytest.fixture(autouse=True)
def _legacy_way(configured: Callable[..., None]) -> Iterator[None]:
    configured(SLUICE_LEGACY_GET=1, SLUICE_STOP_GRACE_SECONDS=0.2)
    yield
    life.clear_up()


@pytest.fixture
def _worker(servers: object) -> Iterator[None]:
    with life.child(life.obliging_worker):
        yield


def fill(rows: int) -> None:
    with db.data().begin() as connection:
        connection.execute(insert(data), [{"field1": f"a{row}", "field2": f"b{row}"} for row in range(rows)])


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("path", "rows"), [("/insert/250", 250), ("/insert", 100_000), ("/insert/0007", 7)])
def test_an_insert_is_started_in_the_background(method: str, path: str, rows: int, door: FlaskClient) -> None:
    answer = door.open(path, method=method)
    body = answer.get_json()
    assert (answer.status_code, body["success"]) == (202, True)
    assert answer.headers["Location"] == f"/api/tasks/{body['task_id']}"
    row = life.task(body["task_id"])
    assert (row.task_type, row.queue) == ("bulk_insert", "data.normal")
    assert row.parameters.get("rows", 100_000) == rows


@pytest.mark.usefixtures("_worker")
def test_an_inserts_rows_are_counted_and_listed(door: FlaskClient) -> None:
    task_id = door.post("/insert/1500").get_json()["task_id"]
    eventually(lambda: door.get(f"/status/{task_id}").get_json()["status"] == "completed")
    assert door.get("/get_data/count").get_json() == {"success": True, "count": 1_500}
    first = door.get("/get_data?limit=1000").get_json()
    assert (first["count"], set(first["data"][0])) == (1_000, {"id", "field1", "field2"})
    rest = door.get(f"/get_data?limit=1000&after={first['next_after']}").get_json()
    assert (rest["count"], rest["next_after"]) == (500, None)


@pytest.mark.usefixtures("_worker")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_older_insert_waits_and_says_it_is_older(method: str, door: FlaskClient) -> None:
    answer = door.open("/dpd_insert/300", method=method)
    body = answer.get_json()
    assert (answer.status_code, body["success"], body["num_rows_inserted"]) == (200, True, 300)
    assert answer.headers["Deprecation"].startswith("@")
    assert 'rel="successor-version"' in answer.headers["Link"]
    assert life.rows() == 300


def test_the_older_insert_gives_up_waiting_honestly(
    door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.dataset.INSERT_SECONDS", 0)
    answer = door.post("/dpd_insert/300")
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert life.state(answer.get_json()["task_id"]) == "queued"


def test_the_older_insert_says_that_it_was_stopped_meanwhile(door: FlaskClient) -> None:
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(door.post, "/dpd_insert/300")
        [row] = eventually(lambda: queries.page(Filter(states=[State.QUEUED])).rows)
        assert revoke.stop(row.id, by="a test").verdict is Verdict.STOPPED_BEFORE_START
        answer = waiting.result()
    body: Any = answer.get_json()
    assert (answer.status_code, body["success"], body["task_id"]) == (409, False, row.id)
    assert body["detail"] == "the task is revoked"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_stop_tells_verdict_and_rows(method: str, door: FlaskClient) -> None:
    task_id = door.post("/insert/200000").get_json()["task_id"]
    with life.child(life.worker_child(task_id)):
        eventually(lambda: life.task(task_id).progress_done)
        body = door.open(f"/stop/{task_id}", method=method).get_json()
    assert (body["success"], body["verdict"], body["rows_remaining"]) == (True, "rolled_back", 0)
    assert body["rows_undone"] > 0
    assert door.get("/get_data/count").get_json()["count"] == 0
    assert door.get(f"/status/{task_id}").get_json()["status"] == "canceled"
    again = door.open(f"/stop/{task_id}", method=method)
    assert (again.status_code, again.get_json()["success"]) == (409, False)


@pytest.mark.usefixtures("_worker")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_delete_all_empties_the_table_and_counts(method: str, door: FlaskClient) -> None:
    fill(120)
    answer = door.open("/delete_all", method=method)
    body = answer.get_json()
    assert (answer.status_code, body["success"], body["num_rows_deleted"]) == (200, True, 120)
    assert life.rows() == 0


@pytest.mark.usefixtures("_worker")
def test_delete_all_beside_a_running_insert_is_a_conflict(door: FlaskClient) -> None:
    fill(10)
    writing = Branch(BranchId("019aa5c0-0000-7000-8000-000000000001", 1, db.DATA))
    writing.start().execute(insert(data), [{"field1": "unfinished"}])
    answer = door.delete("/delete_all")
    body: Any = answer.get_json()
    assert answer.status_code == 409
    assert (body["success"], body["num_rows_deleted"], life.rows()) == (False, 0, 10)
    assert "other tasks are writing" in body["detail"]
    writing.rollback()
    writing.close()
    eventually(lambda: xa.is_undone(writing.id.task_id, db.DATA))


def test_the_first_page_says_who_is_here(door: FlaskClient) -> None:
    body = door.get("/").get_json()
    assert (body["success"], body["endpoints"]["submit_task"]) == (True, "POST /api/tasks")


def test_an_empty_table_is_listed_as_empty(door: FlaskClient) -> None:
    assert door.get("/get_data").get_json() == {"success": True, "count": 0, "data": [], "next_after": None}


@pytest.mark.parametrize("path", ["/status/019aa5c0-0000-7000-8000-000000000001", "/status/x"])
def test_the_status_of_an_unknown_task_is_not_found(path: str, door: FlaskClient) -> None:
    assert door.get(path).status_code == 404
