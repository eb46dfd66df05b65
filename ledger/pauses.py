"""Paused queues: none of their tasks starts, those that run go on.

The row of a paused queue stands in the guard of every claim, so that no attempt begins once a pause is committed, by
whatever worker. That workers also leave the tickets of such a queue alone (`workers.pauses`) keeps them from trying in
vain; a ticket that was in somebody's hand when the pause came is given back by that claim, as one yet to be sent.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Select, bindparam, exists, func, or_, select, update
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from ledger import db
from ledger.models import queues, tasks
from ledger.states import State

NOW = db.NOW

#: Seconds after a resumption in which workers may not have heard of it yet.
HEARD_SECONDS = 1.0


@dataclass(frozen=True)
class Pause:
    since: datetime
    reason: str | None


def pause(names: Collection[str], *, reason: str | None) -> None:
    """Let no task of these queues start. One that is paused stays so since it was, with the newer reason."""

    def work(connection: Connection) -> None:
        row = upsert(queues).values(name=bindparam("queue"), paused_at=NOW, changed_at=NOW, reason=reason)
        again = {"changed_at": NOW, "paused_at": func.coalesce(queues.c.paused_at, NOW), "reason": reason}
        connection.execute(row.on_duplicate_key_update(again), [{"queue": name} for name in sorted(names)])

    db.transact(work)


def resume(names: Collection[str]) -> None:
    """Let the tasks of these queues start again."""

    def work(connection: Connection) -> None:
        paused = update(queues).where(queues.c.name.in_(sorted(names)), queues.c.paused_at.is_not(None))
        connection.execute(paused.values(paused_at=None, reason=None, changed_at=NOW))

    db.transact(work)


def paused(engine: Engine | None = None) -> dict[str, Pause]:
    """The paused queues by name."""
    with db.reading(engine) as connection:
        rows = connection.execute(select(queues).where(queues.c.paused_at.is_not(None)))
        return {row.name: Pause(row.paused_at, row.reason) for row in rows}


def is_open() -> ColumnElement[bool]:
    """In a guard on `tasks`: their queue is not paused."""
    return ~exists().where(queues.c.name == tasks.c.queue, queues.c.paused_at.is_not(None))


def quiet() -> Select[Any]:
    """The queues of which workers take nothing, or may not have heard yet that they may."""
    lately = queues.c.changed_at > db.earlier(HEARD_SECONDS)
    return select(queues.c.name).where(or_(queues.c.paused_at.is_not(None), lately))


def give_back(connection: Connection, task_id: str, attempt: int) -> None:
    """A worker had the ticket in hand when the queue was paused, and drops it: another one is to be sent."""
    connection.execute(
        update(tasks)
        .where(tasks.c.id == task_id, tasks.c.state == State.QUEUED, tasks.c.attempt == attempt - 1, ~is_open())
        .values(dispatched_at=None)
    )
