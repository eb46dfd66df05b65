"""Which schedule submitted a task, and for which tick: written with the task, in the transaction that accepts it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql.elements import ColumnElement

from ledger import db
from ledger.callers import EVERYBODY, Caller, owned
from ledger.models import firings, tasks
from ledger.states import FINAL

#: Of a schedule's tasks so many are looked at, the latest, for one that has not ended.
MOST_LOOKED_AT = 100


@dataclass(frozen=True)
class Firing:
    schedule_id: str
    #: The schedule's name when it submitted the task.
    name: str
    #: Aware, in UTC. None when somebody asked for the task beside the ticks.
    tick: datetime | None = None


class TickTaken(Exception):
    """This tick of this schedule has a task already."""


def note(connection: Connection, fired: Sequence[tuple[str, Firing]], *, owner: str) -> None:
    """Note whose the fresh tasks with these ids are. Raises TickTaken; then the transaction must not go on."""
    if not fired:
        return
    rows = [
        {
            "task_id": task_id,
            "owner": owner,
            "schedule_id": firing.schedule_id,
            "name": firing.name,
            "tick": firing.tick.replace(tzinfo=None) if firing.tick else None,
        }
        for task_id, firing in fired
    ]
    try:
        connection.execute(insert(firings), rows)
    except IntegrityError as error:
        if db.error_code(error) == db.DUPLICATE:
            raise TickTaken(TickTaken.__doc__) from error
        raise


def of(task_id: str, *, caller: Caller = EVERYBODY) -> Firing | None:
    """The schedule that submitted a task; None for any other task."""
    with db.reading() as connection:
        row = connection.execute(
            select(firings)
            .join(tasks, tasks.c.id == firings.c.task_id)
            .where(firings.c.task_id == task_id, owned(caller))
        ).first()
    return _firing_of(row) if row else None


def _firing_of(row: Row[Any]) -> Firing:
    return Firing(row.schedule_id, row.name, row.tick.replace(tzinfo=UTC) if row.tick else None)


def by(schedule_id: str) -> ColumnElement[bool]:
    """Whether a schedule submitted a row of `tasks`."""
    mine = select(firings.c.task_id).where(firings.c.task_id == tasks.c.id, firings.c.schedule_id == schedule_id)
    return mine.correlate(tasks).exists()


def index(*, caller: Caller) -> str:
    """The one that leads to `leads`."""
    return "ix_firings_schedule" if caller.sees_all else "ix_firings_owner"


def leads(schedule_id: str, *, caller: Caller) -> Iterator[ColumnElement[bool]]:
    """The rows of `firings` of a schedule, which stand in the index in the order of the tasks' ids."""
    yield firings.c.schedule_id == schedule_id
    if not caller.sees_all:
        yield firings.c.owner == caller.owner


def open_task(connection: Connection, schedule_id: str) -> str | None:
    """One of a schedule's latest tasks that has not ended."""
    latest = (
        select(firings.c.task_id)
        .where(firings.c.schedule_id == schedule_id)
        .order_by(firings.c.task_id.desc())
        .limit(MOST_LOOKED_AT)
        .subquery()
    )
    found: str | None = connection.execute(
        select(tasks.c.id)
        .join(latest, latest.c.task_id == tasks.c.id)
        .where(tasks.c.state.not_in(sorted(FINAL)))
        .limit(1)
    ).scalar()
    return found


def forget(connection: Connection, task_ids: Sequence[str]) -> None:
    connection.execute(delete(firings).where(firings.c.task_id.in_(task_ids)))
