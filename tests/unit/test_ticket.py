"""The ticket that is made by hand, beside the message that Celery would have made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery

from ledger.tickets import Ticket
from tasks import message
from tasks.message import HARD_LIMIT_MARGIN_SECONDS, message_of

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"
OTHER_ID = "019aa5c0-0000-4000-8000-000000000002"
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
    return message_of(TICKET)


def test_the_headers_are_those_of_celery_that_say_something(celerys: Any) -> None:
    made = dict(ours().headers)
    assert made.pop("origin").startswith("sluice@")
    celery = {name: value for name, value in celerys.headers.items() if name != "origin"}
    said = {name: value for name, value in celery.items() if value not in (None, "", 0, {})}
    assert made == said | {"timelimit": [615, None]}
    assert list(said["timelimit"]) == [615, None]


def properties_of(message: Any) -> bytes:
    """As py-amqp writes them."""
    return bytes(message._serialize_properties())


def test_a_form_that_is_filled_in_is_what_py_amqp_would_have_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "_another_id", lambda: OTHER_ID)
    form = message.blank(message.form_of(TICKET))
    filled = message.filled_in(properties_of(form), TICKET)
    assert filled == properties_of(ours())
    assert filled.count(TASK_ID.encode()) == 3
    assert filled.count(OTHER_ID.encode()) == 1


def test_an_id_that_does_not_fit_the_form_is_refused() -> None:
    with pytest.raises(ValueError, match="not an id of 36 characters"):
        message.filled_in(b"", TICKET._replace(task_id="7"))


def test_the_body_is_that_of_celery(celerys: Any) -> None:
    assert json.loads(ours().body) == json.loads(json.dumps(celerys.body))


def test_the_properties_let_a_worker_read_it(celerys: Any) -> None:
    properties = ours().properties
    assert properties["correlation_id"] == celerys.properties["correlation_id"] == TASK_ID
    assert (properties["content_type"], properties["content_encoding"]) == ("application/json", "utf-8")
    assert properties["delivery_mode"] == 2
    assert properties["message_id"] != ours().properties["message_id"], "each ticket is one of its own"


def test_a_ticket_carries_no_parameters() -> None:
    made = ours()
    assert json.loads(made.body)[0] == [3]
    assert made.headers["argsrepr"] == "attempt 3"
    assert "kwargsrepr" not in made.headers
