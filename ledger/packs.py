"""Moves of a pack: many first attempts that are claimed in one transaction and settled in one.

Every row is moved under the same guards as alone, with the same audit rows. What does not pass the guard is left as it
is, and whoever has its ticket asks for it alone (`ledger.transitions`), where it is said why. Rows are locked in the
order of their ids, so that no two packs wait for each other; a claim passes over what others have locked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, case, func, literal, select
from sqlalchemy.sql.elements import ColumnElement, TextClause

from ledger import db, limits, moving, outbox, pauses, transitions
from ledger.models import tasks
from ledger.states import MOVES, State
from ledger.tickets import Terms
from ledger.transitions import Claim

#: Only first attempts go in packs: whoever has failed before, or taken a child with it, goes alone.
FIRST = 1


def claim(
    tickets: Mapping[str, Terms], *, worker: str, lease_seconds: float, better_queues: Sequence[str] = ()
) -> list[Claim]:
    """Take the tasks that nothing stands in the way of, by their ids and the terms of their tickets. All together they
    count as one inversion when a task of the better queues is ready."""

    def work(connection: Connection) -> list[Claim]:
        free = _held(
            connection,
            tickets,
            transitions.CLAIMED,
            State.QUEUED,
            FIRST - 1,
            transitions.is_in_time(),
            pauses.is_open(),
            limits.IS_FREE,
            waits=False,
        )
        rows = [row for row in free if Terms(row.queue, row.timeout_seconds) == tickets[row.id]]
        values = transitions.begun(FIRST, worker=worker, lease_seconds=lease_seconds)
        moving.many(connection, "claimed", rows, values=values, attempt=FIRST, detail=transitions.claimant(worker))
        if _is_limited(connection, [row.id for row in rows]):
            raise _Limited
        if told := [row.id for row in rows if row.webhook]:
            outbox.put(connection, MOVES["claimed"], told)
        if rows:
            transitions.count_inversion(connection, rows[0].id, better_queues)
        return [Claim(row.id, FIRST, *row[2:]) for row in rows]

    try:
        return db.transact(work)
    except _Limited:
        return []


class _Limited(Exception):
    """A limit was set between the look at the tasks and their claim: each of them goes alone, and asks it."""


def _is_limited(connection: Connection, task_ids: Sequence[str]) -> bool:
    """Whoever counts under a limit that is young waits for tasks that are moved already (`limits.locked`), so that none
    is overlooked which are moved before this looks."""
    if not task_ids:
        return False
    free = select(func.count()).select_from(tasks).where(tasks.c.id.in_(task_ids), limits.IS_FREE)
    return connection.execute(free).scalar_one() < len(task_ids)


def finish(results: Mapping[str, Any]) -> set[str]:
    """Success of attempts that have no participants and told no progress, by task id; answers which are won. A loss
    means the same as alone."""

    def work(connection: Connection) -> set[str]:
        rows = _held(connection, results, [tasks.c.webhook], State.RUNNING, FIRST)
        values = transitions.ended() | {"participants": [], "result": _by_id({row.id: results[row.id] for row in rows})}
        moving.many(connection, "finished", rows, values=values, told=[row.id for row in rows if row.webhook])
        if lost := len(results) - len(rows):
            moving.count(connection, transitions.lost("finished"), lost)
        return {row.id for row in rows}

    return db.transact(work)


def hand_back(task_ids: Collection[str], *, remark: str) -> None:
    """The attempts were never begun: their tasks are queued again, and no retry is used up."""

    def work(connection: Connection) -> None:
        rows = _held(connection, task_ids, [], State.RUNNING, FIRST)
        moving.many(connection, "handed_back", rows, values=dict(transitions.LET_GO), remark=remark)

    db.transact(work)


def _held(
    connection: Connection,
    task_ids: Collection[str],
    columns: Sequence[ColumnElement[Any]],
    state: State,
    attempt: int,
    *also: ColumnElement[bool] | TextClause,
    waits: bool = True,
) -> Sequence[Any]:
    """Those that are in that state, locked until the transaction ends: id, attempt and these columns."""
    return connection.execute(
        select(tasks.c.id, tasks.c.attempt, *columns)
        .where(tasks.c.id.in_(task_ids), tasks.c.state == state, tasks.c.attempt == attempt, *also)
        .order_by(tasks.c.id)
        .with_for_update(skip_locked=not waits)
    ).all()


def _by_id(results: Mapping[str, Any]) -> ColumnElement[Any]:
    kind = tasks.c.result.type
    return case({task_id: literal(result, kind) for task_id, result in results.items()}, value=tasks.c.id)
