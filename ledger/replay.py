"""What an operator does about a task that is over: run it again, or note that it has been dealt with.

A replay is the one way out of an end, and only out of one without effects: `failed`, `revoked` and `expired`. The task
keeps its id and goes on counting attempts; its retries are counted anew. What makes this safe is that the number of the
attempt never goes back:

  - Whoever still works on an earlier attempt, frozen since before the task ended, can win no move: each guard names
    the attempt.
  - A branch that an earlier attempt left prepared is rolled back whatever the task is doing, because the resolver
    commits only the branch of the row's own attempt, and only once that is decided.
  - An unprepared one holds the task's named lock, for which the next attempt waits before it begins its own; and the
    marker row lets a second attempt commit on no database on which another did.
  - A ticket from before the replay asks for the same attempt as the new one; the second of them loses the claim.

So the row forgets on which databases earlier attempts were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, exists, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, dependents, moving, tickets, trail
from ledger.callers import EVERYBODY, Caller, owned
from ledger.db import NOW
from ledger.filters import Filter
from ledger.models import dependencies, tasks
from ledger.states import MOVES, State
from ledger.tickets import Ticket
from ledger.trail import Event

#: Tasks that one call takes at most: it is one transaction.
MOST_AT_ONCE = 1_000

#: Failures, and whatever else ended without anybody wanting it.
RESOLVABLE = frozenset({State.FAILED})

#: The states of which a replay takes tasks.
LEAVES = sorted(MOVES["replayed"].leaves)


@dataclass(frozen=True)
class Replayed:
    """`tickets` are the caller's to send; what it does not send, the monitor does."""

    tickets: Sequence[Ticket]
    more: bool


def replay(
    task_id: str, *, by: str, note: str = "", caller: Caller = EVERYBODY
) -> tuple[State, Ticket | None] | None:
    """Queue a task again. Answers the state that it was in, with its ticket unless that state is no end to replay;
    None when there is no such task. What it depends on is not asked: this is the caller's own decision."""

    def work(connection: Connection) -> tuple[State, Ticket | None] | None:
        row = connection.execute(
            select(*tickets.COLUMNS, tasks.c.state)
            .where(tasks.c.id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None:
            return None
        if row.state not in LEAVES:
            return State(row.state), None
        _replay(connection, [row], by=by, note=note)
        return State(row.state), tickets.of(row)

    return db.transact(work)


def replay_many(wanted: Filter, *, by: str, note: str = "", caller: Caller = EVERYBODY) -> Replayed:
    """Queue the tasks that fit again, the oldest first and at most MOST_AT_ONCE; those among them that are no end to
    replay, that depend on others which have not succeeded, or that somebody else is just moving, are passed over."""

    def work(connection: Connection) -> Replayed:
        rows = connection.execute(
            select(*tickets.COLUMNS, tasks.c.state)
            .where(*_replayable(wanted, caller=caller))
            .order_by(tasks.c.id)
            .limit(MOST_AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        if rows:
            _replay(connection, rows, by=by, note=note)
        rest = connection.execute(select(tasks.c.id).where(*_replayable(wanted, caller=caller)).limit(1)).first()
        return Replayed([tickets.of(row) for row in rows], rest is not None)

    return db.transact(work)


def count_replayable(wanted: Filter, *, caller: Caller = EVERYBODY) -> int:
    """How many tasks `replay_many` would take, call after call."""
    with db.reading() as connection:
        return connection.execute(
            select(func.count()).select_from(tasks).where(*_replayable(wanted, caller=caller))
        ).scalar_one()


def _replayable(wanted: Filter, *, caller: Caller) -> list[Any]:
    return [*wanted.conditions(), owned(caller), tasks.c.state.in_(LEAVES), ~_waits()]


def _waits() -> ColumnElement[bool]:
    """Whether a task depends on one that keeps it from starting. A parent that succeeded stays so."""
    parent = tasks.alias("parent")
    tied = and_(dependencies.c.child == tasks.c.id, parent.c.id == dependencies.c.parent)
    return exists().where(tied, dependents.keeps_waiting(tasks, parent)).correlate(tasks)


def _replay(connection: Connection, rows: Sequence[Any], *, by: str, note: str) -> None:
    """The rows are locked, in one of the states that the move leaves."""
    words, detail = _said("replayed", by, note), {"by": by, "note": note}
    moving.many(connection, "replayed", rows, values=_AS_NEW, remark=words, detail=detail)


#: What a replayed task does not take along. Its events still tell all of it.
_AS_NEW: dict[str, Any] = dict.fromkeys(
    (
        *("due_at", "expires_at", "dispatched_at", "worker", "lease_until", "last_step_at"),
        *("progress_done", "progress_total"),
        *("participants", "result", "error", "undone", "finished_at"),
        *("resolved_at", "resolved_by", "resolved_note"),
    )
) | {"retries": 0}


def resolve(task_id: str, *, by: str, note: str, caller: Caller = EVERYBODY) -> State | None:
    """Note that a failure has been dealt with; its state stays. Answers the state, None when there is no such task;
    nothing is noted of a task that has not failed."""

    def work(connection: Connection) -> State | None:
        row = connection.execute(
            select(tasks.c.state, tasks.c.attempt)
            .where(tasks.c.id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None or row.state not in RESOLVABLE:
            return row and State(row.state)
        connection.execute(
            update(tasks)
            .where(tasks.c.id == task_id)
            .values(resolved_at=NOW, resolved_by=by, resolved_note=note)
        )
        words, detail = _said("resolved", by, note), {"by": by, "note": note}
        trail.write(connection, [Event(task_id, "resolved", State(row.state), row.attempt, words, detail)])
        return State(row.state)

    return db.transact(work)


def _said(what: str, by: str, note: str) -> str:
    return f"{what} by {by}: {note}" if note else f"{what} by {by}"
