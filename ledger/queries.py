"""The reads of the ledger."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, literal_column, or_, select

from ledger import db, tickets
from ledger.callers import EVERYBODY, Caller, owned
from ledger.db import earlier
from ledger.filters import ANY, Filter
from ledger.models import counters, dependencies, events, tasks
from ledger.states import State
from ledger.tickets import Place, Ticket

NOW = db.NOW


#: Tasks with a tag, or of a schedule, that are counted: each costs a look at its row.
MOST_COUNTED = 100_000


class BadCursor(Exception):
    """The cursor is not one that this list gave out."""


@dataclass(frozen=True)
class Standing:
    """The few columns on which others' actions depend."""

    task_id: str
    state: State
    attempt: int
    lease_expired: bool
    participants: tuple[str, ...]
    progress_done: int
    retries: int
    max_retries: int
    task_type: str
    worker: str | None
    #: Nobody knows whether the attempt took its last step, which must not be taken twice.
    in_last_step: bool
    idle_seconds: float


_STANDING = (
    tasks.c.id,
    tasks.c.state,
    tasks.c.attempt,
    func.coalesce(tasks.c.lease_until < NOW, 1).label("lease_expired"),
    tasks.c.participants,
    tasks.c.progress_done,
    tasks.c.retries,
    tasks.c.max_retries,
    tasks.c.task_type,
    tasks.c.worker,
    tasks.c.last_step_at.is_not(None).label("in_last_step"),
    func.timestampdiff(literal_column("MICROSECOND"), tasks.c.updated_at, NOW).label("idle"),
)


def _standing_of(row: Row[*tuple[Any, ...]]) -> Standing:
    return Standing(
        task_id=row.id,
        state=State(row.state),
        attempt=row.attempt,
        lease_expired=bool(row.lease_expired),
        participants=tuple(row.participants or ()),
        progress_done=row.progress_done or 0,
        retries=row.retries,
        max_retries=row.max_retries,
        task_type=row.task_type,
        worker=row.worker,
        in_last_step=bool(row.in_last_step),
        idle_seconds=row.idle / 1_000_000,
    )


def standing(task_id: str, *, caller: Caller = EVERYBODY) -> Standing | None:
    with db.reading() as connection:
        row = connection.execute(select(*_STANDING).where(tasks.c.id == task_id, owned(caller))).first()
    return _standing_of(row) if row else None


def claimant(task_id: str, attempt: int) -> dict[str, Any] | None:
    """Who claimed an attempt: its `worker`, and the `pid` of its child."""
    claims = select(events.c.detail).where(
        events.c.task_id == task_id, events.c.event == "claimed", events.c.attempt == attempt
    )
    with db.reading() as connection:
        found: dict[str, Any] | None = connection.execute(claims).scalar()
    return found


def state(task_id: str, *, caller: Caller = EVERYBODY) -> State | None:
    with db.reading() as connection:
        found = connection.execute(select(tasks.c.state).where(tasks.c.id == task_id, owned(caller))).scalar()
    return State(found) if found else None


def standings(state: State, *, idle_seconds: float, limit: int = 500) -> list[Standing]:
    """Tasks that have been in a state for so long, those first that got there last: a few that are stuck for good must
    not stand before all others."""
    with db.reading() as connection:
        rows = connection.execute(
            select(*_STANDING)
            .where(tasks.c.state == state, tasks.c.updated_at < earlier(idle_seconds))
            .order_by(tasks.c.id.desc())
            .limit(limit)
        ).all()
    return [_standing_of(row) for row in rows]


def expired_leases(limit: int = 200) -> list[Standing]:
    """Running tasks whose attempt has been silent for longer than its lease."""
    with db.reading() as connection:
        rows = connection.execute(
            select(*_STANDING)
            .where(tasks.c.state == State.RUNNING, tasks.c.lease_until < NOW)
            .order_by(tasks.c.lease_until)
            .limit(limit)
        ).all()
    return [_standing_of(row) for row in rows]


def waiting_by_queue(settled_seconds: float) -> dict[str, int]:
    """For each queue, how many of its queued tasks have had a confirmed ticket for so many seconds."""
    with db.reading() as connection:
        rows = connection.execute(
            select(tasks.c.queue, func.count())
            .where(tasks.c.state == State.QUEUED, tasks.c.dispatched_at < earlier(settled_seconds))
            .group_by(tasks.c.queue)
        )
        return {row[0]: row[1] for row in rows}


def _queues_in_use(connection: Connection) -> Iterator[str]:
    """One step of the index for each; DISTINCT would read all of it."""
    queue: str | None = ""
    while queue is not None:
        following = select(func.min(tasks.c.queue)).where(tasks.c.state == State.QUEUED, tasks.c.queue > queue)
        queue = connection.execute(following).scalar()
        if queue is not None:
            yield queue


def place_in_queue(queue: str, number: int) -> Place | None:
    """Where the last of the so many longest waiting tickets of a queue stands; None when there are not so many."""
    with db.reading() as connection:
        row = connection.execute(
            select(tasks.c.dispatched_at, tasks.c.id)
            .where(tasks.c.state == State.QUEUED, tasks.c.queue == queue, tasks.c.dispatched_at.is_not(None))
            .order_by(tasks.c.dispatched_at, tasks.c.id)
            .limit(1)
            .offset(number - 1)
        ).first()
    return Place(row.dispatched_at, row.id) if row else None


