"""The verbs of the ledger: every change of a task's state is one of these.

A verb is one guarded UPDATE that names the states it may leave, with the audit row in the same transaction. It answers
whether it won. A loss is normal: somebody else was first, and the row says who.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

import failpoints
from ledger import (
    db,
    deliveries,
    dependents,
    firings,
    idempotency,
    limits,
    moving,
    outbox,
    pauses,
    places,
    quotas,
    tags,
    tickets,
)
from ledger.callers import EVERYBODY, Caller, owned
from ledger.db import later
from ledger.firings import Firing
from ledger.idempotency import Once
from ledger.models import events, tasks
from ledger.states import MOVES, WAITING, State
from ledger.tickets import Place, Terms, Ticket

NOW = db.NOW

#: A task counts as overtaken when a better one of its kind was ready for longer than this before it started.
INVERSION_MICROSECONDS = 200_000
#: Keeping a lease is no move, but guarded like one.
RENEWED = "renewed"
#: The guarded changes of which the ones that were lost are counted.
GUARDED = ("claimed", RENEWED, "decided", "finished", "retried", "given_up", "handed_back", "rolled_back")


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
    rows = [_row_of(task, state, caller.owner) for task, state in zip(new, begun, strict=True)]
    connection.execute(_ACCEPT, rows)
    connection.execute(
        insert(events).values(at=NOW),
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


_ACCEPT = insert(tasks).values(
    created_at=NOW,
    updated_at=NOW,
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
        "delay": task.delay_seconds,
        "run_at": task.run_at.replace(tzinfo=None) if task.run_at else None,
        "expires_in": task.expires_in_seconds,
        "on_parent_failure": task.on_parent_failure,
        "webhook": task.webhook,
        "trace": task.trace,
    }


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

    may = and_(is_in_time(), pauses.is_open(), *_on(terms))

    def take(connection: Connection, also: ColumnElement[bool]) -> bool:
        return moving.move(
            connection,
            "claimed",
            task_id,
            attempt=attempt - 1,
            values=begun(attempt, worker=worker, lease_seconds=lease_seconds),
            event_attempt=attempt,
            detail={"worker": worker},
            also=also,
        )

    def work(connection: Connection) -> Claim | None:
        won = take(connection, and_(may, limits.IS_FREE)) or places.claim(
            connection, task_id, attempt, may=may, take=lambda: take(connection, may)
        )
        if won:
            count_inversion(connection, task_id, better_queues)
            return _claim_of(connection, task_id, attempt)
        is_lost = not _still_waits(connection, task_id, attempt)
        _expire(connection, _expired().where(tasks.c.id == task_id, tasks.c.attempt == attempt - 1))
        pauses.give_back(connection, task_id, attempt)
        if is_lost:
            moving.count(connection, lost("claimed"), 1)
        return None

    return db.transact(work)


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


def _on(terms: Terms | None) -> list[ColumnElement[bool]]:
    if terms is None:
        return []
    return [tasks.c.queue == terms.queue, tasks.c.timeout_seconds == terms.timeout_seconds]


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


def _claim_of(connection: Connection, task_id: str, attempt: int) -> Claim:
    row = connection.execute(select(*CLAIMED, tasks.c.webhook).where(tasks.c.id == task_id)).one()
    if row.webhook:
        outbox.put(connection, MOVES["claimed"], [task_id])
    return Claim(task_id, attempt, *row[:-1])


#: What a claim reads.
CLAIMED = (
    tasks.c.task_type,
    tasks.c.queue,
    tasks.c.parameters,
    tasks.c.retries,
    tasks.c.max_retries,
    tasks.c.timeout_seconds,
    tasks.c.trace,
)


def count_inversion(connection: Connection, task_id: str, better_queues: Sequence[str]) -> bool:
    """Note when a task is started although a better one of its kind had been ready; True when it is so."""
    if not better_queues:
        return False
    overtaken = connection.execute(
        select(tasks.c.id)
        .where(
            tasks.c.state == State.QUEUED,
            tasks.c.queue.in_(better_queues),
            tasks.c.queue.not_in(pauses.quiet()),
            tasks.c.dispatched_at < text(f"UTC_TIMESTAMP(6) - INTERVAL {INVERSION_MICROSECONDS} MICROSECOND"),
        )
        .limit(1)
    ).scalar()
    if overtaken:
        moving.count(connection, "inversions", 1)
        moving.note(connection, task_id, "inverted", f"started before the more urgent task {overtaken}")
    return overtaken is not None


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
) -> bool:
    """Success. `keep_result` leaves what the decision recorded. `databases` are those that hold rows of this attempt:
    an earlier one may have begun branches elsewhere. `expired_only` is for those who act for a silent attempt."""
    values: dict[str, Any] = {**ended(), **_progress(done, total)}
    if not keep_result:
        values["result"] = result
    if databases is not None:
        values["participants"] = list(databases)
    also = _EXPIRED if expired_only else None
    return _won("finished", task_id, attempt=attempt, values=values, remark=remark, also=also)


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


def stop(task_id: str, *, remark: str, caller: Caller = EVERYBODY) -> Moved | None:
    """Take a task back; None when there is no such task.

    Equal states mean that the stop came too late, or a second time, and changed nothing.
    """

    def work(connection: Connection) -> Moved | None:
        row = connection.execute(
            select(tasks.c.state, tasks.c.attempt, tasks.c.task_type)
            .where(tasks.c.id == task_id, owned(caller))
            .with_for_update()
        ).first()
        if row is None:
            return None
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


def release_due(limit: int = 500) -> list[Ticket]:
    """Queue the tasks whose time has come; the tickets are the caller's to send."""

    def work(connection: Connection) -> list[Ticket]:
        # One state at a time: in this order the index answers, and a million that are due cost no more than a few.
        rows = [row for state in sorted(MOVES["due"].leaves) for row in connection.execute(_due(state, limit))]
        moving.many(connection, "due", rows, values={"dispatched_at": None})
        return [tickets.of(row) for row in rows]

    return db.transact(work)


