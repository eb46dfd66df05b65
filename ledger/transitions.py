"""The verbs of an attempt, from the claim to its end, and of whoever takes its task away.

A verb is one guarded UPDATE that names the states it may leave, with the audit row in the same transaction. It answers
whether it won. A loss is normal: somebody else was first, and the row says who.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, or_, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, limits, moving, outbox, pauses, places
from ledger.callers import EVERYBODY, Caller, owned
from ledger.db import later
from ledger.models import tasks
from ledger.states import MOVES, WAITING, State
from ledger.tickets import Terms

NOW = db.NOW

#: A task counts as overtaken when a better one of its kind was ready for longer than this before it started.
INVERSION_MICROSECONDS = 200_000
#: Keeping a lease is no move, but guarded like one.
RENEWED = "renewed"
#: The guarded changes of which the ones that were lost are counted.
GUARDED = ("claimed", RENEWED, "decided", "finished", "retried", "given_up", "handed_back", "rolled_back")


@dataclass(frozen=True)
class Claim:
    """A won task: this attempt holds its row until it settles it or its lease runs out."""

    task_id: str
    attempt: int
    task_type: str
    queue: str
    parameters: dict[str, Any]
    retries: int
    max_retries: int
    timeout_seconds: int
    #: Where in a trace its task was submitted.
    trace: str | None = None
    #: Whom to tell of what becomes of it: that never changes.
    webhook: dict[str, Any] | None = None


def claim(
    task_id: str,
    attempt: int,
    *,
    worker: str,
    lease_seconds: float,
    terms: Terms | None = None,
    better_queues: Sequence[str] = (),
) -> Claim | None:
    """Take a queued task. None: it was stopped, somebody has it, the ticket is an old one, its time has run out, its
    queue is paused, or a limit has no place for it, for which it waits then.

    `terms` are those of the ticket; a task that was changed since has another ticket. It counts as an inversion when a
    task of the better queues is ready.
    """

    may, freely = _may_begin(terms)

    def take(connection: Connection, also: ColumnElement[bool]) -> bool:
        return moving.move(
            connection,
            "claimed",
            task_id,
            attempt=attempt - 1,
            values=begun(attempt, worker=worker, lease_seconds=lease_seconds),
            event_attempt=attempt,
            detail=claimant(worker),
            also=also,
        )

    def work(connection: Connection) -> Claim | None:
        won = take(connection, freely) or places.claim(
            connection, task_id, attempt, may=may, take=lambda: take(connection, may)
        )
        if won:
            return _claim_of(connection, task_id, attempt, better_queues)
        is_lost = not _still_waits(connection, task_id, attempt)
        _expire(connection, _expired().where(tasks.c.id == task_id, tasks.c.attempt == attempt - 1))
        pauses.give_back(connection, task_id, attempt)
        if is_lost:
            moving.count(connection, lost("claimed"), 1)
        return None

    return db.transact(work)


def claimant(worker: str) -> dict[str, Any]:
    """What the audit row of a claim says of whoever has won it: its worker, and this very process."""
    return {"worker": worker, "pid": os.getpid()}


def is_in_time() -> ColumnElement[bool]:
    """In a guard on `tasks`: it may still be claimed."""
    return or_(tasks.c.expires_at.is_(None), tasks.c.expires_at > NOW)


def begun(attempt: int, *, worker: str, lease_seconds: float) -> dict[str, Any]:
    """What a claim writes."""
    return {
        "attempt": attempt,
        "worker": worker,
        "lease_until": later(lease_seconds),
        "started_at": NOW,
        "due_at": None,
        "progress_done": None,
        "progress_total": None,
        "result": None,
    }


def _still_waits(connection: Connection, task_id: str, attempt: int) -> bool:
    """Whether a claim was only refused. Otherwise it came too late: the task is over, or somebody else's."""
    waits = select(tasks.c.id).where(
        tasks.c.id == task_id, tasks.c.state.in_(sorted(WAITING)), tasks.c.attempt == attempt - 1
    )
    return connection.execute(waits).first() is not None


def lost(move: str) -> str:
    """The running total of guarded moves that others had made impossible."""
    return f"lost_{move}"


