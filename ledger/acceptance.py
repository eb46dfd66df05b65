"""Writes tasks down that clients have submitted: when this has answered they are on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

import failpoints
from ledger import db, deliveries, dependents, firings, idempotency, quotas, rows, tags, trail
from ledger.callers import EVERYBODY, Caller
from ledger.firings import Firing
from ledger.idempotency import Once
from ledger.models import tasks
from ledger.states import State
from ledger.trail import Event

NOW = db.NOW


class NewTask(NamedTuple):
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
    written = [_row_of(task, state, caller.owner) for task, state in zip(new, begun, strict=True)]
    rows.put(connection, tasks, _COLUMNS, written)
    told = [Event(task.task_id, "accepted", state, 0) for task, state in zip(new, begun, strict=True)]
    trail.write(connection, told)
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


#: What stands in each column of a new row, in the order of `_row_of`.
_COLUMNS = {
    **dict.fromkeys(("id", "owner", "task_type", "priority", "queue", "state"), "%s"),
    **dict.fromkeys(("max_retries", "timeout_seconds", "on_parent_failure", "trace"), "%s"),
    **dict.fromkeys(("parameters", "tags", "webhook"), "%s"),
    "due_at": f"COALESCE(%s, {NOW.text} + INTERVAL %s MICROSECOND)",
    "expires_at": f"{NOW.text} + INTERVAL %s MICROSECOND",
    "created_at": NOW.text,
    "updated_at": NOW.text,
}


def _row_of(task: NewTask, state: State, owner: str) -> tuple[Any, ...]:
    return (
        task.task_id,
        owner,
        task.task_type,
        task.priority,
        task.queue,
        state,
        task.max_retries,
        task.timeout_seconds,
        task.on_parent_failure,
        task.trace,
        rows.as_json(task.parameters),
        rows.as_json(list(task.tags) or None),
        rows.as_json(task.webhook),
        task.run_at.replace(tzinfo=None) if task.run_at else None,
        _microseconds(task.delay_seconds or None),
        _microseconds(task.expires_in_seconds),
    )


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)
