"""Clients that wait for a task: answered when it ends, never all threads at once, and told apart what has changed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api import auth, create_app, streams, waiting
from cli.stack import Stack
from ledger import db, keys, queries, transitions
from ledger.states import State
from tests import doors, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.doors import door_for

QUICK = {"task_type": "test_quick"}


@pytest.fixture
def working() -> Iterator[None]:
    """A worker that does whatever is queued."""
    with life.child(life.obliging_worker):
        yield


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many wait as may."""
    monkeypatch.setattr(waiting, "waiters", waiting.Places(1))
    assert waiting.waiters.take()


def timed(ask: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    began = time.monotonic()
    return ask(), time.monotonic() - began


@pytest.mark.parametrize(("query", "headers"), [("?wait=20", {}), ("", {"Prefer": "wait=20"})])
def test_a_client_that_waits_is_answered_when_the_task_ends(
    query: str, headers: dict[str, str], door: FlaskClient
) -> None:
    task_id = life.accept()
    answers: list[TestResponse] = []
    client = door_for()
    path = f"/api/tasks/{task_id}{query}"
    asking = threading.Thread(target=lambda: answers.append(client.get(path, headers=headers)))
    asking.start()
    asking.join(0.3)
    assert not answers
    life.work(task_id)
    asking.join(15)
    assert answers[0].get_json()["state"] == "succeeded"
    assert answers[0].headers.get("Preference-Applied") == headers.get("Prefer")


def test_after_its_time_the_task_is_told_as_it_stands(door: FlaskClient) -> None:
    task_id = life.accept()
    answer, seconds = timed(lambda: door.get(f"/api/tasks/{task_id}?wait=1"))
    assert (answer.status_code, answer.get_json()["state"]) == (200, "queued")
    assert seconds >= 1


@pytest.mark.parametrize("word", ["31", "-1", "1.5", "x", ""])
def test_a_wrong_wait_is_named(word: str, door: FlaskClient) -> None:
    answer = door.get(f"/api/tasks/{life.accept()}?wait={word}")
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (400, "?wait")


def test_an_unknown_task_is_not_waited_for(door: FlaskClient) -> None:
    answer, seconds = timed(lambda: door.get("/api/tasks/019aa5c0-0000-7000-8000-000000000001?wait=20"))
    assert (answer.status_code, seconds < 10) == (404, True)


def test_when_too_many_wait_the_answer_comes_at_once(full: None, door: FlaskClient) -> None:
    task_id = life.accept()
    answer, seconds = timed(lambda: door.get(f"/api/tasks/{task_id}?wait=30"))
    assert (answer.get_json()["state"], seconds < 10) == ("queued", True)
    answer, seconds = timed(lambda: door.post("/api/tasks", json=QUICK, headers={"Prefer": "wait=30"}))
    assert (answer.status_code, seconds < 10) == (202, True)


def test_a_place_to_wait_is_given_back(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "waiters", waiting.Places(1))
    task_id = life.accept()
    for _ in range(2):
        _, seconds = timed(lambda: door.get(f"/api/tasks/{task_id}?wait=1"))
        assert seconds >= 1
    door.get("/api/tasks/019aa5c0-0000-7000-8000-000000000001?wait=1")
    assert waiting.waiters.take()


def test_waiters_and_streams_leave_threads_free() -> None:
    assert waiting.MOST_WAITERS + waiting.MOST_STREAMS < waiting.THREADS


def test_a_process_that_leaves_keeps_nobody_waiting(door: FlaskClient) -> None:
    class Leaving:
        alive = False

    app = create_app()
    waiting.remember(app, Leaving())
    answer, seconds = timed(lambda: door_for(app=app).get(f"/api/tasks/{life.accept()}?wait=30"))
    assert (answer.status_code, seconds < 10) == (200, True)


def test_a_submission_may_wait_for_its_result(working: None, door: FlaskClient) -> None:
    answer = door.post("/api/tasks", json=QUICK, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.get_json()["result"]) == (200, {"answer": 42})
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_a_submission_that_takes_longer_is_accepted(door: FlaskClient) -> None:
    answer = door.post("/api/tasks", json=QUICK, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", "/api/tasks", QUICK), ("POST", "/dpd_insert/10", None), ("DELETE", "/delete_all", None)],
)
def test_a_submission_is_accepted_also_when_the_ledger_goes_away_while_it_waits(
    method: str, path: str, body: Any, door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise db.Unavailable("it went away just now")

    monkeypatch.setattr(queries, "state", away)
    answer = door.open(path, method=method, json=body, headers={"Prefer": "wait=5"})
    assert answer.status_code == 202
    monkeypatch.undo()
    assert life.state(answer.get_json()["task_id"]) is State.QUEUED


def change(task_id: str, what: str) -> Any:
    transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60)
    if what == "progress":
        transitions.renew(task_id, 1, lease_seconds=60, done=1, total=2)
    if what == "remark":
        transitions.remark(task_id, "inverted", "something to know")


def test_what_has_not_changed_is_not_sent_again(door: FlaskClient) -> None:
    task_id = life.accept()
    etag = door.get(f"/api/tasks/{task_id}").headers["ETag"]
    assert etag.startswith(f'"{task_id}-')
    answer = door.get(f"/api/tasks/{task_id}", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)


@pytest.mark.parametrize("what", ["move", "progress", "remark"])
def test_any_change_of_a_task_is_sent(what: str, door: FlaskClient) -> None:
    task_id = life.accept()
    if what != "move":
        change(task_id, "move")
    etag = door.get(f"/api/tasks/{task_id}").headers["ETag"]
    change(task_id, what)
    answer = door.get(f"/api/tasks/{task_id}", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.headers["ETag"] != etag) == (200, True)


# --- streams --------------------------------------------------------------------------------------------------------


def frames(answer: TestResponse) -> list[dict[str, str]]:
    """The frames of a stream that has ended, each as its fields."""
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_a_stream_tells_every_move_and_ends(door: FlaskClient) -> None:
    task_id = life.accept()
    life.work(task_id)
    answer = door.get(f"/api/tasks/{task_id}/events")
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert (answer.headers["X-Accel-Buffering"], answer.headers["Cache-Control"]) == ("no", "no-cache, no-transform")
    told = frames(answer)
    assert told[0] == {"retry": "3000"}
    assert [each["event"] for each in told[1:]] == ["task.queued", "task.running", "task.succeeded", "end"]
    history = door.get(f"/api/tasks/{task_id}/history").get_json()["items"]
    assert [each.get("id") for each in told[1:]] == [str(each["seq"]) for each in history] + [None]


def test_a_stream_goes_on_where_it_was_cut_off(door: FlaskClient) -> None:
    task_id = life.accept()
    life.work(task_id)
    path = f"/api/tasks/{task_id}/events"
    ids = [each["id"] for each in frames(door.get(path)) if "id" in each]
    resumed = frames(door.get(path, headers={"Last-Event-ID": ids[0]}))
    assert [each["id"] for each in resumed if "id" in each] == ids[1:]
    assert door.get(path, headers={"Last-Event-ID": ids[-1]}).status_code == 204


def test_a_stream_follows_a_task_while_it_goes_on(door: FlaskClient) -> None:
    task_id = life.accept()
    stream = door.get(f"/api/tasks/{task_id}/events", buffered=False)
    parts = (part.decode() if isinstance(part, bytes) else part for part in stream.response)
    assert next(parts).startswith("retry")
    assert "task.queued" in next(parts)
    transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=60)
    assert "task.running" in next(parts)
    transitions.renew(task_id, 1, lease_seconds=60, done=1, total=4)
    assert '"percent": 25.0' in next(parts)
    transitions.finish(task_id, 1, result={})
    assert "task.succeeded" in next(parts)
    assert "event: end" in next(parts)
    assert list(parts) == []


