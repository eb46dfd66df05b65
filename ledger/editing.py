"""Changes of a task that waits: its priority, its time, its retries and its time limit.

A ticket names the queue and the time limit that it was sent with, and a claim asks for both: after a change the older
ticket wins nothing, wherever it still lies, and the new one is sent like that of a fresh task.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from ledger import db, moving, places, tickets
from ledger.callers import EVERYBODY, Caller, owned
from ledger.db import later
from ledger.models import tasks
from ledger.states import WAITING, State
from ledger.tickets import Ticket


@dataclass(frozen=True)
class Change:
    """What is to be changed; None leaves a thing as it is. `delay_seconds` and `run_at` (aware, UTC) exclude each
    other."""

    priority: str | None = None
    #: The queue of that priority.
    queue: str | None = None
    delay_seconds: float | None = None
    run_at: datetime | None = None
    max_retries: int | None = None
    timeout_seconds: int | None = None

    def told(self) -> dict[str, Any]:
        """For the audit row."""
        run_at = self.run_at.isoformat() if self.run_at else None
        return {name: value for name, value in {**vars(self), "run_at": run_at}.items() if value is not None}


@dataclass(frozen=True)
class Edit:
    """What came of it: the state that the task is in, whether it was changed, and a ticket that is to be sent."""

    state: State
    won: bool
    ticket: Ticket | None = None


def edit(
    task_id: str, change: Change, *, remark: str, seen_at: datetime | None = None, caller: Caller = EVERYBODY
) -> Edit | None:
    """Change a waiting task; None when there is no such task for this caller.

    `seen_at` is the row's `updated_at` as the caller knows it; raises moving.Stale when it moved since.
    """

    def work(connection: Connection) -> Edit | None:
        row = connection.execute(
            select(tasks.c.state, tasks.c.attempt, tasks.c.queue, tasks.c.updated_at)
            .where(tasks.c.id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None:
            return None
        state = State(row.state)
        if seen_at is not None and row.updated_at != seen_at:
            raise moving.Stale
        if state not in WAITING:
            return Edit(state, won=False)
        return _change(connection, task_id, row, change, remark)

    return db.transact(work)


def _change(connection: Connection, task_id: str, row: Any, change: Change, remark: str) -> Edit:
    state, attempt = State(row.state), row.attempt
    values, told = _values(change), change.told()
    if change.priority is not None:
        places.change_priority(connection, task_id, change.priority)
    is_ready = state in (State.QUEUED, State.THROTTLED)
    if is_ready and (change.delay_seconds or change.run_at):
        values |= {"dispatched_at": None}
        moving.move(
            connection, "postponed", task_id, values=values, event_attempt=attempt, remark=remark, detail=told
        )
        return Edit(State.SCHEDULED, won=True)
    is_elsewhere = change.queue is not None and change.queue != row.queue
    needs_ticket = state is State.QUEUED and bool(is_elsewhere or change.timeout_seconds)
    if is_ready:
        values.pop("due_at", None)
    if needs_ticket:
        values |= {"dispatched_at": None}
    moving.change(connection, task_id, state, attempt, values=values, remark=remark, detail=told)
    return Edit(state, won=True, ticket=_ticket(connection, task_id) if needs_ticket else None)


def _values(change: Change) -> dict[str, Any]:
    values = {
        "priority": change.priority,
        "queue": change.queue,
        "max_retries": change.max_retries,
        "timeout_seconds": change.timeout_seconds,
        "due_at": _due_at(change),
    }
    return {name: value for name, value in values.items() if value is not None}


def _due_at(change: Change) -> Any:
    if change.run_at is not None:
        return change.run_at.replace(tzinfo=None)
    return None if change.delay_seconds is None else later(change.delay_seconds)


def _ticket(connection: Connection, task_id: str) -> Ticket:
    return tickets.of(connection.execute(select(*tickets.COLUMNS).where(tasks.c.id == task_id)).one())