@lru_cache
def _may_begin(terms: Terms | None) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """What a task must allow to be claimed, with limits on it and without."""
    on = [] if terms is None else [tasks.c.queue == terms.queue, tasks.c.timeout_seconds == terms.timeout_seconds]
    may = and_(is_in_time(), pauses.is_open(), *on)
    return may, and_(may, limits.IS_FREE)


def expire(limit: int = 500) -> int:
    """End the tasks that were not claimed within their time; answers how many."""

    def work(connection: Connection) -> int:
        return _expire(connection, _expired().order_by(tasks.c.expires_at).limit(limit))

    return db.transact(work)


def _expired() -> Select[Any]:
    waiting, out_of_time = tasks.c.state.in_(sorted(WAITING)), tasks.c.expires_at <= NOW
    return select(tasks.c.id, tasks.c.attempt).where(waiting, out_of_time).with_for_update(skip_locked=True)


def _expire(connection: Connection, which: Select[Any]) -> int:
    rows = connection.execute(which).all()
    values = {"finished_at": NOW, "due_at": None}
    moving.many(connection, "expired", rows, values=values, remark="was not started within its time")
    return len(rows)


#: What a claim reads.
CLAIMED = (
    tasks.c.task_type,
    tasks.c.queue,
    tasks.c.parameters,
    tasks.c.retries,
    tasks.c.max_retries,
    tasks.c.timeout_seconds,
    tasks.c.trace,
    tasks.c.webhook,
)


def _claim_of(connection: Connection, task_id: str, attempt: int, better_queues: Sequence[str]) -> Claim:
    asked = {"this": task_id, "better": list(better_queues)}
    *row, overtaken = connection.execute(_CLAIMED, asked).one()
    claim = Claim(task_id, attempt, *row)
    if claim.webhook:
        outbox.put(connection, MOVES["claimed"], [task_id])
    _note_inversion(connection, task_id, overtaken, better_queues)
    return claim


def count_inversion(connection: Connection, task_id: str, better_queues: Sequence[str]) -> bool:
    """Note when a task is started although a better one of its kind had been ready; True when it is so."""
    if not better_queues:
        return False
    overtaken = connection.execute(_OVERTAKEN, {"better": list(better_queues)}).scalar()
    return _note_inversion(connection, task_id, overtaken, better_queues)


def _note_inversion(
    connection: Connection, task_id: str, overtaken: str | None, better_queues: Sequence[str]
) -> bool:
    if overtaken:
        # The claim of who was told of first may be under way: that one is not overtaken.
        overtaken = connection.execute(_LEFT_BEHIND, {"better": list(better_queues)}).scalar()
    if overtaken:
        moving.count(connection, "inversions", 1)
        moving.note(connection, task_id, "inverted", f"started before the more urgent task {overtaken}")
    return overtaken is not None


_better = tasks.alias("better")
_OVERTAKEN = (
    select(_better.c.id)
    .where(
        _better.c.state == State.QUEUED,
        _better.c.queue.in_(bindparam("better", expanding=True)),
        _better.c.queue.not_in(pauses.quiet()),
        _better.c.dispatched_at < text(f"UTC_TIMESTAMP(6) - INTERVAL {INVERSION_MICROSECONDS} MICROSECOND"),
    )
    .limit(1)
)
#: The same among those that nobody is just claiming. The one that is found cannot be claimed or stopped until this
#: claim is on disk: a commit as a rule, and `db.SILENCE_SECONDS` when its process freezes just here.
_LEFT_BEHIND = _OVERTAKEN.with_for_update(skip_locked=True)
_CLAIMED = select(*CLAIMED, _OVERTAKEN.scalar_subquery()).where(tasks.c.id == bindparam("this"))


def renew(
    task_id: str, attempt: int, *, lease_seconds: float, done: int | None = None, total: int | None = None
) -> bool:
    """Keep the lease and tell the progress. A loss means: stopped, or taken over; do nothing more for this task."""
    values: dict[str, Any] = {"lease_until": later(lease_seconds), **_progress(done, total)}
    with db.transaction() as connection:
        result = connection.execute(
            update(tasks)
            .where(
                tasks.c.id == task_id,
                tasks.c.attempt == attempt,
                tasks.c.state.in_([State.RUNNING, State.COMMITTING]),
            )
            .values(**values)
        )
        if result.rowcount != 1:
            moving.count(connection, lost(RENEWED), 1)
    return result.rowcount == 1


