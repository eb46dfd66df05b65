"""What a stop answered, beside what was there at that moment and what came of the task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from ledger.models import marker
from tests.system.books import Books
from tests.system.reader import sizes_of
from tests.system.service import Service

#: What each verdict says of the state in which the task ends.
ENDS = {
    "stopped_before_start": "revoked",
    "rolled_back": "revoked",
    "stopping": "revoked",
    "too_late_committed": "succeeded",
    "already_finished": "succeeded",
}
#: Verdicts about a task that an attempt was at.
OF_THE_RUNNING = frozenset({"rolled_back", "stopping", "too_late_committed"})


@dataclass(frozen=True)
class Answer:
    task_id: str
    body: Mapping[str, Any]
    #: By the wall clock, which here is the databases' too.
    sent_at: float
    seconds: float
    #: Rows of the task in each database that everybody saw right after the answer; None where nobody could look.
    rows: Mapping[str, int] | None
    #: Whether a branch of it was still there.
    is_being_written: bool

    @property
    def verdict(self) -> str:
        return str(self.body["verdict"])


def stop(service: Service, books: Books, task_id: str, *, is_alone: bool = False) -> Answer | None:
    """Stop a task and see at once what is there; None when no verdict came. If the task is alone all rows are its."""
    sent_at, began = time.time(), time.monotonic()
    try:
        answer = service.ask("POST", f"/api/tasks/{task_id}/stop")
    except requests.RequestException:
        return None
    seconds = time.monotonic() - began
    if answer.status_code not in (200, 202, 409):
        return None
    body = answer.json()
    try:
        rows = {name: books.count(name) if is_alone else marked(books, task_id, name) for name in books.databases}
        is_being_written = books.is_being_written(task_id)
    except DBAPIError:
        return Answer(task_id, body, sent_at, seconds, None, False)
    return Answer(task_id, body, sent_at, seconds, rows, is_being_written)


def marked(books: Books, task_id: str, database: str) -> int:
    """Rows of which a visible marker speaks. That it speaks the truth is for the invariants to say."""
    with books.databases[database].connect() as connection:
        found = connection.execute(select(marker.c.changed_rows).where(marker.c.task_id == task_id)).scalar()
    return int(found or 0)


def contradictions(answer: Answer, books: Books) -> Iterator[str]:
    """Everything that does not fit, now that the task has ended."""
    task, said = books.task(answer.task_id), f"task {answer.task_id} was told {dict(answer.body)}"
    meant = sizes_of(task, books.databases)
    if task.state != ENDS[answer.verdict]:
        yield f"{said}, but is {task.state}"
    for name, rows in meant.items():
        then, now = (answer.rows or {}).get(name), marked(books, answer.task_id, name)
        if then is not None and then not in _possible(answer.verdict, rows):
            yield f"{said}, but {name} had {then} rows of it at that moment"
        if now != (0 if ENDS[answer.verdict] == "revoked" else rows):
            yield f"{said}, but {name} has {now} rows of it now"
    if answer.verdict == "rolled_back":
        if answer.is_being_written:
            yield f"{said}, but was still being undone"
        undone = answer.body.get("rows_undone")
        if undone is None or not 0 <= undone <= sum(meant.values()):
            yield f"{said}, but it could have written {sum(meant.values())} rows"
    if answer.body.get("rows_remaining") not in _REMAINING.get(answer.verdict, {None}):
        yield f"{said}, which counts other rows than remain"


#: What `rows_remaining` may say.
_REMAINING: Mapping[str, set[int | None]] = {"rolled_back": {0}, "stopped_before_start": {0}}


def _possible(verdict: str, rows: int) -> set[int]:
    """How many rows of a task may be there when this has been said."""
    return {"already_finished": {rows}, "too_late_committed": {0, rows}}.get(verdict, {0})
