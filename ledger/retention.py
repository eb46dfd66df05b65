"""Forgets tasks that have been over for long, with their events, deliveries and markers in the business databases.

The databases share no transaction, so the order is what keeps `ledger.verify` true at every instant, and after a crash:

    note     the row names no database any more: from now on nobody expects its marker
    markers  are deleted on every database, only those of the attempt that the row named
    purge    files that the task made, row and events, while the row is locked

Whoever dies in between leaves a row that is still old, and the next one begins with it again. Each step names the state
and the age again: a task that was replayed meanwhile is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, literal_column, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, deliveries, firings, places, tags
from ledger.db import earlier
from ledger.models import dependencies, endings, events, marker, tasks
from ledger.states import State

_DAY = 86_400


@dataclass(frozen=True)
class Over:
    """A task that is over, and whether it has been so for long enough."""

    task_id: str
    attempt: int
    participants: tuple[str, ...]
    is_old: bool


def over(state: State, *, days: float, after: str, limit: int) -> list[Over]:
    """The next tasks of a final state behind an id, up to those that were accepted too lately to be old.

    That bound is the id's own time, so that the index leads to them without a look at all the younger ones.
    """
    with db.reading() as connection:
        cut = earlier(days * _DAY)
        seconds = connection.execute(
            select(func.timestampdiff(literal_column("SECOND"), literal_column("'1970-01-01'"), cut))
        ).scalar_one()
        rows = connection.execute(
            select(tasks.c.id, tasks.c.attempt, tasks.c.participants, (tasks.c.finished_at < cut).label("is_old"))
            # Whatever the statistics say of a state that few tasks are in: never through all the others.
            .with_hint(tasks, "FORCE INDEX (ix_tasks_state_id)")
            .where(tasks.c.state == state, tasks.c.id > after, tasks.c.id < _id_at(int(seconds) * 1000))
            .order_by(tasks.c.id)
            .limit(limit)
        ).all()
    return [Over(row.id, row.attempt, tuple(row.participants or ()), bool(row.is_old)) for row in rows]


def _id_at(milliseconds: int) -> str:
    """How a UUIDv7 of that moment begins."""
    digits = f"{max(0, milliseconds):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def note(tasks_over: Sequence[Over], state: State, *, days: float) -> None:
    """Let nobody expect these tasks' markers any more."""

    def work(connection: Connection) -> None:
        expecting = [*_still(tasks_over, state, days), tasks.c.participants.is_not(None)]
        connection.execute(update(tasks).where(*expecting).values(participants=None))

    db.transact(work)


def forget_markers(tasks_over: Sequence[Over], database: str) -> None:
    named = [(task.task_id, task.attempt) for task in tasks_over]
    with db.translated(), db.data(database).begin() as connection:
        connection.execute(
            delete(marker).where(
                # The first of the two is what the index is asked for.
                marker.c.task_id.in_([task_id for task_id, _ in named]),
                tuple_(marker.c.task_id, marker.c.attempt).in_(named),
            )
        )


def purge(
    tasks_over: Sequence[Over], state: State, *, days: float, first: Callable[[Collection[str]], object]
) -> int:
    """Delete what is left of them; answers how many tasks that were.

    `first` does away with what those have left elsewhere that do go. It is done while their rows are locked: nobody can
    run such a task again meanwhile, who would miss what it makes.
    """

    def work(connection: Connection) -> int:
        task_ids = connection.execute(
            select(tasks.c.id)
            # While an ending is there, somebody has yet to be told of it.
            .where(
                *_still(tasks_over, state, days),
                ~exists().where(endings.c.parent == tasks.c.id),
                ~deliveries.is_awaited(),
            )
            .with_for_update(skip_locked=True)
        ).scalars()
        doomed = list(task_ids)
        if doomed:
            first(doomed)
            deliveries.forget(connection, doomed)
            connection.execute(delete(events).where(events.c.task_id.in_(doomed)))
            for end in (dependencies.c.parent, dependencies.c.child):
                connection.execute(delete(dependencies).where(end.in_(doomed)))
            tags.forget(connection, doomed)
            firings.forget(connection, doomed)
            places.forget(connection, doomed)
            connection.execute(delete(tasks).where(tasks.c.id.in_(doomed)))
        return len(doomed)

    return db.transact(work)


def _still(tasks_over: Sequence[Over], state: State, days: float) -> list[ColumnElement[bool]]:
    return [
        tasks.c.id.in_([task.task_id for task in tasks_over]),
        tasks.c.state == state,
        tasks.c.finished_at < earlier(days * _DAY),
    ]
