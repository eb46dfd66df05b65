"""Places under limits: a claim takes one, or its task waits in the limit's line and is admitted from there.

    claim, a ticket in hand ─ no limit ──────────────────────────────> running
      │
    lock the task's limits, count ─ a place is free, nobody waits ───> running
      │
    throttled: the worker drops the ticket and takes the next          the line of the limit that kept it
      │
    the monitor, when there are places: the best priority first, then the oldest ──> queued, with a ticket

Who has been admitted keeps a place for `limits.KEPT_SECONDS`, so that who comes just then does not take it and send him
back into the line; but then the place is anybody's. Nobody else passes a line: while one is there, all go through it. A
task that has two limits stands in the line of the one that kept it, and moves to the other's when only that one does.

When things fail: a place is a row in `tasks` that an attempt holds, so it is free when the attempt's end is written, by
whomever; a lease that runs out sees to that. Whoever dies in the middle of a claim or an admission has done nothing. An
admitted task whose ticket was not sent is one like any other without a ticket. The row in the line is written with the
move into `throttled`, so that nothing waits in no line (`ledger.verify` says so).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, literal, or_, select, update
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, limits, moving, tickets
from ledger.limits import Subject, Use, Whose
from ledger.models import limit_waits, tasks
from ledger.states import State
from ledger.tickets import Ticket

NOW = db.NOW

#: The priorities, as a line is ordered by them.
BEST_FIRST = ("high", "normal", "low")
#: Tasks of a line that are looked at in one transaction.
CHUNK = 50

_w = limit_waits.c


# --- a worker --------------------------------------------------------------------------------------------------------


def claim(
    connection: Connection, task_id: str, attempt: int, *, may: ColumnElement[bool], take: Callable[[], bool]
) -> bool:
    """Claim a task under limits with `take`, or let it wait for a place. `may` is what the claim asks of the row. False
    also when there is nothing to claim."""
    its_turn = and_(tasks.c.attempt == attempt - 1, may)
    row = connection.execute(
        select(tasks.c.owner, tasks.c.task_type).where(
            tasks.c.id == task_id, tasks.c.state == State.QUEUED, its_turn
        )
    ).first()
    if row is None:
        return False
    uses = limits.locked(connection, limits.of(row))
    # Of an admission, or of a wait that ended otherwise.
    waited = connection.execute(select(_w.admitted_at).where(_w.task_id == task_id)).first()
    is_admitted = waited is not None and waited.admitted_at is not None
    kept_by = _kept_by(connection, task_id, uses, is_admitted=is_admitted)
    if kept_by is None:
        if take():
            limits.count_start(connection, uses)
            if waited is not None:
                connection.execute(delete(limit_waits).where(_w.task_id == task_id))
            return True
    elif _throttle(connection, task_id, attempt - 1, kept_by, its_turn):
        _enter_line(connection, task_id, kept_by.limit.whose)
    return False


def _kept_by(connection: Connection, task_id: str, uses: Sequence[Use], *, is_admitted: bool) -> Use | None:
    """The limit that has no place for the task."""
    if is_admitted:
        return next((use for use in uses if use.reached), None)
    return next((use for use in uses if use.room <= 0 or _has_line(connection, task_id, use.limit.whose)), None)


def _has_line(connection: Connection, task_id: str, whose: Whose) -> bool:
    others = select(_w.task_id).where(*_in_line(whose), _w.task_id != task_id).limit(1)
    return connection.execute(others).first() is not None


def _in_line(whose: Whose) -> list[ColumnElement[bool]]:
    return [_w.subject == whose.subject, _w.name == whose.name, _w.admitted_at.is_(None)]


def _throttle(connection: Connection, task_id: str, attempt: int, by: Use, its_turn: ColumnElement[bool]) -> bool:
    return moving.move(
        connection,
        "throttled",
        task_id,
        values={"dispatched_at": None},
        event_attempt=attempt,
        remark=by.reached or f"others wait before it for {by.limit.tasks}",
        detail={"limit": by.limit.whose._asdict(), "running": by.running, "starts": by.starts},
        also=its_turn,
    )


def _enter_line(connection: Connection, task_id: str, whose: Whose) -> None:
    """For a task that is locked: its priority stays as it is."""
    priority = connection.execute(select(tasks.c.priority).where(tasks.c.id == task_id)).scalar_one()
    place = {**whose._asdict(), "priority_rank": BEST_FIRST.index(priority), "admitted_at": None}
    row = upsert(limit_waits).values(task_id=task_id, **place)
    connection.execute(row.on_duplicate_key_update(**place))


def change_priority(connection: Connection, task_id: str, priority: str) -> None:
    """Of a task that stands in a line, if it does."""
    rank = BEST_FIRST.index(priority)
    connection.execute(update(limit_waits).where(_w.task_id == task_id).values(priority_rank=rank))


# --- the monitor -----------------------------------------------------------------------------------------------------


def lines() -> list[Whose]:
    """The limits that have a line, or had one a moment ago; one step of the index for each."""
    with db.reading() as connection:
        rows = connection.execute(select(_w.subject, _w.name).distinct()).all()
    return [Whose(Subject(row.subject), row.name) for row in rows]


def admit(whose: Whose) -> list[Ticket]:
    """Queue tasks from the head of a line, no more than there are places. The tickets are the caller's to send."""

    def work(connection: Connection) -> list[Ticket]:
        if any(use.room <= 0 for use in limits.look(connection, [whose])):
            return []
        head = _head(connection, whose)
        wanted = [whose, *(each for row in head if row.id is not None for each in limits.of(row))]
        room = {use.limit.whose: use.room for use in limits.locked(connection, wanted)}
        waiting = list(_waiting(connection, head))
        admitted = _let_in(connection, whose, waiting, room)
        moving.many(connection, "admitted", admitted, values={"dispatched_at": None})
        return [tickets.of(row) for row in admitted]

    return db.transact(work)


