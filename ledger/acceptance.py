"""Writes tasks down that clients have submitted: when this has answered they are on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, text

import failpoints
from ledger import db, deliveries, dependents, firings, idempotency, quotas, tags
from ledger.callers import EVERYBODY, Caller
from ledger.firings import Firing
from ledger.idempotency import Once
from ledger.models import events, tasks
from ledger.states import State

NOW = db.NOW


@dataclass(frozen=True)
class NewTask:
    """What `accept` writes. `delay_seconds` and `run_at` (aware, UTC) exclude each other."""

    task_id: str
    task_type: str
    priority: str
    queue: str
    parameters: dict[str, Any]
    max_retries: int
    timeout_seconds: int
    delay_seconds: float = 0
    run_at: datetime | None = None
    #: When it has not been claimed within this time it expires.
    expires_in_seconds: float | None = None
    depends_on: tuple[str, ...] = ()
    on_parent_failure: str = dependents.FAIL
    #: Mails that it sends, for the quota of its owner.
    mails: int = 0
    #: Whom to tell of what becomes of it: {"url": ..., "events": [...]}.
    webhook: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    #: The schedule that submits it.
    firing: Firing | None = None
    #: Where in a trace it is submitted.
    trace: str | None = None

    @property
    def state(self) -> State:
        """What it begins in when nothing keeps it from starting but its time."""
        return State.SCHEDULED if self.delay_seconds > 0 or self.run_at else State.QUEUED


def accept(new: Sequence[NewTask], *, caller: Caller = EVERYBODY, once: Once | None = None) -> list[State]:
    """Write a caller's tasks down, all or none. When this returns they are on disk; it answers with their states.

    Raises dependents.UnknownParents, dependents.Circle, quotas.OverQuota and what `deliveries.check` raises before
    anything is written, and idempotency.AlreadyTaken when the key of `once` was used before.
    """

    def work(connection: Connection) -> list[State]:
        if once is not None:
            idempotency.take(connection, once, [task.task_id for task in new])
        if urls := {task.webhook["url"] for task in new if task.webhook}:
            deliveries.check(connection, urls, caller=caller)
        return accept_within(connection, new, caller=caller)

    return db.transact(work)


def accept_within(connection: Connection, new: Sequence[NewTask], *, caller: Caller) -> list[State]:
    """The same as a part of a larger transaction, which must not go on when this raises. Whether webhooks could be told
    anything is not asked here: that is for those who may do something about it."""
    quotas.take(connection, caller, number=len(new), mails=sum(task.mails for task in new))
    waits = {task.task_id: task.depends_on for task in new}
    states = dependents.hold(connection, waits, caller=caller) if any(waits.values()) else {}
    begun = [_begins_as(task, states) for task in new]
    _write(connection, [_row_of(task, state, caller.owner) for task, state in zip(new, begun, strict=True)])
    connection.execute(
        _EVENT,
        [
            {"task_id": task.task_id, "event": "accepted", "state": state, "attempt": 0}
            for task, state in zip(new, begun, strict=True)
        ],
    )
    dependents.tie(connection, waits)
    tags.attach(connection, {task.task_id: task.tags for task in new}, owner=caller.owner)
    firings.note(connection, [(task.task_id, task.firing) for task in new if task.firing], owner=caller.owner)
    failpoints.reach("f2")
    return [_spoilt(connection, task, states) or state for task, state in zip(new, begun, strict=True)]


def _begins_as(task: NewTask, parents: Mapping[str, State]) -> State:
    done = all(dependents.lets_begin(parents[each], task.on_parent_failure) for each in task.depends_on)
    return task.state if done else State.BLOCKED


def _spoilt(connection: Connection, task: NewTask, parents: Mapping[str, State]) -> State | None:
    """End a task at once whose parent has failed already; whoever submitted it learns of that as of any failure."""
    for each in task.depends_on:
        if dependents.spoils(parents[each], task.on_parent_failure):
            row = connection.execute(select(tasks.c.id, tasks.c.attempt).where(tasks.c.id == task.task_id)).one()
            dependents.fail(connection, [row], parent=each, state=parents[each])
            return State.FAILED
    return None


def _write(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """What none of them has is left out: Python puts each value of each row into the statement."""
    unused = {name for name in rows[0] if all(row[name] is None for row in rows)}
    statement = _ACCEPT
    if not unused >= _TIMES:
        statement, unused = _ACCEPT_WITH_TIMES, unused - _TIMES
    connection.execute(statement, [{name: row[name] for name in row if name not in unused} for row in rows])


_EVENT = insert(events).values(at=NOW)
_ACCEPT = insert(tasks).values(created_at=NOW, updated_at=NOW)
#: What of a row says when, all relative to now.
_TIMES = {"delay", "run_at", "expires_in"}
_ACCEPT_WITH_TIMES = _ACCEPT.values(
    due_at=func.coalesce(
        bindparam("run_at"),
        text("IF(:delay > 0, UTC_TIMESTAMP(6) + INTERVAL :delay * 1000000 MICROSECOND, NULL)"),
    ),
    expires_at=text("UTC_TIMESTAMP(6) + INTERVAL :expires_in * 1000000 MICROSECOND"),
)


def _row_of(task: NewTask, state: State, owner: str) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "owner": owner,
        "task_type": task.task_type,
        "priority": task.priority,
        "queue": task.queue,
        "state": state,
        "parameters": task.parameters,
        "tags": list(task.tags) or None,
        "max_retries": task.max_retries,
        "timeout_seconds": task.timeout_seconds,
        "delay": task.delay_seconds or None,
        "run_at": task.run_at.replace(tzinfo=None) if task.run_at else None,
        "expires_in": task.expires_in_seconds,
        "on_parent_failure": task.on_parent_failure,
        "webhook": task.webhook,
        "trace": task.trace,
    }
