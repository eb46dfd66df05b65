"""What a webhook gets is signed so that the standard's own library is content with it, and waits grow."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from api import answers, schemas
from ledger import outbox
from ledger.deliveries import Message
from ledger.states import FINAL, State
from tasks.webhooks import envelope, waits

OLD, NEW = b"o" * 32, b"n" * 32


def words(secret: bytes) -> str:
    return f"whsec_{base64.b64encode(secret).decode()}"


def message(**more: Any) -> Message:
    given: dict[str, Any] = {
        "message_id": "019aa5c0-0000-7000-8000-000000000001_7",
        "url": "https://example.com/",
        "state": State.SUCCEEDED,
        "event": "finished",
        "attempt": 1,
        "at": datetime(2026, 1, 2, 3, 4, 5, 6),
        "detail": None,
        "task_id": "019aa5c0-0000-7000-8000-000000000001",
        "task_type": "greet",
        "created_at": datetime(2026, 1, 2),
        "result": {"greeting": "Grüße"},
        "tries_left": 9,
        "now": int(time.time()),
        "secrets": [NEW, OLD],
        "is_gone": False,
    }
    return Message(**given | more)


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_whoever_knows_one_of_the_secrets_can_verify(secret: bytes) -> None:
    body = envelope.body(message())
    read = Webhook(words(secret)).verify(body, envelope.headers(message(), body))
    assert read["type"] == "task.succeeded"
    assert read["timestamp"] == "2026-01-02T03:04:05.000006Z"
    assert read["data"]["result"] == {"greeting": "Grüße"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook-id": "another"},
        {"webhook-timestamp": str(int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()))},
        {"webhook-signature": "v1,AAAA"},
    ],
)
def test_what_was_changed_on_the_way_is_noticed(wrong: dict[str, str]) -> None:
    body = envelope.body(message())
    with pytest.raises(WebhookVerificationError):
        Webhook(words(NEW)).verify(body, envelope.headers(message(), body) | wrong)
    with pytest.raises(WebhookVerificationError):
        Webhook(words(NEW)).verify(body + b" ", envelope.headers(message(), body))


def test_who_knows_none_of_the_secrets_is_not_convinced() -> None:
    body = envelope.body(message())
    with pytest.raises(WebhookVerificationError):
        Webhook(words(b"x" * 32)).verify(body, envelope.headers(message(), body))


def test_the_body_is_the_same_for_every_try() -> None:
    later = message(now=message().now + 60, tries_left=3, secrets=[NEW])
    assert envelope.body(later) == envelope.body(message())


def test_a_result_that_is_too_big_is_left_out_and_said_to_be() -> None:
    data = json.loads(envelope.body(message(result="x" * envelope.MOST_RESULT_BYTES)))["data"]
    assert (data["result"], data["result_left_out"]) == (None, True)


def test_secrets_stand_in_no_printed_form() -> None:
    assert "nnnn" not in repr(message())


def test_every_event_has_its_word_at_the_door() -> None:
    assert set(get_args(answers.WebhookEvent)) == set(outbox.TYPES.values())
    assert set(schemas._USUAL_EVENTS) == {outbox.TYPES[state] for state in FINAL}


def test_waits_grow_are_spread_and_end() -> None:
    least = [waits.after(failures, chance=0) for failures in range(1, outbox.MOST_TRIES)]
    assert least == sorted(least) == list(waits.WAITS)
    assert waits.after(1, chance=0.999) > waits.after(1, chance=0.5) > waits.after(1, chance=0)


def test_a_receiver_that_asks_for_time_gets_it_within_reason() -> None:
    assert waits.after(1, chance=0, asked_seconds=60) == 60
    assert waits.after(3, chance=0, asked_seconds=60) == waits.WAITS[2]
    assert waits.after(1, chance=0, asked_seconds=10**9) == waits.WAITS[-1]