def was_stopped(task_id: str, attempt: int) -> bool:
    """Whether a stop, and not a lost lease, took the task from this attempt."""
    with db.reading() as connection:
        state = connection.execute(
            select(tasks.c.state).where(tasks.c.id == task_id, tasks.c.attempt == attempt)
        ).scalar()
    return state in (State.REVOKING, State.REVOKED)


def join(task_id: str, attempt: int, database: str) -> bool:
    """Note that the attempt is about to begin a branch there: whoever cleans up after it has to know where to look."""

    def work(connection: Connection) -> bool:
        held = connection.execute(
            select(tasks.c.participants)
            .where(tasks.c.id == task_id, tasks.c.attempt == attempt, tasks.c.state == State.RUNNING)
            .with_for_update()
        ).first()
        if held is None:
            return False
        names = sorted({*(held.participants or ()), database})
        connection.execute(update(tasks).where(tasks.c.id == task_id).values(participants=names))
        return True

    return db.transact(work)


def begin_last_step(task_id: str, attempt: int, *, lease_seconds: float) -> bool:
    """Note that the attempt is about to take a step that must not be taken twice, such as the last byte of a mail.

    A loss means that it may not take it: the task is somebody else's. From here until its outcome is noted, whoever
    acts for a dead attempt knows that nobody knows it; before, that it was not taken.
    """
    with db.transaction() as connection:
        result = connection.execute(
            update(tasks)
            .where(tasks.c.id == task_id, tasks.c.attempt == attempt, tasks.c.state == State.COMMITTING)
            .values(last_step_at=NOW, lease_until=later(lease_seconds))
        )
    return result.rowcount == 1


def decide(
    task_id: str,
    attempt: int,
    *,
    databases: Sequence[str],
    result: Any,
    done: int | None = None,
    total: int | None = None,
) -> bool:
    """THE decision of two-phase commit. A loss means that nothing of this attempt may ever become true."""
    values = {"participants": list(databases), "result": result, **_progress(done, total)}
    return _won("decided", task_id, attempt=attempt, values=values)


def finish(
    task_id: str,
    attempt: int,
    *,
    result: Any = None,
    keep_result: bool = False,
    databases: Sequence[str] | None = None,
    done: int | None = None,
    total: int | None = None,
    remark: str | None = None,
    expired_only: bool = False,
    has_webhook: bool = True,
) -> bool:
    """Success. `keep_result` leaves what the decision recorded. `databases` are those that hold rows of this attempt:
    an earlier one may have begun branches elsewhere. `expired_only` is for those who act for a silent attempt. Whoever
    knows that the task has no webhook spares a look."""
    values: dict[str, Any] = {**ended(), **_progress(done, total)}
    if not keep_result:
        values["result"] = result
    if databases is not None:
        values["participants"] = list(databases)
    also = _EXPIRED if expired_only else None
    return _won(
        "finished", task_id, attempt=attempt, values=values, remark=remark, also=also, has_webhook=has_webhook
    )


def ended() -> dict[str, Any]:
    """What every success writes."""
    return {"error": None, "lease_until": None, "finished_at": NOW}


def _progress(done: int | None, total: int | None) -> dict[str, int | None]:
    return {} if done is None else {"progress_done": done, "progress_total": total}


def retry(
    task_id: str,
    attempt: int,
    *,
    after_seconds: float,
    error: dict[str, Any],
    remark: str,
    expired_only: bool = False,
    in_last_step: bool = False,
) -> bool:
    """The attempt failed and another follows. `expired_only` is for those who act for a silent attempt; they say
    whether they found it in its last step."""
    return _won(
        "retried",
        task_id,
        attempt=attempt,
        values={
            "retries": tasks.c.retries + 1,
            "due_at": later(after_seconds),
            "error": error,
            "result": None,
            **LET_GO,
        },
        remark=remark,
        detail=error,
        also=_may_fail(expired_only, in_last_step),
    )


