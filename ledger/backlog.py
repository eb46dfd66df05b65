"""What waits and runs in each queue, by the ledger, whatever the broker holds.

All of it is read from the index (state, queue, dispatched_at), so that a million finished tasks cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, literal, literal_column, or_, select
from sqlalchemy.sql.elements import ColumnElement

from ledger import db
from ledger.callers import EVERYBODY, Caller, owned
from ledger.models import tasks
from ledger.states import ACTIVE, LIVE, State

#: Tasks in front of another are counted up to here: whether it is more than that makes no difference to anybody.
MOST_COUNTED = 100_000


@dataclass(frozen=True)
class Queue:
    """How many tasks of a queue are where. `running` are those that an attempt holds, whatever it does with them."""

    ready: int = 0
    scheduled: int = 0
    retrying: int = 0
    throttled: int = 0
    running: int = 0
    #: For how long the first of those that are ready has been so.
    oldest_seconds: float | None = None


def live() -> dict[tuple[str, str], int]:
    """Tasks that are not over, by queue and state."""
    with db.reading() as connection:
        return _live(connection)


def _live(connection: Connection) -> dict[tuple[str, str], int]:
    found = connection.execute(
        select(tasks.c.queue, tasks.c.state, func.count().label("number"))
        .where(tasks.c.state.in_(sorted(LIVE)))
        .group_by(tasks.c.state, tasks.c.queue)
    ).all()
    return {(row.queue, row.state): row.number for row in found}


def unsent(queue: str) -> int:
    """Ready tasks of a queue of which the broker has yet to confirm the ticket."""
    without = (tasks.c.state == State.QUEUED, tasks.c.queue == queue, tasks.c.dispatched_at.is_(None))
    with db.reading() as connection:
        return connection.execute(select(func.count()).select_from(tasks).where(*without)).scalar_one()


def oldest_seconds(queue: str) -> float | None:
    """For how long the first of the ready tasks of a queue has been so."""
    with db.reading() as connection:
        return _oldest_seconds(connection, queue)


def by_queue(names: Sequence[str]) -> dict[str, Queue]:
    """Each of these queues."""
    with db.reading() as connection:
        number = _live(connection)
        ages = {name: _oldest_seconds(connection, name) for name in names if number.get((name, State.QUEUED))}

    def queue(name: str) -> Queue:
        return Queue(
            ready=number.get((name, State.QUEUED), 0),
            scheduled=number.get((name, State.SCHEDULED), 0),
            retrying=number.get((name, State.RETRYING), 0),
            throttled=number.get((name, State.THROTTLED), 0),
            running=sum(number.get((name, state), 0) for state in ACTIVE),
            oldest_seconds=ages.get(name),
        )

    return {name: queue(name) for name in names}


def _oldest_seconds(connection: Connection, queue: str) -> float | None:
    """Of the longest waiting of those with a ticket, and of those without. Two statements that each read one row off
    the index: said in one with OR, it is a walk through the whole table."""
    # That a ticket is sent, or sent again, leaves updated_at alone: it says since when the task has been ready.
    first = (
        select(_seconds_since(tasks.c.updated_at))
        .where(tasks.c.state == State.QUEUED, tasks.c.queue == queue)
        .order_by(tasks.c.dispatched_at, tasks.c.id)
        .limit(1)
    )
    found = [
        connection.execute(first.where(has_ticket)).scalar()
        for has_ticket in (tasks.c.dispatched_at.is_(None), tasks.c.dispatched_at.is_not(None))
    ]
    return max((max(0, age) / 1_000_000 for age in found if age is not None), default=None)


def _seconds_since(moment: Any) -> Any:
    """In microseconds, by the database's clock."""
    return func.timestampdiff(literal_column("MICROSECOND"), moment, db.NOW)


@dataclass(frozen=True)
class Line:
    """What workers take before a task: all that is ready in better queues, then its elders in its own queue."""

    better: int
    earlier: int

    @property
    def ahead(self) -> int:
        return self.better + self.earlier

    @property
    def is_cut(self) -> bool:
        """Whether there are more, which were not counted."""
        return max(self.better, self.earlier) >= MOST_COUNTED


def line(task: Any, better_queues: Sequence[str]) -> Line:
    """Where a queued task stands, by the order in which the broker got the tickets. `task` has its id, queue and
    dispatched_at."""
    return Line(better=ticketed(better_queues), earlier=_count(tasks.c.queue == task.queue, *_before(task)))


def ticketed(queues: Sequence[str]) -> int:
    """Ready tasks of some queues whose ticket the broker has."""
    return _count(tasks.c.queue.in_(queues), tasks.c.dispatched_at.is_not(None)) if queues else 0


def _before(task: Any) -> list[ColumnElement[bool]]:
    if task.dispatched_at is None:
        return [tasks.c.dispatched_at.is_not(None)]
    same_moment = and_(tasks.c.dispatched_at == task.dispatched_at, tasks.c.id < task.id)
    return [or_(tasks.c.dispatched_at < task.dispatched_at, same_moment)]


def _count(*conditions: ColumnElement[bool]) -> int:
    """Queued tasks, counted up to MOST_COUNTED."""
    some = select(literal(1)).where(tasks.c.state == State.QUEUED, *conditions).limit(MOST_COUNTED).subquery()
    with db.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(some)).scalar_one())


def held(limit: int = 1_000, *, caller: Caller = EVERYBODY) -> Sequence[Any]:
    """The tasks that attempts hold now, by the name of the worker."""
    with db.reading() as connection:
        return connection.execute(
            select(
                tasks.c.id,
                tasks.c.task_type,
                tasks.c.state,
                tasks.c.attempt,
                tasks.c.worker,
                tasks.c.started_at,
                tasks.c.progress_done,
                tasks.c.progress_total,
            )
            .where(tasks.c.state.in_(sorted(ACTIVE)), owned(caller))
            .order_by(tasks.c.id)
            .limit(limit)
        ).all()
