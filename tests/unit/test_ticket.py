"""The ticket that is made by hand, beside the message that Celery would have made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery

from ledger.tickets import Ticket
from tasks import dispatch
from tasks.dispatch import HARD_LIMIT_MARGIN_SECONDS

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"
TICKET = Ticket(TASK_ID, attempt=3, task_type="bulk_insert", queue="data.high", timeout_seconds=600)


@pytest.fixture
def celerys() -> Any:
    """Celery's own message for the same attempt."""
    return Celery("sluice", set_as_current=False).amqp.as_task_v2(
        TASK_ID,
        TICKET.task_type,
        args=(TICKET.attempt,),
        kwargs={},
        retries=TICKET.attempt - 1,
        time_limit=TICKET.timeout_seconds + HARD_LIMIT_MARGIN_SECONDS,
        ignore_result=True,
        argsrepr=f"attempt {TICKET.attempt}",
        kwargsrepr="",
    )


def ours() -> Any:
    return dispatch.message_of(TICKET)


def test_the_headers_are_those_of_celery_that_say_something(celerys: Any) -> None:
    made = dict(ours().headers)
    assert made.pop("origin").startswith("sluice@")
    celery = {name: value for name, value in celerys.headers.items() if name != "origin"}
    said = {name: value for name, value in celery.items() if value not in (None, "", 0, {})}
    assert made == said | {"timelimit": [615, None]}
    assert list(said["timelimit"]) == [615, None]


def test_the_body_is_that_of_celery(celerys: Any) -> None:
    assert json.loads(ours().body) == json.loads(json.dumps(celerys.body))


def test_the_properties_let_a_worker_read_it(celerys: Any) -> None:
    properties = ours().properties
    assert properties["correlation_id"] == celerys.properties["correlation_id"] == TASK_ID
    assert (properties["content_type"], properties["content_encoding"]) == ("application/json", "utf-8")
    assert properties["delivery_mode"] == 2
    assert properties["message_id"] != ours().properties["message_id"], "each ticket is one of its own"


def test_a_ticket_carries_no_parameters() -> None:
    message = ours()
    assert json.loads(message.body)[0] == [3]
    assert message.headers["argsrepr"] == "attempt 3"
    assert "kwargsrepr" not in message.headers
