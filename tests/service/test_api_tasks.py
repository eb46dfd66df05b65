"""`/api/tasks` over HTTP: submit, read, list and stop, with the exact fields that clients rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from ledger import transitions
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

STRANGER = "019aa5c0-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _no_branches(configured: Callable[..., None]) -> Iterator[None]:
    configured(SLUICE_STOP_GRACE_SECONDS=0.2)
    yield
    life.clear_up()


def post(door: FlaskClient, **body: Any) -> Any:
    answer = door.post("/api/tasks", json={"task_type": "test_quick"} | body)
    assert answer.status_code == 202, answer.text
    return answer.get_json()


def test_a_submitted_task_is_answered_in_plain_words_too(door: FlaskClient) -> None:
    answer = door.post(
        "/api/tasks", json={"task_type": "data_processing", "parameters": {"data": "test data"}}
    )
    body = answer.get_json()
    assert answer.status_code == 202
    assert UUID(body["task_id"]).version == 7
    assert answer.headers["Location"] == f"/api/tasks/{body['task_id']}"
    assert body["message"] == "Task submitted successfully. Will start in 0 seconds."
    assert (body["state"], body["status"]) == ("queued", "pending")
    assert (body["task_type"], body["priority"]) == ("data_processing", "normal")
    row = life.task(body["task_id"])
    assert (row.queue, row.parameters, row.max_retries) == ("data.normal", {"data": "test data"}, 3)


@pytest.mark.parametrize(
    ("task_type", "parameters", "queue"),
    [
        ("data_processing", {"data": "test data"}, "data.high"),
        ("email_sending", {"to": "recipient@example.com"}, "email.high"),
        ("file_processing", {"filename": "your_file.txt"}, "file.high"),
        ("bulk_insert", {"num": 10}, "data.high"),
    ],
)
def test_the_example_bodies_are_taken_as_they_stand(
    task_type: str, parameters: dict[str, Any], queue: str, door: FlaskClient
) -> None:
    task_id = post(door, task_type=task_type, parameters=parameters, priority="high", delay=0)["task_id"]
    assert life.task(task_id).queue == queue


def test_a_choice_for_one_task_goes_before_its_types(door: FlaskClient) -> None:
    task_id = post(door, max_retries=0, timeout=7)["task_id"]
    row = life.task(task_id)
    assert (row.max_retries, row.timeout_seconds) == (0, 7)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"delay": 2.5}, "in 2.5 seconds"),
        ({"delay": 2_592_000}, "in 2.592e+06 seconds"),
        ({"run_at": "2050-01-31T12:00:00+01:00"}, "at 2050-01-31T11:00:00+00:00"),
        ({"run_at": "1999-01-31T12:00:00Z"}, "at 1999-01-31T12:00:00+00:00"),
    ],
)
def test_a_task_for_later_waits_in_the_ledger(when: dict[str, Any], said: str, door: FlaskClient) -> None:
    body = post(door, **when)
    assert body["message"].endswith(f"Will start {said}.")
    assert (body["state"], body["status"]) == ("scheduled", "pending")
    shown = door.get(f"/api/tasks/{body['task_id']}").get_json()
    assert shown["due_at"] is not None
    if "run_at" in when:
        assert shown["due_at"].startswith(said[3:22])


def test_a_task_is_shown_from_its_queue_to_its_result(door: FlaskClient) -> None:
    task_id = post(door)["task_id"]
    waiting = door.get(f"/api/tasks/{task_id}")
    assert waiting.headers["Retry-After"] == "1"
    assert (waiting.get_json()["status"], waiting.get_json()["result"]) == ("pending", None)
    life.work(task_id)
    answer = door.get(f"/api/tasks/{task_id}")
    shown = answer.get_json()
    assert "Retry-After" not in answer.headers
    assert (shown["state"], shown["status"], shown["result"]) == ("succeeded", "completed", {"answer": 42})
    [attempt] = shown["attempts"]
    assert (attempt["number"], attempt["worker"], attempt["outcome"]) == (1, life.WORKER, "succeeded")
    assert shown["created_at"] <= shown["started_at"] <= shown["finished_at"]


def test_a_failed_task_shows_its_error_attempts_and_remarks(door: FlaskClient) -> None:
    task_id = life.accept("test_failing", max_retries=1)
    life.work(task_id)
    shown = door.get(f"/api/tasks/{task_id}").get_json()
    assert (shown["state"], shown["status"], shown["retries"]) == ("retrying", "retrying", 1)
    life.work(task_id, life.release(task_id).attempt)
    shown = door.get(f"/api/tasks/{task_id}").get_json()
    assert (shown["status"], shown["error"]["message"]) == ("failed", "the other side hung up")
    assert [(each["number"], each["outcome"]) for each in shown["attempts"]] == [(1, "failed"), (2, "failed")]
    assert shown["attempts"][0]["error"]["type"] == "ConnectionError"
    assert any("gave up after 1 of 1 retries" in remark["text"] for remark in shown["remarks"])


def test_progress_is_shown_while_a_task_runs(door: FlaskClient) -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.renew(task_id, 1, lease_seconds=60, done=250, total=1_000)
    shown = door.get(f"/api/tasks/{task_id}").get_json()
    assert (shown["status"], shown["progress"]) == (
        "processing",
        {"done": 250, "total": 1_000, "percent": 25.0},
    )


def test_the_history_tells_every_event(door: FlaskClient) -> None:
    task_id = life.accept()
    life.work(task_id)
    answer = door.get(f"/api/tasks/{task_id.upper()}/history").get_json()
    assert answer["task_id"] == task_id
    assert [each["event"] for each in answer["items"]] == ["accepted", "claimed", "finished"]
    assert [each["state"] for each in answer["items"]] == ["queued", "running", "succeeded"]


@pytest.mark.parametrize("spelling", [str.upper, lambda word: word.replace("-", "")])
def test_an_id_is_known_in_any_spelling(spelling: Callable[[str], str], door: FlaskClient) -> None:
    task_id = life.accept()
    assert door.get(f"/api/tasks/{spelling(task_id)}").get_json()["task_id"] == task_id


def test_a_list_goes_page_by_page_along_its_links(door: FlaskClient) -> None:
    task_ids = [life.accept(priority="low") for _ in range(5)]
    life.accept(priority="high")
    found, link = [], "/api/tasks?limit=2&priority=low"
    while link:
        answer = door.get(link)
        found += [item["task_id"] for item in answer.get_json()["items"]]
        link = answer.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
    assert found == task_ids[::-1]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 3),
        ("?state=queued", 2),
        ("?state=queued&state=scheduled", 3),
        ("?status=pending", 3),
        ("?status=completed", 0),
        ("?priority=high", 1),
        ("?task_type=test_failing", 1),
        ("?task_type=unheard-of", 0),
        ("?created_after=2100-01-01T00:00:00Z", 0),
        ("?created_before=2100-01-01T00:00:00%2B14:00", 3),
    ],
)
def test_a_list_is_narrowed_by_its_filters(query: str, number: int, door: FlaskClient) -> None:
    life.accept(priority="high")
    life.accept("test_failing")
    life.accept(delay_seconds=60)
    assert len(door.get(f"/api/tasks{query}").get_json()["items"]) == number


def test_a_list_counts_by_state_when_asked(door: FlaskClient) -> None:
    life.accept()
    assert "counts" not in door.get("/api/tasks").get_json()
    assert door.get("/api/tasks?counts=1").get_json()["counts"]["queued"] == 1


@pytest.mark.parametrize("way", ["PATCH", "POST"])
def test_a_waiting_task_is_taken_back(way: str, door: FlaskClient) -> None:
    task_id = life.accept("bulk_insert", {"rows": 5})
    if way == "PATCH":
        answer = door.patch(f"/api/tasks/{task_id}", json={"status": "canceled"})
    else:
        answer = door.post(f"/api/tasks/{task_id}/stop")
    body = answer.get_json()
    assert answer.status_code == 200
    assert (body["task_id"], body["verdict"], body["state"]) == (task_id, "stopped_before_start", "revoked")
    assert life.state(task_id) is State.REVOKED


def test_a_running_task_is_stopped_with_a_verdict_and_its_rows(door: FlaskClient) -> None:
    task_id = life.accept("bulk_insert", {"rows": 200_000})
    with life.child(life.worker_child(task_id)):
        eventually(lambda: life.task(task_id).progress_done)
        answer = door.post(f"/api/tasks/{task_id}/stop")
    body = answer.get_json()
    assert (answer.status_code, body["verdict"], body["state"]) == (200, "rolled_back", "revoked")
    assert 0 < body["rows_undone"] < 200_000
    assert (body["rows_remaining"], life.rows()) == (0, 0)


@pytest.mark.parametrize(
    ("preferred", "applied", "status", "verdict"),
    [
        ("wait=0", "wait=0", 202, "stopping"),
        ("respond-async, wait=3", "wait=3", 200, "rolled_back"),
        ("wait=86400", "wait=30", 200, "rolled_back"),
        ("wait=-1", None, 200, "rolled_back"),
        ("wait=soon", None, 200, "rolled_back"),
    ],
)
@pytest.mark.parametrize("path", ["/api/tasks/{}/stop", "/stop/{}"])
def test_a_stop_waits_as_long_as_the_client_prefers(
    path: str, preferred: str, applied: str | None, status: int, verdict: str, door: FlaskClient
) -> None:
    task_id = life.accept("bulk_insert", {"rows": 5})
    life.claim(task_id)
    answer = door.post(path.format(task_id), headers={"Prefer": preferred})
    assert (answer.status_code, answer.get_json()["verdict"]) == (status, verdict)
    assert answer.headers.get("Preference-Applied") == applied
    if status == 202:
        assert answer.headers["Location"] == f"/api/tasks/{task_id}"
        assert life.state(task_id) is State.REVOKING


@pytest.mark.parametrize(
    ("state", "verdict"), [(State.SUCCEEDED, "already_finished"), (State.REVOKED, "already_finished")]
)
@pytest.mark.parametrize("way", ["PATCH", "POST"])
def test_a_stop_that_comes_too_late_is_a_conflict(
    state: State, verdict: str, way: str, door: FlaskClient
) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    if way == "PATCH":
        answer = door.patch(f"/api/tasks/{task_id}", json={"status": "canceled"})
    else:
        answer = door.post(f"/api/tasks/{task_id}/stop")
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert answer.get_json()["verdict"] == verdict
    assert answer.get_json()["state"] == state
    assert life.state(task_id) is state


@pytest.mark.parametrize("unknown", [STRANGER, "no-id", "1", "%00", STRANGER + "0"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/history"), ("POST", "/stop"), ("PATCH", "")],
)
def test_an_unknown_task_is_not_found(method: str, path: str, unknown: str, door: FlaskClient) -> None:
    body = {"status": "canceled"} if method == "PATCH" else None
    answer = door.open(f"/api/tasks/{unknown}{path}", method=method, json=body)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_every_answer_carries_a_request_id_and_is_not_cached(door: FlaskClient) -> None:
    answer = door.get("/api/tasks", headers={"X-Request-ID": "mine-1"})
    assert answer.headers["X-Request-ID"] == "mine-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    for strange in ("a b", "x" * 65, "ü"):
        forged = door.get("/api/tasks", headers={"X-Request-ID": strange}).headers["X-Request-ID"]
        assert forged != strange
        assert len(forged) == 32