def _due(state: State, limit: int) -> Select[Any]:
    return (
        select(*tickets.COLUMNS)
        .where(tasks.c.state == state, tasks.c.due_at <= NOW)
        .order_by(tasks.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )


def mark_dispatched(sent: Sequence[Ticket]) -> None:
    """The broker has these tickets. A task that moved on meanwhile is left alone."""
    alike: dict[tuple[int, str], list[str]] = {}
    for ticket in sent:
        alike.setdefault((ticket.attempt, ticket.queue), []).append(ticket.task_id)

    def work(connection: Connection) -> None:
        for (attempt, queue), task_ids in alike.items():
            connection.execute(
                update(tasks)
                .where(
                    tasks.c.id.in_(sorted(task_ids)),
                    tasks.c.state == State.QUEUED,
                    tasks.c.attempt == attempt - 1,
                    tasks.c.queue == queue,
                )
                .values(dispatched_at=NOW, dispatches=tasks.c.dispatches + 1)
            )

    db.transact(work)


def redispatch(queue: str, limit: int, *, up_to: Place, patience_seconds: float) -> list[Ticket]:
    """Take lost tickets back, those first that were sent first: they count as not sent from now on, so that whoever
    dies after this has lost nothing. They are the caller's to send.

    A task whose tickets get lost again and again waits twice as long each time before it gets another.
    """

    def work(connection: Connection) -> list[Ticket]:
        rows = connection.execute(
            select(*tickets.COLUMNS)
            .where(
                tasks.c.state == State.QUEUED,
                tasks.c.queue == queue,
                tasks.c.dispatched_at <= up_to.dispatched_at,
                or_(tasks.c.dispatched_at < up_to.dispatched_at, tasks.c.id <= up_to.task_id),
                tasks.c.dispatched_at < _patiently(patience_seconds),
            )
            .order_by(tasks.c.dispatched_at, tasks.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        if not rows:
            return []
        connection.execute(update(tasks).where(tasks.c.id.in_([row.id for row in rows])).values(dispatched_at=None))
        words = f"its ticket was lost from {queue} and sent again"
        connection.execute(
            insert(events).values(at=NOW, event="redispatched", state=State.QUEUED, remark=words),
            [{"task_id": row.id, "attempt": row.attempt} for row in rows],
        )
        moving.count(connection, "redispatched", len(rows))
        return [tickets.of(row) for row in rows]

    return db.transact(work)


#: Doublings of the wait of a task whose tickets get lost.
MOST_DOUBLINGS = 7


def _patiently(seconds: float) -> ColumnElement[Any]:
    """Every claim took one ticket, and one more is meant to wait: the rest was sent in the place of lost ones."""
    sent_again = func.greatest(tasks.c.dispatches - tasks.c.attempt - 1, 0)
    wait = func.pow(2, func.least(sent_again, MOST_DOUBLINGS)) * round(seconds * 1_000_000)
    return func.timestampadd(literal_column("MICROSECOND"), -wait, NOW)


#: Dead tickets of one attempt with which its task counts as undeliverable.
MOST_DEAD_TICKETS = 3


def dead_letter(task_id: str, attempt: int, *, words: str, ticket: str) -> bool:
    """Note that the broker gave up on a ticket. The task that waits for it gets another one, or fails when that has
    happened too often. A ticket of which that was noted before changes nothing. False when there is no such task."""

    def work(connection: Connection) -> bool:
        row = connection.execute(
            select(tasks.c.state, tasks.c.attempt).where(tasks.c.id == task_id).with_for_update()
        ).first()
        if row is None:
            return False
        if ticket and ticket in _dead_tickets(connection, task_id):
            return True
        moving.note(connection, task_id, "dead_lettered", words, detail={"ticket": ticket})
        moving.count(connection, "dead_lettered", 1)
        if row.state == State.QUEUED and row.attempt == attempt - 1:
            _deliver_otherwise(connection, task_id, row.attempt, words)
        return True

    return db.transact(work)


def _dead_tickets(connection: Connection, task_id: str) -> set[str]:
    told = select(events.c.detail).where(events.c.task_id == task_id, events.c.event == "dead_lettered")
    return {detail["ticket"] for detail in connection.execute(told).scalars() if detail}


def _deliver_otherwise(connection: Connection, task_id: str, attempt: int, words: str) -> None:
    of_task = events.c.task_id == task_id
    replayed = select(func.coalesce(func.max(events.c.seq), 0)).where(of_task, events.c.event == "replayed")
    dead = connection.execute(
        select(func.count()).where(
            of_task,
            events.c.event == "dead_lettered",
            events.c.attempt == attempt,
            events.c.seq > replayed.scalar_subquery(),
        )
    ).scalar_one()
    if dead < MOST_DEAD_TICKETS:
        connection.execute(update(tasks).where(tasks.c.id == task_id).values(dispatched_at=None))
        return
    error = {"type": "Undeliverable", "message": words, "permanent": True, "at": None}
    moving.move(
        connection,
        "undeliverable",
        task_id,
        values={"error": error, "finished_at": NOW},
        event_attempt=attempt,
        remark=f"gave up after {dead} tickets: {words}",
        detail=error,
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
) -> bool:
    def work(connection: Connection) -> bool:
        won = moving.move(
            connection, name, task_id, attempt=attempt, values=values, remark=remark, detail=detail, also=also
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
