"""Remarks that explain a wait: written once for each new cause, and only while the task still is where it was seen."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from ledger import db, trail
from ledger.models import events, tasks
from ledger.states import State
from ledger.trail import Event

#: The event of such a remark.
EXPLAINED = "explained"


@dataclass(frozen=True)
class Wait:
    """Where a task was seen, and the code of what it waits for there."""

    task_id: str
    state: State
    attempt: int
    cause: str


def told(task_ids: Collection[str]) -> set[Wait]:
    """The last explanation of each of these tasks that has one."""
    with db.reading() as connection:
        return _told(connection, task_ids)


def explain(wait: Wait, words: str) -> bool:
    """Write the remark; False when the task has moved, is being moved, or was told this already."""

    def work(connection: Connection) -> bool:
        still_there = (
            select(tasks.c.id)
            .where(tasks.c.id == wait.task_id, tasks.c.state == wait.state, tasks.c.attempt == wait.attempt)
            .with_for_update(skip_locked=True)
        )
        if connection.execute(still_there).first() is None or wait in _told(connection, [wait.task_id]):
            return False
        event = Event(wait.task_id, EXPLAINED, wait.state, wait.attempt, words, {"cause": wait.cause})
        trail.write(connection, [event])
        return True

    return db.transact(work)


def _told(connection: Connection, task_ids: Collection[str]) -> set[Wait]:
    rows = connection.execute(
        select(events.c.task_id, events.c.state, events.c.attempt, events.c.detail)
        .where(events.c.task_id.in_(sorted(task_ids)), events.c.event == EXPLAINED)
        .order_by(events.c.seq)
    )
    last: dict[str, Wait] = {row.task_id: _wait_of(row) for row in rows}
    return set(last.values())


def _wait_of(row: Any) -> Wait:
    return Wait(row.task_id, State(row.state), row.attempt, row.detail["cause"])
