"""What can be asked for, as types: the terms of a task, and the filters of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required

from typing_extensions import TypedDict

from client.answers import Priority, State, WebhookEvent
from client.errors import Unsendable


class Webhook(TypedDict, total=False):
    """Whom to tell of what becomes of a task; of its ends unless other events are named."""

    url: Required[str]
    events: Sequence[WebhookEvent]


class Terms(TypedDict, total=False):
    """When a task may start, and how often and how long it is tried. What is left out is as the task type has it."""

    priority: Priority
    #: Seconds to wait before it may start.
    delay: float
    #: The time before which it may not start, with its zone.
    run_at: datetime
    #: Seconds after which it is not started any more.
    expires_in: float
    max_retries: int
    #: Seconds that one attempt may take.
    timeout: int
    #: Tasks that must have succeeded before it may start, and what becomes of it when one of them does not.
    depends_on: Sequence[str]
    on_parent_failure: Literal["fail", "ignore"]
    #: Words to find it by.
    tags: Sequence[str]
    webhook: Webhook


class Submission(Terms, total=False):
    """One task of a batch."""

    task_type: Required[str]
    parameters: Mapping[str, Any]


class Filter(TypedDict, total=False):
    """Which tasks; where several words are given, one of them must fit."""

    state: Sequence[State]
    task_type: Sequence[str]
    priority: Sequence[Priority]
    depends_on: str
    created_after: datetime
    created_before: datetime
    finished_after: datetime
    finished_before: datetime
    #: All of these, unlike the words above.
    tag: Sequence[str]
    #: The schedule that submitted them.
    schedule: str
    #: A part of the error's type or message.
    error: str
    #: Whether somebody dealt with the failure.
    resolved: bool


def plain(asked: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON, or a query, has it: times as text, tuples as lists."""
    return {name: _plain(value) for name, value in asked.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Unsendable(f"{value} has no zone: say which time is meant, such as datetime.now(UTC)")
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def query(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The same for an address, which has no words for true and false but these."""
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in plain(wanted).items()}
