"""Flower shows what became of a task, not that a child process came back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workers.settle import Settled

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"


def sent(kind: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """What goes out to Flower when Celery means to send an event about a ticket."""
    out: list[tuple[str, dict[str, Any]]] = []
    request: Any = Settled.__new__(Settled)
    request.id = TASK_ID
    request._task = SimpleNamespace(send_events=True)
    request._eventer = SimpleNamespace(enabled=True, send=lambda kind, **fields: out.append((kind, fields)))
    request.send_event(kind, **fields)
    return out


@pytest.mark.parametrize(
    ("state", "event", "told"),
    [
        ("succeeded", "task-succeeded", {"result": "'succeeded'", "runtime": 0.1}),
        ("failed", "task-failed", {"exception": "see the task", "traceback": None}),
        ("revoked", "task-revoked", {"terminated": True, "signum": None, "expired": False}),
        ("revoking", "task-revoked", {"terminated": True, "signum": None, "expired": False}),
        ("retrying", "task-retried", {"exception": "the task is retrying", "traceback": None}),
        ("queued", "task-retried", {"exception": "the task is queued", "traceback": None}),
    ],
)
def test_an_attempts_end_is_shown_as_its_tasks_state(state: str, event: str, told: dict[str, Any]) -> None:
    assert sent("task-succeeded", result=repr(state), runtime=0.1) == [(event, {"uuid": TASK_ID, **told})]


def test_a_dropped_ticket_shows_nothing() -> None:
    assert sent("task-succeeded", result=repr(None), runtime=0.1) == []


def test_every_other_event_is_shown_as_it_is() -> None:
    for kind in ("task-received", "task-started", "task-failed"):
        assert sent(kind, result="'failed'") == [(kind, {"uuid": TASK_ID, "result": "'failed'"})]
