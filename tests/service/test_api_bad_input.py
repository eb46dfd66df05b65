"""Whatever is wrong with a request: a clear 4xx that names the field, nothing written, nothing told of the inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.schemas import SubmitBody
from ledger.models import tasks
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types

STRANGER = "019aa5c0-0000-7000-8000-000000000001"
SOUND: dict[str, Any] = {"task_type": "data_processing", "parameters": {"data": "x"}}


@pytest.fixture(autouse=True)
def _legacy_way(configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    configured(SLUICE_LEGACY_GET=1)
    # What is let in by mistake is not waited for.
    monkeypatch.setattr("api.dataset.INSERT_SECONDS", 0)
    monkeypatch.setattr("api.dataset.DELETE_SECONDS", 0)


@pytest.fixture(autouse=True)
def _nothing_written(servers: object, empty: None) -> Iterator[None]:
    """Whatever is asked in here: the ledger and the table hold afterwards what they held before."""
    before = life.everything()
    yield
    assert life.everything() == before


def check(answer: TestResponse, status: int, *named: str) -> None:
    body = answer.get_json()
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert body["status"] == status
    assert body["title"]
    for word in named:
        assert word in str(body), body
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text


@pytest.mark.parametrize(
    ("wrong", "pointer", "said"),
    [
        ({"task_type": "data_procesing"}, "#/task_type", "did you mean 'data_processing'?"),
        ({"task_type": "zzz"}, "#/task_type", "known are"),
        ({"task_type": ""}, "#/task_type", "at least 1"),
        ({"task_type": "x" * 65}, "#/task_type", "at most 64"),
        ({"task_type": None}, "#/task_type", "valid string"),
        ({"task_type": 5}, "#/task_type", "valid string"),
        ({"priority": "urgent"}, "#/priority", "'high', 'normal' or 'low'"),
        ({"priority": 1}, "#/priority", "'high', 'normal' or 'low'"),
        ({"priority": "HIGH"}, "#/priority", "'high', 'normal' or 'low'"),
        ({"delay": -1}, "#/delay", "greater than or equal to 0"),
        ({"delay": 2_592_001}, "#/delay", "less than or equal to"),
        ({"delay": "5"}, "#/delay", "number"),
        ({"delay": True}, "#/delay", "number"),
        ({"delay": None}, "#/delay", "number"),
        ({"delay": [1]}, "#/delay", "number"),
        ({"run_at": "tomorrow"}, "#/run_at", "datetime"),
        ({"run_at": "2030-01-01T00:00:00"}, "#/run_at", "timezone"),
        ({"run_at": "0001-01-01T00:00:00+14:00"}, "#/run_at", "run_at"),
        ({"run_at": "9999-12-31T23:59:59-14:00"}, "#/run_at", "run_at"),
        ({"delay": 5, "run_at": "2030-01-01T00:00:00Z"}, "#", "either delay or run_at"),
        ({"max_retries": -1}, "#/max_retries", "greater than or equal to 0"),
        ({"max_retries": 101}, "#/max_retries", "less than or equal to 100"),
        ({"max_retries": 1.5}, "#/max_retries", "integer"),
        ({"max_retries": True}, "#/max_retries", "integer"),
        ({"timeout": 0}, "#/timeout", "greater than or equal to 1"),
        ({"on_parent_failure": 1}, "#/on_parent_failure", "'fail' or 'ignore'"),
        ({"timeout": 86_401}, "#/timeout", "less than or equal to"),
        ({"parameters": []}, "#/parameters", "dictionary"),
        ({"parameters": None}, "#/parameters", "dictionary"),
        ({"parameters": {}}, "#/parameters/data", "required"),
        ({"parameters": {"data": "x", "tpo": 3}}, "#/parameters/tpo", "did you mean 'top'?"),
        ({"parameters": {"data": "x", "top": 0}}, "#/parameters/top", "greater than or equal to 1"),
        ({"prioritty": "high"}, "#/prioritty", "did you mean 'priority'?"),
        *(
            ({column.name: 1}, f"#/{column.name}", "no such field")
            for column in tasks.columns
            if column.name not in SubmitBody.model_fields
        ),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_wrong_field_is_named_with_its_rule(
    wrong: dict[str, Any], pointer: str, said: str, door: FlaskClient
) -> None:
    answer = door.post("/api/tasks", json=SOUND | wrong)
    check(answer, 422, said)
    assert pointer in [fault["pointer"] for fault in answer.get_json()["errors"]]


@pytest.mark.parametrize(
    ("task_type", "parameters", "field"),
    [
        ("bulk_insert", {"rows": 0}, "rows"),
        ("bulk_insert", {"rows": -1}, "rows"),
        ("bulk_insert", {"rows": 1_000_001}, "rows"),
        ("bulk_insert", {"rows": "5"}, "rows"),
        ("bulk_insert", {"rows": 1.5}, "rows"),
        ("truncate_table", {"table": "tasks"}, "table"),
        ("truncate_table", {"table": "data; DROP TABLE data"}, "table"),
        ("truncate_table", {}, "table"),
        ("file_processing", {"filename": "../etc/passwd"}, "filename"),
        ("file_processing", {"filename": "/etc/passwd"}, "filename"),
        ("file_processing", {"filename": "..\\x"}, "filename"),
        ("file_processing", {"filename": "a/b"}, "filename"),
        ("file_processing", {"filename": ".hidden"}, "filename"),
        ("file_processing", {"filename": "x" * 4_096}, "filename"),
        ("file_processing", {"filename": ""}, "filename"),
        ("file_processing", {"filename": "%2e%2e%2fx"}, "filename"),
        ("file_processing", {"filename": "CON"}, "filename"),
        ("email_sending", {"to": "nobody"}, "to"),
        ("email_sending", {"to": "a@example.com, b@example.com"}, "to"),
        ("email_sending", {"to": "a@example.com\r\nBcc: b@example.com"}, "to"),
        ("email_sending", {"to": "a@example.com", "subject": "x\r\nBcc: b@example.com"}, "subject"),
        ("email_sending", {"to": "a@example.com", "subject": "x\nBcc: b@example.com"}, "subject"),
        ("email_sending", {"subject": "x"}, "to"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_wrong_parameter_is_named(
    task_type: str, parameters: dict[str, Any], field: str, door: FlaskClient
) -> None:
    answer = door.post("/api/tasks", json={"task_type": task_type, "parameters": parameters})
    check(answer, 422)
    assert any(fault["pointer"].startswith(f"#/parameters/{field}") for fault in answer.get_json()["errors"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "No data provided"),
        (b"{", "line 1, column 2"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"task_type": "data_processing", "delay": NaN}', "NaN is not JSON"),
        (b'{"task_type": "data_processing", "delay": -Infinity}', "-Infinity is not JSON"),
        (b'{"task_type": "data_processing", "delay": 1e999}', "too large"),
        (b'{"task_type": "a", "task_type": "b"}', "'task_type' appears twice"),
        (b'{"task_type": "data_processing", "parameters": {"data": "\\ud800"}}', "surrogate"),
        (b'{"task_type": "data_processing", "parameters": {"data": "\\u0000"}}', "NUL"),
        (b'{"task_type": "data_processing", "parameters": {"data": ' + b"[" * 100_000, "nested deeper"),
        (b'{"task_type": "data_processing", "parameters": {"data": ' + b"9" * 5_000 + b"}}", "number"),
        ('{"task_type": "data_processing"}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"task_type": "data_processing"}', "BOM"),
    ],
    ids=lambda part: str(part[:60]),
)
def test_broken_json_is_refused_with_its_place(body: bytes, said: str, door: FlaskClient) -> None:
    check(door.post("/api/tasks", data=body, content_type="application/json"), 400, said)


def test_a_body_over_the_limit_is_too_large(door: FlaskClient) -> None:
    check(door.post("/api/tasks", json=SOUND | {"parameters": {"data": "x" * 262_144}}), 413, "262,144 bytes")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read_as_json(kind: str, door: FlaskClient) -> None:
    check(
        door.post("/api/tasks", data=b'{"task_type": "data_processing"}', content_type=kind),
        415,
        "application/json",
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=runing", "?state"),
        ("status=done", "?status"),
        ("priority=urgent", "?priority"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=x", "?limit"),
        ("limit=-1", "?limit"),
        ("limit=" + "9" * 5_000, "?limit"),
        ("limit=%C2%B2", "?limit"),
        ("cursor=x", "?cursor"),
        ("cursor=%00", "?cursor"),
        ("created_after=yesterday", "?created_after"),
        ("created_after=2030-01-01T00:00:00", "?created_after"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "?created_after"),
        ("created_before=9999-12-31T23:59:59-14:00", "?created_before"),
        ("counts=banana", "?counts"),
        ("stat=queued", "?stat"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_a_wrong_filter_is_named(query: str, field: str, door: FlaskClient) -> None:
    answer = door.get(f"/api/tasks?{query}")
    check(answer, 400)
    assert answer.get_json()["errors"][0]["pointer"] == field


@pytest.mark.parametrize("word", ["%C3%A9", "%00", "%27%20OR%201=1--", "x" * 5_000, "%F0%9F%98%80"])
def test_an_odd_task_type_filter_finds_nothing(word: str, door: FlaskClient) -> None:
    answer = door.get(f"/api/tasks?task_type={word}")
    assert (answer.status_code, answer.get_json()["items"]) == (200, [])


@pytest.mark.parametrize(
    "body", [{}, {"status": "done"}, {"status": None}, {"state": "revoked"}, {"status": "canceled", "x": 1}]
)
def test_a_patch_takes_one_change_only(body: dict[str, Any], door: FlaskClient) -> None:
    check(door.patch(f"/api/tasks/{STRANGER}", json=body), 422)


@pytest.mark.parametrize("num", ["0", "1000001", "-1", "1.5", "x", "1e3", "+5", "%C2%B2", "9" * 400, "0x10"])
@pytest.mark.parametrize("path", ["/insert", "/dpd_insert"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_wrong_number_of_rows_is_named(num: str, path: str, method: str, door: FlaskClient) -> None:
    check(door.open(f"{path}/{num}", method=method), 422, "num must be a number from 1 to 1,000,000")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "after=-1", "after=9223372036854775808", "page=2"]
)
def test_a_wrong_page_of_the_table_is_named(query: str, door: FlaskClient) -> None:
    check(door.get(f"/get_data?{query}"), 400, f"?{query.partition('=')[0]}")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/stop/nobody"),
        ("POST", f"/stop/{STRANGER}"),
        ("GET", "/status/nobody"),
        ("GET", "/nowhere"),
        ("GET", "/api/files/missing.txt"),
    ],
)
def test_what_is_not_there_is_not_found(method: str, path: str, door: FlaskClient) -> None:
    check(door.open(path, method=method), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/tasks", {"GET", "POST"}),
        ("PUT", f"/api/tasks/{STRANGER}", {"GET", "PATCH"}),
        ("GET", f"/api/tasks/{STRANGER}/stop", {"POST"}),
        ("POST", "/get_data", {"GET"}),
        ("POST", "/delete_all", {"GET", "DELETE"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    method: str, path: str, allowed: set[str], door: FlaskClient
) -> None:
    answer = door.open(path, method=method)
    check(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


# --- requests that a browser was tricked into -----------------------------------------------------------------------

CHANGING_BY_GET = ("/insert", "/insert/5", "/dpd_insert", "/dpd_insert/5", "/delete_all", f"/stop/{STRANGER}")


def routes_by_get(door: FlaskClient) -> list[str]:
    rules = door.application.url_map.iter_rules()
    return [
        rule.rule.replace("<task_id>", STRANGER).replace("<num>", "5").replace("<name>", "your_file.txt")
        for rule in rules
        if "GET" in (rule.methods or ())
    ]


def test_head_and_options_never_change_anything(door: FlaskClient) -> None:
    paths = routes_by_get(door)
    assert set(CHANGING_BY_GET) <= set(paths)
    for path in paths:
        assert door.head(path).status_code < 500, path
        assert door.options(path).status_code == 200, path


@pytest.mark.parametrize("path", CHANGING_BY_GET)
def test_head_of_a_changing_route_is_refused(path: str, door: FlaskClient) -> None:
    answer = door.head(path)
    assert answer.status_code == 405
    assert answer.headers["Allow"] in ("POST", "DELETE")


@pytest.mark.parametrize("path", CHANGING_BY_GET)
def test_get_changes_nothing_unless_it_was_switched_on(
    path: str, door: FlaskClient, configured: Callable[..., None]
) -> None:
    configured(SLUICE_LEGACY_GET=0)
    answer = door.get(path)
    check(answer, 405, "changes something: use ")
    assert answer.headers["Allow"] == ("DELETE" if path == "/delete_all" else "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"Sec-Fetch-Site": "none", "Sec-Purpose": "prefetch"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", CHANGING_BY_GET)
def test_a_tricked_browser_is_refused(path: str, headers: dict[str, str], door: FlaskClient) -> None:
    check(door.get(path, headers=headers), 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/tasks"),
        ("POST", "/insert/5"),
        ("POST", f"/stop/{STRANGER}"),
        ("DELETE", "/delete_all"),
        ("PATCH", f"/api/tasks/{STRANGER}"),
        ("POST", f"/api/tasks/{STRANGER}/stop"),
        ("POST", "/api/files"),
    ],
)
def test_another_sites_script_is_refused(method: str, path: str, door: FlaskClient) -> None:
    check(door.open(path, method=method, json=SOUND, headers={"Sec-Fetch-Site": "cross-site"}), 403)


def test_reading_is_open_to_pages_and_prefetches(door: FlaskClient) -> None:
    for path in ("/", "/api/tasks", "/get_data", "/get_data/count", "/livez"):
        assert (
            door.get(path, headers={"Sec-Fetch-Site": "cross-site", "Sec-Purpose": "prefetch"}).status_code
            == 200
        )


def test_every_state_can_be_asked_for(door: FlaskClient) -> None:
    for state in State:
        assert door.get(f"/api/tasks?state={state}").status_code == 200
