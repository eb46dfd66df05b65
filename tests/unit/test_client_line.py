"""A request is repeated where that can do no harm, and what is wrong is told as it is."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest

from client import errors
from client.sluice import Sluice
from tests.scripted import CUT, Answer, scripted

ACCEPTED = Answer(202, json.dumps({"task_id": "t"}))
AWAY = Answer(503, json.dumps({"status": 503, "title": "Database unavailable"}))
TASK = "019aa5c0-0000-7000-8000-000000000001"


def problem(status: int, **more: Any) -> Answer:
    document = {"type": "/problems/x", "title": "No", "status": status, "detail": "not so", **more}
    return Answer(status, json.dumps(document), "application/problem+json")


def test_a_submission_whose_answer_is_lost_is_sent_again_under_its_key() -> None:
    with scripted(CUT, AWAY, ACCEPTED) as door:
        assert Sluice(door.url, patience=60).submit("bulk_insert", {"rows": 1})["task_id"] == "t"
    keys = {asked.headers["Idempotency-Key"] for asked in door.asked}
    assert (len(door.asked), len(keys), len({asked.body for asked in door.asked})) == (3, 1, 1)


def test_each_submission_has_a_key_of_its_own() -> None:
    with scripted(ACCEPTED, ACCEPTED, ACCEPTED) as door:
        service = Sluice(door.url)
        service.submit("bulk_insert")
        service.batch([{"task_type": "bulk_insert"}])
        service.submit("bulk_insert", key="mine")
    keys = [asked.headers["Idempotency-Key"] for asked in door.asked]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


@pytest.mark.parametrize("trouble", [CUT, AWAY])
def test_what_is_not_safe_is_not_repeated_when_it_may_have_been_done(trouble: Answer | None) -> None:
    with (
        scripted(trouble, ACCEPTED) as door,
        pytest.raises((errors.Unreachable, errors.Unavailable)) as raised,
    ):
        Sluice(door.url).retry(TASK)
    assert len(door.asked) == 1
    assert getattr(raised.value, "was_sent", True)


def test_what_was_refused_for_now_is_asked_again_even_so() -> None:
    with scripted(problem(429), ACCEPTED) as door:
        Sluice(door.url, patience=60).retry(TASK)
    assert len(door.asked) == 2


def test_the_service_says_when_to_come_back() -> None:
    again = Answer(503, AWAY.body, headers={"Retry-After": "1"})
    with scripted(again, Answer()) as door:
        began = time.monotonic()
        Sluice(door.url, patience=60).get(TASK)
    assert time.monotonic() - began >= 1


def test_nobody_waits_longer_than_patience_lasts() -> None:
    later = Answer(429, problem(429).body, headers={"Retry-After": "60"})
    with scripted(later) as door, pytest.raises(errors.TooManyRequests) as raised:
        Sluice(door.url).get(TASK)
    assert raised.value.retry_after == 60


def test_the_time_to_come_back_may_be_a_date() -> None:
    later = Answer(503, AWAY.body, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"})
    with scripted(later) as door, pytest.raises(errors.Unavailable) as raised:
        Sluice(door.url).get(TASK)
    assert (raised.value.retry_after or 0) > 86_400


def test_a_service_that_is_not_there_is_told_as_such() -> None:
    with scripted() as door:
        url = door.url
    with pytest.raises(errors.Unreachable, match="nobody answers at") as raised:
        Sluice(url, patience=0.3).submit("bulk_insert")
    assert not raised.value.was_sent


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (412, errors.Conflict),
        (422, errors.Invalid),
        (500, errors.Problem),
    ],
)
def test_a_problem_is_an_exception_with_its_fields(status: int, kind: type[errors.Problem]) -> None:
    fault = {"pointer": "#/task_type", "detail": "there is none", "code": "invalid"}
    answer = problem(status, errors=[fault], request_id="r", state="queued")
    with scripted(answer) as door, pytest.raises(errors.Problem) as raised:
        Sluice(door.url).get(TASK)
    found = raised.value
    assert (type(found), found.status, found.title, found.detail) == (kind, status, "No", "not so")
    assert (found.kind, found.request_id, found.faults) == ("/problems/x", "r", [fault])
    assert found.document["state"] == "queued"


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_page_of_somebody_else_is_recognised(status: int) -> None:
    page = Answer(status, "<html>", "text/html")
    with scripted(page) as door, pytest.raises(errors.NotSluice, match="is that the address"):
        Sluice(door.url).get(TASK)


def test_a_gateway_before_the_service_is_asked_again() -> None:
    with scripted(Answer(502, "<html>", "text/html"), Answer()) as door:
        Sluice(door.url, patience=60).get(TASK)
    assert len(door.asked) == 2


def test_the_key_is_not_carried_to_another_address() -> None:
    with (
        scripted(Answer()) as elsewhere,
        scripted(Answer(307, headers={"Location": elsewhere.url})) as door,
        pytest.raises(errors.NotSluice),
    ):
        Sluice(door.url, "secret").get(TASK)
    assert elsewhere.asked == []
    assert door.asked[0].headers["X-API-Key"] == "secret"


@pytest.mark.parametrize("url", ["", "localhost:5000", "ftp://x", "http://", "http://x:port"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(errors.BadAddress):
        Sluice(url)


@pytest.mark.parametrize("key", ["two words", "secret\n", "ключ"])
def test_what_is_no_key_is_refused_without_telling_it(key: str) -> None:
    with pytest.raises(errors.BadAddress) as raised:
        Sluice("http://127.0.0.1:1", key)
    assert key.strip() not in str(raised.value)


def test_an_empty_id_is_not_taken_for_all_tasks() -> None:
    with pytest.raises(errors.Unsendable, match="empty"):
        Sluice("http://127.0.0.1:1").get("")


def test_an_id_cannot_lead_elsewhere() -> None:
    with scripted(problem(404)) as door, pytest.raises(errors.NotFound):
        Sluice(door.url).get("../queues?x=1")
    assert door.asked[0].path == "/api/tasks/..%2Fqueues%3Fx%3D1"


@pytest.mark.parametrize("key", ["two\nlines", "ключ"])
def test_what_cannot_be_sent_is_told_as_that(key: str) -> None:
    with pytest.raises(errors.Unsendable):
        Sluice("http://127.0.0.1:1").submit("bulk_insert", key=key)
    with pytest.raises(errors.Unsendable):
        Sluice("http://127.0.0.1:1").submit("data_processing", {"data": float("nan")})
    with pytest.raises(errors.Unsendable, match="zone"):
        Sluice("http://127.0.0.1:1").submit("data_processing", run_at=datetime(2026, 1, 31))