def give_up(
    task_id: str,
    attempt: int,
    *,
    error: dict[str, Any],
    remark: str,
    expired_only: bool = False,
    in_last_step: bool = False,
) -> bool:
    """The task failed for good."""
    return _won(
        "given_up",
        task_id,
        attempt=attempt,
        values={"error": error, "result": None, "finished_at": NOW, "lease_until": None},
        remark=remark,
        detail=error,
        also=_may_fail(expired_only, in_last_step),
    )


def hand_back(task_id: str, attempt: int, *, remark: str) -> bool:
    """The worker leaves: the task is queued again, and no retry is used up."""
    return _won("handed_back", task_id, attempt=attempt, values=dict(LET_GO), remark=remark)


@dataclass(frozen=True)
class Moved:
    """What a stop found, and what it made of it."""

    before: State
    now: State
    attempt: int
    task_type: str


def stop(
    task_id: str, *, remark: str, seen_at: datetime | None = None, caller: Caller = EVERYBODY
) -> Moved | None:
    """Take a task back; None when there is no such task. Raises moving.Stale when its row moved after `seen_at`.

    Equal states mean that the stop came too late, or a second time, and changed nothing.
    """

    def work(connection: Connection) -> Moved | None:
        row = connection.execute(
            select(tasks.c.state, tasks.c.attempt, tasks.c.task_type, tasks.c.updated_at)
            .where(tasks.c.id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None:
            return None
        if seen_at is not None and row.updated_at != seen_at:
            raise moving.Stale
        before, attempt = State(row.state), row.attempt
        if before in WAITING:
            undone = {"rows_undone": 0, "rows_remaining": 0}
            values = {"finished_at": NOW, "due_at": None, "undone": undone}
            moving.move(connection, "stopped", task_id, values=values, event_attempt=attempt, remark=remark)
            return Moved(before, State.REVOKED, attempt, row.task_type)
        if before is State.RUNNING:
            moving.move(connection, "stopping", task_id, values={}, event_attempt=attempt, remark=remark)
            return Moved(before, State.REVOKING, attempt, row.task_type)
        return Moved(before, before, attempt, row.task_type)

    return db.transact(work)


def rolled_back(task_id: str, attempt: int, *, undone: dict[str, Any], remark: str | None = None) -> bool:
    """The stopped attempt's work is physically gone."""
    return _won(
        "rolled_back",
        task_id,
        attempt=attempt,
        values={"undone": undone, "finished_at": NOW, "lease_until": None, "result": None},
        remark=remark,
        detail=undone,
    )


def remark(task_id: str, event: str, words: str, *, detail: Any = None) -> None:
    """Say something about a task without moving it."""

    def work(connection: Connection) -> None:
        moving.note(connection, task_id, event, words, detail=detail)

    db.transact(work)


def count(name: str, by: int) -> None:
    """Add to a running total."""

    def work(connection: Connection) -> None:
        moving.count(connection, name, by)

    db.transact(work)


def _won(
    name: str,
    task_id: str,
    *,
    attempt: int,
    values: dict[str, Any],
    remark: str | None = None,
    detail: Any = None,
    also: ColumnElement[bool] | None = None,
    has_webhook: bool = True,
) -> bool:
    def work(connection: Connection) -> bool:
        won = moving.move(
            connection,
            name,
            task_id,
            attempt=attempt,
            values=values,
            remark=remark,
            detail=detail,
            also=also,
            has_webhook=has_webhook,
        )
        if not won:
            moving.count(connection, lost(name), 1)
        return won

    return db.transact(work)


#: What a task loses when its attempt ends and another is to come.
LET_GO: dict[str, Any] = {"lease_until": None, "worker": None, "dispatched_at": None, "last_step_at": None}

_EXPIRED = or_(tasks.c.lease_until.is_(None), tasks.c.lease_until < NOW)

#: Once a decision covers databases, the task succeeds: whoever saw its worker die may not try it again.
_NOT_BOUND = or_(tasks.c.state != State.COMMITTING, func.json_length(tasks.c.participants) == 0)


def _may_fail(expired_only: bool, in_last_step: bool) -> ColumnElement[bool]:
    if not expired_only:
        return _NOT_BOUND
    # It may have begun its last step since it was looked at.
    step = tasks.c.last_step_at.is_not(None) if in_last_step else tasks.c.last_step_at.is_(None)
    return and_(_NOT_BOUND, _EXPIRED, step)
