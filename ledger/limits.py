"""Limits: at most so many tasks of a type, or of an owner, run at once, or start within a minute.

Both bounds are exact, whoever dies: a claim under a limit locks the limit's row, counts, and takes its place in one
transaction, so that claims under one limit come one after the other. `running` is what an attempt holds by the ledger;
starts are counted by seconds of the database's clock. Who finds no place waits in a line (`ledger.places`).

A task without limits pays for them with two looks into a primary key, in the guard of its claim and in no statement of
their own; a pack asks once more when it has claimed. So a limit holds from the moment on in which it is there: no
process remembers which there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from ledger import db
from ledger.models import limit_starts, limit_waits, limits, tasks
from ledger.states import ACTIVE, State

NOW = db.NOW

#: The second that starts are counted in, and how many of them the last minute touches.
_SECOND: ColumnElement[int] = literal_column("TO_SECONDS(UTC_TIMESTAMP(6))")
MINUTE_SECONDS = 60
#: Seconds for which a place is kept for a task that was admitted. One whose ticket has a long queue before it, or a
#: paused one, must not keep all others from the place.
KEPT_SECONDS = 2.0
#: Seconds after which nobody can be in the middle of a claim any more that began before the limit was there: longer
#: than a transaction may last (`db.SILENCE_SECONDS`, and the time that a statement has).
SETTLED_SECONDS = 30.0
#: The longest name, and the largest number, that a limit may have.
MOST = 1_000_000
#: Tasks in a line are counted up to here.
MOST_COUNTED = 10_000


class Subject(StrEnum):
    """What a limit is about. In this order claims lock."""

    OWNER = "owner"
    TYPE = "type"


class Whose(NamedTuple):
    """Names a limit: an owner's, or a type's."""

    subject: Subject
    name: str


@dataclass(frozen=True)
class Limit:
    """None is no bound."""

    whose: Whose
    most_running: int | None = None
    starts_per_minute: int | None = None
    changed_at: datetime | None = None

    @property
    def tasks(self) -> str:
        """Those that it bounds, in words."""
        return f"{self.whose.name} tasks" if self.whose.subject is Subject.TYPE else f"tasks of {self.whose.name}"


@dataclass(frozen=True)
class Use:
    """What is taken under a limit."""

    limit: Limit
    running: int
    #: Within the last minute, since there is a bound on them.
    starts: int
    #: Places that are kept for tasks that were admitted a moment ago.
    kept: int = 0

    @property
    def room(self) -> int:
        """How many more may be let in."""
        bounds = ((self.limit.most_running, self.running), (self.limit.starts_per_minute, self.starts))
        return min((most - taken - self.kept for most, taken in bounds if most is not None), default=MOST)

    @property
    def reached(self) -> str:
        """Why nobody can start now, in words; empty when somebody can."""
        limit = self.limit
        if limit.most_running is not None and self.running >= limit.most_running:
            return f"{self.running:,} of at most {limit.most_running:,} {limit.tasks} run"
        if limit.starts_per_minute is not None and self.starts >= limit.starts_per_minute:
            most = f"{limit.starts_per_minute:,}"
            return f"{self.starts:,} of at most {most} {limit.tasks} have started within a minute"
        return ""

    def told(self) -> dict[str, Any]:
        """As answers and commands show it."""
        return {
            **self.limit.whose._asdict(),
            "most_running": self.limit.most_running,
            "running": self.running,
            "starts_per_minute": self.limit.starts_per_minute,
            "starts": self.starts,
        }


# --- the operator ----------------------------------------------------------------------------------------------------


def put(limit: Limit) -> None:
    """Set a limit, in the place of one that is there. What runs goes on, also beyond it."""

    def work(connection: Connection) -> None:
        bounds = {"most_running": limit.most_running, "starts_per_minute": limit.starts_per_minute, "changed_at": NOW}
        row = upsert(limits).values(**limit.whose._asdict(), created_at=NOW, **bounds)
        connection.execute(row.on_duplicate_key_update(**bounds))

    db.transact(work)


def remove(whose: Whose) -> bool:
    """Whether there was one. The line before it is let in."""

    def work(connection: Connection) -> bool:
        return connection.execute(delete(limits).where(_is(limits, whose))).rowcount == 1

    return db.transact(work)


def listed(*wanted: Whose) -> list[tuple[Use, int]]:
    """Those limits, or every limit, with how many wait in the line, counted up to MOST_COUNTED."""
    some = or_(*(_is(limits, whose) for whose in wanted)) if wanted else true()
    with db.reading() as connection:
        rows = connection.execute(select(limits).where(some).order_by(limits.c.subject, limits.c.name)).all()
        found = [_use(connection, row) for row in rows]
        return [(use, _waiting(connection, use.limit.whose)) for use in found]


def _waiting(connection: Connection, whose: Whose) -> int:
    """A task that was stopped leaves its row in the line, until the line comes to it."""
    waiting = limit_waits.join(tasks, tasks.c.id == limit_waits.c.task_id)
    in_line = [_is(limit_waits, whose), limit_waits.c.admitted_at.is_(None), tasks.c.state == State.THROTTLED]
    in_order = select(literal(1)).prefix_with("STRAIGHT_JOIN").select_from(waiting)
    some = in_order.where(*in_line).limit(MOST_COUNTED).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


# --- claims ----------------------------------------------------------------------------------------------------------


#: In a guard on `tasks`: there is no limit on it. Every claim has this: said in SQL it costs nothing to put together.
IS_FREE = text(
    "NOT EXISTS (SELECT 1 FROM limits WHERE limits.subject = 'type' AND limits.name = tasks.task_type)"
    " AND NOT EXISTS (SELECT 1 FROM limits WHERE limits.subject = 'owner' AND limits.name = tasks.owner)"
)


def of(task: Any) -> tuple[Whose, ...]:
    """The limits that there may be on a task, of which its owner and its type are given."""
    return (Whose(Subject.OWNER, task.owner), Whose(Subject.TYPE, task.task_type))


def locked(connection: Connection, wanted: Iterable[Whose]) -> list[Use]:
    """Those of some limits that there are, ours alone until the transaction ends.

    One by one and in one order for all, so that nobody waits for who waits for him; and before any task is locked.
    """
    rows = [
        connection.execute(_one(whose).with_for_update()).first() for whose in sorted(set(wanted))
    ]
    return [_use(connection, row, is_locked=True) for row in rows if row is not None]


def look(connection: Connection, wanted: Iterable[Whose]) -> list[Use]:
    """The same, as it is just now, locking nothing."""
    rows = [connection.execute(_one(whose)).first() for whose in sorted(set(wanted))]
    return [_use(connection, row) for row in rows if row is not None]


def _one(whose: Whose) -> Any:
    is_young = (limits.c.created_at > db.earlier(SETTLED_SECONDS)).label("is_young")
    return select(limits, is_young).where(_is(limits, whose))


def _use(connection: Connection, row: Row[Any], *, is_locked: bool = False) -> Use:
    whose = Whose(Subject(row.subject), row.name)
    limit = Limit(whose, row.most_running, row.starts_per_minute, row.changed_at)
    running = _running(whose)
    if is_locked and row.is_young:
        # A claim that found no limit, a moment before this one was there, shows once it is over: this waits for it.
        connection.execute(running.with_for_update(read=True))
    counts = [running, _kept(whose), *([] if limit.starts_per_minute is None else [_starts(whose)])]
    taken = connection.execute(select(*(each.scalar_subquery() for each in counts))).one()
    return Use(limit, running=taken[0], kept=taken[1], starts=int(taken[2]) if len(taken) > 2 else 0)


#: Tasks that are active are at most as many as there are places in workers: that is why the index of a state will do.
_INDEXES = {Subject.TYPE: "ix_tasks_state_id", Subject.OWNER: "ix_tasks_owner_state"}


def _column(whose: Whose) -> ColumnElement[str]:
    return tasks.c.task_type if whose.subject is Subject.TYPE else tasks.c.owner


def _running(whose: Whose) -> Select[Any]:
    """How many tasks attempts hold."""
    return (
        select(func.count())
        .select_from(tasks)
        .with_hint(tasks, f"FORCE INDEX ({_INDEXES[whose.subject]})")
        .where(tasks.c.state.in_(sorted(ACTIVE)), _column(whose) == whose.name)
    )


def _kept(whose: Whose) -> Select[Any]:
    waiting = limit_waits.join(tasks, tasks.c.id == limit_waits.c.task_id)
    lately = limit_waits.c.admitted_at > db.earlier(KEPT_SECONDS)
    on_its_way = [lately, tasks.c.state == State.QUEUED, _column(whose) == whose.name]
    # Those few first, and not all that the owner or the type has queued.
    return select(func.count()).prefix_with("STRAIGHT_JOIN").select_from(waiting).where(*on_its_way)


def _starts(whose: Whose) -> Select[Any]:
    """Within the last minute, and up to a second more: a minute touches 61 seconds."""
    late = limit_starts.c.second >= _SECOND - MINUTE_SECONDS
    return select(func.coalesce(func.sum(limit_starts.c.starts), 0)).where(_is(limit_starts, whose), late)


#: MySQL assigns from left to right: the second is compared before it is replaced.
_COUNT = text(
    "INSERT INTO limit_starts (subject, name, slot, second, starts)"
    " SELECT :subject, :name, TO_SECONDS(UTC_TIMESTAMP(6)) % 64, TO_SECONDS(UTC_TIMESTAMP(6)), 1"
    " ON DUPLICATE KEY UPDATE starts = IF(second = VALUES(second), starts + 1, 1), second = VALUES(second)"
)


def count_start(connection: Connection, uses: Iterable[Use]) -> None:
    """A task starts now under these limits, which are locked. What dies after this has started all the same."""
    for use in uses:
        if use.limit.starts_per_minute is not None:
            connection.execute(_COUNT, use.limit.whose._asdict())


def _is(table: Any, whose: Whose) -> ColumnElement[bool]:
    return and_(table.c.subject == whose.subject, table.c.name == whose.name)
