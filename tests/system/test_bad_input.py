"""What makes no sense is refused at the door with the field named, and nothing is written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.books import Books
from tests.system.service import Service

#: How large a body may be, unless the operator says otherwise.
LIMIT_BYTES = 262_144
NOBODY = "019aa5c0-0000-7000-8000-000000000001"


def task(task_type: str = "bulk_insert", **fields: Any) -> dict[str, Any]:
    return {"json": {"task_type": task_type, **fields}}


def raw(body: str | bytes | Iterator[bytes]) -> dict[str, Any]:
    return {"data": body, "headers": {"Content-Type": "application/json"}}


#: What is wrong, the request, and a word that the answer must hold.
POSTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown type": (task("email_sendin"), "did you mean 'email_sending'"),
    "no type": ({"json": {"priority": "high"}}, "task_type"),
    "unknown priority": (task(priority="urgent"), "priority"),
    "unknown field": (task(priorty="high"), "did you mean 'priority'"),
    "wrong parameter": (task(parameters={"rows": "many"}), "parameters/rows"),
    "unknown parameter": (task(parameters={"row": 5}), "did you mean 'rows'"),
    "too many rows": (task(parameters={"rows": 10**9}), "parameters/rows"),
    "negative delay": (task(delay=-1), "delay"),
    "delay that is no number": (raw('{"task_type": "bulk_insert", "delay": NaN}'), "NaN"),
    "delay that is true": (task(delay=True), "delay"),
    "delay and time": (task(delay=1, run_at="2030-01-01T00:00:00Z"), "delay or run_at"),
    "time without a zone": (task(run_at="2030-01-01T00:00:00"), "run_at"),
    "too many retries": (task(max_retries=101), "max_retries"),
    "broken JSON": (raw('{"task_type": "bulk_insert"'), "line 1, column 28"),
    "no object": (raw("[1, 2]"), "object"),
    "a key twice": (raw('{"task_type": "bulk_insert", "task_type": "poison"}'), "task_type"),
    "nested too deeply": (raw('{"a":' * 5000 + "1" + "}" * 5000), "nested"),
    "no UTF-8": (raw(b'{"task_type": "\xff"}'), "UTF-8"),
    "too large": (raw(json.dumps({"task_type": "x" * 300_000})), "262,144 bytes"),
    "path out of the folder": (
        task("file_processing", parameters={"filename": "../../etc/passwd"}),
        "filename",
    ),
    "absolute path": (task("file_processing", parameters={"filename": "/etc/passwd"}), "filename"),
    "header in the subject": (
        task("email_sending", parameters={"to": "a@example.com", "subject": "hi\r\nBcc: all@example.com"}),
        "subject",
    ),
    "header in the address": (
        task("email_sending", parameters={"to": "a@example.com\r\nBcc: all@example.com"}),
        "parameters/to",
    ),
    "closed table": (task("truncate_table", parameters={"table": "sluice_marker"}), "table"),
}


@pytest.mark.parametrize(("request_", "word"), POSTS.values(), ids=POSTS)
def test_a_task_is_refused_for(request_: dict[str, Any], word: str, service: Service, books: Books) -> None:
    answer = service.ask("POST", "/api/tasks", **request_)

    assert 400 <= answer.status_code < 500, f"{answer.status_code}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert word in answer.json()["detail"], answer.text
    assert "Traceback" not in answer.text
    assert not books.states()


def in_chunks(size: int) -> Iterator[bytes]:
    """A task's body of so many bytes, of which the very first ones would do."""
    body = json.dumps({"task_type": "bulk_insert", "parameters": {"rows": 1}}).encode().ljust(size)
    return (body[start : start + 8192] for start in range(0, size, 8192))


def test_a_body_without_a_length_is_taken_up_to_the_limit_only(service: Service, books: Books) -> None:
    for more, status in ((-1, 202), (1, 413), (1_000_000, 413)):
        answer = service.ask("POST", "/api/tasks", **raw(in_chunks(LIMIT_BYTES + more)))
        assert answer.status_code == status, f"{more} bytes beyond the limit: {answer.text}"
    assert "may have at most" in answer.json()["detail"]
    assert books.states().total() == 1


#: A request that is refused, the status, and a word that the answer must hold.
OTHERS = [
    ("POST", "/insert/0", 422, "num"),
    ("POST", "/insert/1000001", 422, "num"),
    ("POST", "/insert/-1", 422, "num"),
    ("POST", "/insert/many", 422, "num"),
    ("POST", f"/stop/{NOBODY}", 404, NOBODY),
    ("POST", f"/api/tasks/{NOBODY}/stop", 404, NOBODY),
    ("GET", f"/api/tasks/{NOBODY}", 404, NOBODY),
    ("GET", f"/status/{NOBODY}", 404, NOBODY),
    ("GET", "/api/files/..%2F..%2Fetc%2Fpasswd", 404, ""),
    ("GET", "/api/files/.hidden", 422, "file name"),
    ("GET", "/api/tasks?limit=0", 400, "limit"),
    ("GET", "/api/tasks?state=done", 400, "state"),
    ("GET", "/api/tasks?cursor=xyz", 400, "cursor"),
    ("PUT", "/api/tasks", 405, ""),
    ("GET", "/nowhere", 404, ""),
]


@pytest.mark.parametrize(("method", "path", "status", "word"), OTHERS)
def test_a_request_is_refused(
    method: str, path: str, status: int, word: str, service: Service, books: Books
) -> None:
    answer = service.ask(method, path)

    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert word in answer.json()["detail"], answer.text
    assert not books.states()


def test_a_page_of_another_site_can_stop_nothing(service: Service) -> None:
    task_id = service.post("bulk_insert", delay=60)
    answer = service.ask("GET", f"/stop/{task_id}", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403, answer.text
    assert service.state(task_id) == "scheduled"
    assert service.stop(task_id)["verdict"] == "stopped_before_start"