def test_a_quiet_stream_shows_that_it_lives(door: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.streams.PING_SECONDS", 0.2)
    stream = door.get(f"/api/tasks/{life.accept()}/events", buffered=False)
    parts = iter(stream.response)
    assert [next(parts) for _ in range(3)][2] in (": ping\n\n", b": ping\n\n")
    stream.close()


def test_streams_have_a_bound_and_give_their_places_back(
    door: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "streams", waiting.Places(1))
    path = f"/api/tasks/{life.accept()}/events"
    first = door.get(path, buffered=False)
    second = door.get(path)
    assert (second.status_code, second.headers["Retry-After"]) == (503, "1")
    first.close()
    door.get(path, buffered=False).close()
    assert waiting.streams.take()


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_stream_ends_soon_after_its_key(how: str, servers: Stack) -> None:
    assert auth.TRUST_SECONDS + streams.LOOK_SECONDS < 5
    shown = doors.key("ada", expires_in_seconds=1 if how == "expired" else None)
    task_id = door_for(shown).post("/api/tasks", json=QUICK | {"delay": 600}).get_json()["task_id"]
    stream = door_for(shown).get(f"/api/tasks/{task_id}/events", buffered=False)
    ended = threading.Event()

    def read() -> None:
        list(stream.response)
        ended.set()

    threading.Thread(target=read).start()
    if how == "revoked":
        keys.revoke(shown.split("_")[1])
    eventually(ended.is_set, within=8)
    assert door_for(shown).get(f"/api/tasks/{task_id}/events").status_code == 401


def test_who_waits_with_a_key_that_is_revoked_meanwhile_learns_nothing(
    servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = doors.key("ada")
    door = door_for(shown)
    task_id = door.post("/api/tasks", json=QUICK).get_json()["task_id"]

    def wait_and_lose_the_key(*_: object, **__: object) -> object:
        keys.revoke(shown.split("_")[1])
        auth.forget()
        return life.task(task_id)

    monkeypatch.setattr("api.tasks.outcome.wait", wait_and_lose_the_key)
    assert door.get(f"/api/tasks/{task_id}?wait=20").status_code == 401


def test_a_stream_ends_when_its_process_leaves(door: FlaskClient) -> None:
    class Worker:
        alive = True

    app, worker = create_app(), Worker()
    waiting.remember(app, worker)
    stream = door_for(app=app).get(f"/api/tasks/{life.accept()}/events", buffered=False)
    ended = threading.Event()

    def read() -> None:
        list(stream.response)
        ended.set()

    threading.Thread(target=read).start()
    assert not ended.wait(1)
    worker.alive = False
    eventually(ended.is_set)


def test_a_server_that_is_told_to_leave_does_not_wait_for_its_streams(
    gunicorn: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = gunicorn
    path, key = f"{url}/api/tasks/{life.accept()}/events", {"X-API-Key": doors.MASTER.words}
    with requests.get(path, headers=key, stream=True, timeout=30) as stream:
        assert next(stream.iter_lines()) == b"retry: 3000"
        process.terminate()
        # Its own patience is thirty seconds.
        assert process.wait(15) == 0


@pytest.mark.parametrize("word", ["x", "-1", "1.5", "9" * 30])
def test_a_wrong_last_event_is_named(word: str, door: FlaskClient) -> None:
    answer = door.get(f"/api/tasks/{life.accept()}/events", headers={"Last-Event-ID": word})
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (400, "Last-Event-ID")


def test_an_unknown_task_has_no_stream(door: FlaskClient) -> None:
    assert door.get("/api/tasks/019aa5c0-0000-7000-8000-000000000001/events").status_code == 404