def undispatched(older_than_seconds: float, limit: int = 500) -> list[Ticket]:
    """Queued tasks for which no ticket was confirmed, so many of each queue, those first that came first.

    Queue by queue, because then the index leads straight to them, past a million that have their tickets.
    """
    with db.reading() as connection:
        found = [
            tickets.of(row)
            for queue in _queues_in_use(connection)
            for row in connection.execute(
                select(*tickets.COLUMNS)
                .where(
                    tasks.c.state == State.QUEUED,
                    tasks.c.queue == queue,
                    tasks.c.dispatched_at.is_(None),
                    tasks.c.updated_at < earlier(older_than_seconds),
                )
                .order_by(tasks.c.id)
                .limit(limit)
            )
        ]
    return sorted(found, key=lambda ticket: ticket.task_id)


def task(task_id: str, *, caller: Caller = EVERYBODY) -> Row[Any] | None:
    """All of one task."""
    with db.reading() as connection:
        return connection.execute(select(tasks).where(tasks.c.id == task_id, owned(caller))).first()


def seen_of(task_ids: Collection[str], *, caller: Caller = EVERYBODY) -> set[str]:
    """Those of some tasks that are there for the caller; an admin sees those that are not kept any more, too."""
    if caller.sees_all:
        return set(task_ids)
    wanted = sorted(each for each in task_ids if each.isascii())
    with db.reading() as connection:
        return set(connection.execute(select(tasks.c.id).where(tasks.c.id.in_(wanted), owned(caller))).scalars())


def history(task_id: str, *, caller: Caller = EVERYBODY) -> Sequence[Row[Any]]:
    """What happened to a task, oldest first."""
    with db.reading() as connection:
        return connection.execute(
            select(events)
            .join(tasks, tasks.c.id == events.c.task_id)
            .where(events.c.task_id == task_id, owned(caller))
            .order_by(events.c.seq)
        ).all()


@dataclass(frozen=True)
class Kin:
    """The tasks, with id and state, that one depends on, and some of those that depend on it."""

    parents: Sequence[Any]
    children: Sequence[Any]


def kin(task_id: str, limit: int = 100, *, caller: Caller = EVERYBODY) -> Kin:
    parent, child = dependencies.c.parent, dependencies.c.child
    parents = select(parent.label("id"), tasks.c.state).outerjoin(tasks, tasks.c.id == parent)
    children = select(child.label("id"), tasks.c.state).outerjoin(tasks, tasks.c.id == child)
    # One that is not kept any more has no owner.
    shown = or_(tasks.c.id.is_(None), owned(caller))
    with db.reading() as connection:
        return Kin(
            connection.execute(parents.where(child == task_id, shown).order_by(parent)).all(),
            connection.execute(children.where(parent == task_id, shown).order_by(child).limit(limit)).all(),
        )


def events_after(task_id: str, seq: int, *, caller: Caller = EVERYBODY) -> Sequence[Row[Any]]:
    """What happened to a task after an event of it, oldest first."""
    with db.reading() as connection:
        return connection.execute(
            select(events)
            .join(tasks, tasks.c.id == events.c.task_id)
            .where(events.c.task_id == task_id, events.c.seq > seq, owned(caller))
            .order_by(events.c.seq)
        ).all()


@dataclass(frozen=True)
class Page:
    rows: Sequence[Row[Any]]
    next_cursor: str | None


_LISTED = tuple(column for column in tasks.c if column.name not in {"parameters", "result", "undone"})


def page(
    wanted: Filter = ANY, *, cursor: str | None = None, limit: int = 50, caller: Caller = EVERYBODY
) -> Page:
    """Tasks that fit, newest first.

    The cursor is the last identifier seen, so that pages stay put while tasks arrive.
    """
    below = _decode(cursor) if cursor else None
    with db.reading() as connection:
        rows = connection.execute(wanted.newest(*_LISTED, caller=caller, below=below).limit(limit + 1)).all()
    more = len(rows) > limit
    return Page(rows[:limit], _encode(rows[limit - 1].id) if more else None)


def _encode(task_id: str) -> str:
    return base64.urlsafe_b64encode(task_id.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        task_id = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise BadCursor("not a cursor of this list") from error
    if len(task_id) != 36:
        raise BadCursor("not a cursor of this list")
    return task_id


def counts(
    tags: Sequence[str] = (), schedule: str | None = None, *, caller: Caller = EVERYBODY
) -> dict[str, int]:
    """Tasks by state; of those with some tags, or of a schedule, the newest MOST_COUNTED."""
    if tags or schedule:
        wanted = Filter(tags=tags, schedule=schedule)
        newest = wanted.newest(tasks.c.state, caller=caller).limit(MOST_COUNTED).subquery()
        statement = select(newest.c.state, func.count()).group_by(newest.c.state)
    else:
        statement = select(tasks.c.state, func.count()).where(owned(caller)).group_by(tasks.c.state)
    with db.reading() as connection:
        found: dict[str, int] = {row[0]: row[1] for row in connection.execute(statement)}
    return {state.value: found.get(state.value, 0) for state in State}


def totals() -> dict[str, int]:
    """The running totals."""
    with db.reading() as connection:
        return {row.name: row.value for row in connection.execute(select(counters.c.name, counters.c.value))}
