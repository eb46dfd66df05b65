"""Every route with every kind of caller: who has no business there learns nothing and changes nothing.

The routes are the application's own, so that a new one is tried as soon as it is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from limits import RateLimitItemPerMinute
from werkzeug.test import TestResponse

from api import auth, create_app, dataset
from cli.stack import Stack
from ledger import keys
from ledger.callers import Scope
from tests import life, task_types  # noqa: F401  registers the types
from tests.doors import MASTER, door_for, key

#: Stands in everything that the owner's task has to tell.
CANARY = "canary-7d1f"
STRANGER = "019aa5c0-0000-7000-8000-000000000001"
ROWS = 3

Call = tuple[str, str, str]


def calls(app: Flask, task_id: str) -> Iterator[Call]:
    """Each method of each rule, as (endpoint, method, path)."""
    words = {"task_id": task_id, "num": str(ROWS), "name": f"{task_id}-x.gz", "queue": "file"}
    words |= {"key_id": "00000000", "secret_id": "00000000", "seq": "1", "schedule_id": STRANGER}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", lambda part: words.get(part[1], "docs.css"), rule.rule)
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            yield rule.endpoint, method, path


@pytest.fixture
def app(servers: Stack) -> Flask:
    return create_app()


@pytest.fixture
def adas(app: Flask) -> str:
    """A task of Ada's, full of what nobody else may see."""
    body = {"task_type": "data_processing", "parameters": {"data": CANARY}, "delay": 3_600}
    answer = door_for(key("ada", *keys.USUAL_SCOPES), app).post("/api/tasks", json=body)
    return str(answer.get_json()["task_id"])


def ask(door: FlaskClient, method: str, path: str) -> TestResponse:
    """With a body that many routes take; what one does not take is refused later than a key is."""
    body = {"task_type": "test_quick", "delay": 60, "note": "x", "status": "canceled", "reason": "x"}
    known = {"PATCH": {"status": "canceled"}}.get(method, body if method == "POST" else None)
    return door.open(path, method=method, json=known, buffered=True)


def is_public(app: Flask, endpoint: str) -> bool:
    return auth.scope_of(app.view_functions[endpoint]) is None