def _head(connection: Connection, whose: Whose) -> Sequence[Any]:
    """The first of a line; a task that is not there any more has no id."""
    return connection.execute(
        select(_w.task_id, tasks.c.id, tasks.c.owner, tasks.c.task_type)
        .select_from(limit_waits.outerjoin(tasks, tasks.c.id == _w.task_id))
        .where(*_in_line(whose))
        .order_by(_w.priority_rank, _w.task_id)
        .limit(CHUNK)
    ).all()


def _waiting(connection: Connection, head: Sequence[Any]) -> Iterator[Any]:
    """Those of them that still wait, locked; the others leave the line, unless somebody is just moving them."""
    rows = connection.execute(
        select(*tickets.COLUMNS, tasks.c.owner, tasks.c.state)
        .where(tasks.c.id.in_([row.task_id for row in head]))
        .with_for_update(skip_locked=True)
    ).all()
    found = {row.id: row for row in rows}
    gone = [row.task_id for row in head if row.id is None]
    gone += [row.id for row in rows if row.state != State.THROTTLED]
    if gone:
        connection.execute(delete(limit_waits).where(_w.task_id.in_(gone)))
    return (found[row.task_id] for row in head if row.task_id in found and row.task_id not in gone)


def _let_in(
    connection: Connection, whose: Whose, waiting: Sequence[Any], room: Mapping[Whose, int]
) -> list[Any]:
    """Who has a place under all of its limits, in the order of the line. Who is kept only by another limit moves to the
    line of that one, so that the head of this one is never full of them."""
    left, admitted, free = dict(room), list[Any](), list[str]()
    for row in waiting:
        if left.get(whose, 1) <= 0:
            break
        mine = [each for each in limits.of(row) if each in left]
        kept_by = next((each for each in mine if left[each] <= 0), None)
        if kept_by is not None:
            connection.execute(update(limit_waits).where(_w.task_id == row.id).values(**kept_by._asdict()))
            continue
        admitted.append(row)
        free += [] if mine else [row.id]
        left.update({each: left[each] - 1 for each in mine})
    if admitted:
        ids = [row.id for row in admitted]
        connection.execute(update(limit_waits).where(_w.task_id.in_(ids)).values(admitted_at=NOW))
    if free:
        connection.execute(delete(limit_waits).where(_w.task_id.in_(free)))
    return admitted


# --- who looks on ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """Where a throttled task stands."""

    #: The limits on it. Empty when they were taken away, and it is about to be let in.
    uses: tuple[Use, ...]
    #: The one whose line it stands in, and how many go before it there, counted up to a bound.
    line: Whose | None
    ahead: int


def standing(task: Any) -> Standing:
    """`task` has its id, owner and type."""
    with db.reading() as connection:
        uses = tuple(limits.look(connection, limits.of(task)))
        row = connection.execute(select(limit_waits).where(_w.task_id == task.id, _w.admitted_at.is_(None))).first()
        if row is None:
            return Standing(uses, None, 0)
        line = Whose(Subject(row.subject), row.name)
        before = or_(
            _w.priority_rank < row.priority_rank,
            and_(_w.priority_rank == row.priority_rank, _w.task_id < row.task_id),
        )
        some = select(literal(1)).where(*_in_line(line), before).limit(limits.MOST_COUNTED).subquery()
        ahead = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return Standing(uses, line, ahead)


def is_in_line() -> ColumnElement[bool]:
    """Of a row of `tasks`."""
    return select(_w.task_id).where(_w.task_id == tasks.c.id, _w.admitted_at.is_(None)).exists()


def forget(connection: Connection, task_ids: Collection[str]) -> None:
    """For tasks that are purged."""
    connection.execute(delete(limit_waits).where(_w.task_id.in_(task_ids)))
