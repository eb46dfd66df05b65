"""What a route says of itself, beside the route: what it takes and what it answers.

    @blueprint.post("")
    @describe({202: answers.Accepted}, body=schemas.SubmitBody, headers=["Prefer"])
    def create() -> Response:
        ...

`api.openapi` makes the document of it; a route that says nothing fails a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Media:
    """A body that is no JSON."""

    kind: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Described:
    answers: Mapping[int, Any]
    body: Any = None
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    faults: frozenset[int] = frozenset()
    deprecated: frozenset[str] = frozenset()
    needs_ledger: bool = True


def describe(
    answers: Mapping[int, Any],
    *,
    body: Any = None,
    query: type[BaseModel] | None = None,
    headers: Iterable[str] = (),
    faults: Iterable[int] = (),
    deprecated: Iterable[str] = (),
    needs_ledger: bool = True,
) -> Callable[[View], View]:
    """Say what a route takes and answers; its docstring says what it does.

    Args:
        answers: for each status of success the type of the body (a TypedDict, a model, a `Media`), None without one.
        body: the model that checks the JSON body, or a `Media`.
        query: the model that checks the query.
        headers: names of request headers that it heeds, out of `REQUEST_HEADERS`.
        faults: statuses of its own problems, besides those that follow from the rest (404 of an unknown id, 422 of a
            wrong body and so on).
        deprecated: methods of it that new clients should not use.
        needs_ledger: whether it answers 503 while the database is away.
    """
    said = Described(
        answers, body, query, tuple(headers), frozenset(faults), frozenset(deprecated), needs_ledger=needs_ledger
    )

    def note(view: View) -> View:
        vars(view)["described"] = said
        return view

    return note


def description_of(view: Callable[..., Any]) -> Described | None:
    found = vars(view).get("described")
    return found if isinstance(found, Described) else None


#: What a part of a path may be, by the name that it has in the route.
PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "task_id": {
        "description": "The task's id, as the submission answered it",
        "schema": {"type": "string", "format": "uuid", "examples": ["019aa5c0-0000-7000-8000-000000000001"]},
    },
    "schedule_id": {
        "description": "The schedule's id, as its creation answered it",
        "schema": {"type": "string", "format": "uuid", "examples": ["019aa5c0-0000-7000-8000-000000000001"]},
    },
    "queue": {
        "description": "A queue, or a kind of worker for all of its queues",
        "schema": {"type": "string", "examples": ["data.low", "data"]},
    },
    "subject": {
        "description": "What the limit is of",
        "schema": {"type": "string", "enum": ["type", "owner"]},
    },
    "whose": {
        "description": "The task type, or the owner",
        "schema": {"type": "string", "examples": ["bulk_insert", "ada"]},
    },
    "key_id": {
        "description": "The 8 characters after `sluice_` in the key",
        "schema": {"type": "string", "examples": ["a1b2c3d4"]},
    },
    "seq": {
        "description": "The event's number, as the deliveries and the history tell it",
        "schema": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "examples": [42]},
    },
    "secret_id": {
        "description": "The secret's id, as the answer that made it told",
        "schema": {"type": "string", "examples": ["a1b2c3d4"]},
    },
    "num": {
        "description": "How many rows",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1_000_000, "examples": [100_000]},
    },
    "name": {
        "description": "A plain file name",
        "schema": {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
            "examples": ["your_file.txt"],
        },
    },
    "page_file": {
        "description": "A file of the page",
        "schema": {"type": "string", "examples": ["docs.css"]},
    },
}

REQUEST_HEADERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "A word of your own, such as a UUID, in quotes or without: with the same key and body the "
        "request may be sent again within 24 hours, and is accepted once",
        "schema": {
            "type": "string",
            "pattern": r'^("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]{1,255})$',
            "examples": ['"8e03978e-40d5-43e8-bc93-6894a57f9324"'],
        },
    },
    "If-Match": {
        "description": "The `ETag` of an answer before: 412 when the task has changed since",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "The `ETag` of an answer before: 304 when nothing has changed since",
        "schema": {"type": "string"},
    },
    "Last-Event-ID": {
        "description": "The id of the last event that was received",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**15},
    },
    "Prefer": {
        "description": "How long to wait for the outcome, at most 30 seconds (RFC 7240)",
        "schema": {"type": "string", "examples": ["wait=10"]},
    },
}