@pytest.mark.parametrize(
    "shown",
    [None, "", "nonsense", keys.make().words, MASTER.words[:-3] + "abc"],
    ids=["none", "empty", "nonsense", "unknown", "wrong"],
)
def test_without_a_good_key_nothing_is_told_or_changed(
    shown: str | None, app: Flask, adas: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_PER_ADDRESS", RateLimitItemPerMinute(10_000))
    door, before = door_for(shown, app), life.everything()
    for endpoint, method, path in calls(app, adas):
        answer = ask(door, method, path)
        if is_public(app, endpoint):
            assert answer.status_code not in (401, 403), (method, path)
        else:
            assert answer.status_code == 401, (method, path)
            assert "WWW-Authenticate" in answer.headers
            assert CANARY not in answer.get_data(as_text=True)
    assert life.everything() == before


@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_opens_its_own_routes_and_no_other(scope: Scope, app: Flask, adas: str) -> None:
    door, before = door_for(key("emmy", scope), app), life.everything()
    for endpoint, method, path in calls(app, adas):
        needed = auth.scope_of(app.view_functions[endpoint])
        if needed is None or scope in (needed, Scope.ADMIN):
            continue
        answer = ask(door, method, path)
        assert (answer.status_code, answer.get_json(silent=True) is None or answer.get_json()["missing_scope"]) == (
            403,
            method == "HEAD" or needed,
        ), (method, path)
    assert life.everything() == before


def test_a_stranger_learns_of_anothers_task_what_he_learns_of_none(app: Flask, adas: str) -> None:
    """Two walks, with the id of Ada's task and with one that never was: word for word the same but for the id."""
    emmy = door_for(key("emmy", *keys.USUAL_SCOPES), app)
    row = life.task(adas)
    of_task = [call for call in calls(app, adas) if adas in call[2] and call[1] != "HEAD"]
    assert len(of_task) >= 10
    for endpoint, method, path in of_task:
        if method == "GET" and auth.scope_of(app.view_functions[endpoint]) is not Scope.READ:
            continue  # the first clients' GET routes that change something, which are switched on elsewhere
        real, none = ask(emmy, method, path), ask(emmy, method, path.replace(adas, STRANGER))
        assert real.status_code == none.status_code, (method, path)
        assert real.status_code in (404, 403, 422, 400), (method, path, real.status_code)
        assert _told(real, adas) == _told(none, STRANGER), (method, path)
        assert CANARY not in real.get_data(as_text=True)
    assert life.task(adas) == row


def _told(answer: TestResponse, task_id: str) -> Any:
    body = answer.get_json(silent=True) or {}
    return {name: str(value).replace(task_id, "<id>") for name, value in body.items() if name != "request_id"}


def test_no_answer_to_a_stranger_has_a_word_of_anothers_task(
    app: Flask, adas: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "INSERT_SECONDS", 0.1)  # nobody works here
    emmy = door_for(key("emmy", *keys.USUAL_SCOPES), app)
    for _, method, path in calls(app, STRANGER):
        if method in ("GET", "POST"):
            told = ask(emmy, method, path).get_data(as_text=True)
            assert CANARY not in told, (method, path)
            assert adas not in told, (method, path)


def test_to_depend_on_anothers_task_is_to_depend_on_none(app: Flask, adas: str) -> None:
    emmy = door_for(key("emmy", *keys.USUAL_SCOPES), app)
    answers = [
        emmy.post("/api/tasks", json={"task_type": "test_quick", "depends_on": [parent]}) for parent in (adas, STRANGER)
    ]
    assert answers[0].status_code == answers[1].status_code == 422
    assert _told(answers[0], adas) == _told(answers[1], STRANGER)


def test_one_idempotency_key_of_two_owners_is_two(app: Flask) -> None:
    headers = {"Idempotency-Key": "the-same"}
    ids = {
        door_for(key(owner, *keys.USUAL_SCOPES), app)
        .post("/api/tasks", json={"task_type": "test_quick", "delay": 60}, headers=headers)
        .get_json()["task_id"]
        for owner in ("ada", "emmy")
    }
    assert len(ids) == 2


def test_head_and_options_change_nothing(app: Flask, adas: str) -> None:
    door = door_for(app=app)
    door.get("/api/tasks")
    before = life.everything()
    for _, _, path in calls(app, adas):
        for method in ("HEAD", "OPTIONS"):
            ask(door, method, path)
    assert life.everything() == before


def test_every_answer_has_the_headers_of_the_house(app: Flask, adas: str) -> None:
    nowhere = [("", "GET", "/nowhere"), ("", "DELETE", "/api/tasks"), ("", "OPTIONS", "/api/tasks")]
    for _, method, path in [*calls(app, adas), *nowhere]:
        answer = ask(door_for(key("emmy", Scope.READ), app), method, path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Content-Security-Policy" in answer.headers
        assert "Cache-Control" in answer.headers


def test_no_answer_opens_itself_to_another_sites_script(app: Flask, adas: str) -> None:
    foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    door = door_for(app=app)
    for _, _, path in calls(app, adas):
        for method in ("OPTIONS", "HEAD"):
            answer = door.open(path, method=method, headers=foreign)
            assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")], path


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:80@evil.example", "a b"])
def test_a_request_by_a_name_that_is_not_ours_is_refused(host: str, app: Flask, adas: str) -> None:
    app.config["TRUSTED_HOSTS"] = ["localhost", ".sluice.example"]
    before = life.everything()
    for _, method, path in calls(app, adas):
        answer = door_for(app=app).open(path, method=method, headers={"Host": host})
        assert answer.status_code == 400, (method, path)
    assert life.everything() == before
    for ours in ("localhost", "localhost:5000", "api.sluice.example"):
        assert door_for(app=app).get("/livez", headers={"Host": ours}).status_code == 200


def test_what_is_deprecated_says_so_on_every_answer(app: Flask, adas: str) -> None:
    told = set()
    for endpoint, method, path in calls(app, adas):
        answer = ask(door_for(key("emmy", Scope.READ), app), method, path)
        assert ("Deprecation" in answer.headers) == ("Sunset" in answer.headers), (method, path)
        if "Sunset" in answer.headers:
            told.add((method, endpoint))
    by_get = {("GET", f"dataset.{name}") for name in ("insert", "dpd_insert", "stop", "delete_all")}
    assert told == by_get | {("POST", "dataset.dpd_insert")}
