"""The one statement behind every change of a task's state: a guarded UPDATE, with its audit row beside it.

A move into a final state also leaves an ending for those who wait for the task (`ledger.dependents`), and a move of
which its webhook wants to know leaves a delivery (`ledger.outbox`), in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, insert, null, select, text, update
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.sql.elements import ClauseElement, ColumnElement

from ledger import db, outbox, trail
from ledger.models import dependencies, endings, events, tasks
from ledger.states import MOVES, Move, State
from ledger.trail import Event

NOW = db.NOW


class Stale(Exception):
    """The task has changed since the caller looked at it; look again."""


def move(
    connection: Connection,
    name: str,
    task_id: str,
    *,
    values: dict[str, Any],
    attempt: int | None = None,
    event_attempt: int | None = None,
    remark: str | None = None,
    detail: Any = None,
    also: ColumnElement[bool] | None = None,
    has_webhook: bool = True,
) -> bool:
    """Make a named move, if the row allows it; whether it did. `also` is what more it must allow. Whoever knows that
    the task has no webhook spares a look."""
    move = MOVES[name]
    expressions = {column: value for column, value in values.items() if isinstance(value, ClauseElement)}
    told = {column: value for column, value in values.items() if column not in expressions}
    held = {"this_id": task_id} | ({"this_attempt": attempt} if move.fenced else {})
    result = connection.execute(_guarded(name, also, tuple(expressions.items())), told | held)
    if result.rowcount != 1:
        return False
    number = event_attempt if event_attempt is not None else attempt
    assert number is not None
    trail.write(connection, [Event(task_id, name, move.enters, number, remark, detail)])
    _leave_word(connection, move, [task_id], told=[task_id] if has_webhook else [])
    return True


@lru_cache(maxsize=256)
def _guarded(name: str, also: ColumnElement[bool] | None, expressions: tuple[tuple[str, ClauseElement], ...]) -> Update:
    """The UPDATE of a move. Putting it together takes longer than the database takes to do it, so it is kept, as long
    as it is asked for with the same expressions."""
    move = MOVES[name]
    guard = [tasks.c.id == bindparam("this_id"), db.among(tasks.c.state, move.leaves)]
    if move.fenced:
        guard.append(tasks.c.attempt == bindparam("this_attempt"))
    if also is not None:
        guard.append(also)
    return update(tasks).where(and_(*guard)).values({"state": move.enters, "updated_at": NOW, **dict(expressions)})


def change(
    connection: Connection,
    task_id: str,
    state: State,
    attempt: int,
    *,
    values: dict[str, Any],
    remark: str,
    detail: Any,
) -> bool:
    """Change a task that stays in its state, with the audit row `edited`; whether it still was in that state."""
    result = connection.execute(
        update(tasks).where(tasks.c.id == task_id, tasks.c.state == state).values(updated_at=NOW, **values)
    )
    if result.rowcount != 1:
        return False
    trail.write(connection, [Event(task_id, "edited", state, attempt, remark, detail)])
    return True


def many(
    connection: Connection,
    name: str,
    rows: Sequence[Any],
    *,
    values: dict[str, Any] | None = None,
    attempt: int | None = None,
    remark: str | None = None,
    detail: Any = None,
    told: Collection[str] | None = None,
) -> None:
    """The same for many tasks at once, rows with id and attempt, which the caller has locked in a state that the move
    leaves. `attempt` is the one that the move begins; `told` are those that have a webhook, as far as that is known."""
    if not rows:
        return
    move, task_ids = MOVES[name], [row.id for row in rows]
    connection.execute(
        update(tasks)
        .where(db.among(tasks.c.id, task_ids), db.among(tasks.c.state, move.leaves))
        .values(**{"state": move.enters, "updated_at": NOW, **(values or {})})
    )
    attempts = [row.attempt if attempt is None else attempt for row in rows]
    moved = zip(task_ids, attempts, strict=True)
    trail.write(connection, [Event(task_id, name, move.enters, number, remark, detail) for task_id, number in moved])
    _leave_word(connection, move, task_ids, told=task_ids if told is None else told)


def _leave_word(connection: Connection, move: Move, task_ids: Collection[str], *, told: Collection[str]) -> None:
    """For those who want to know of it."""
    if move.enters.is_final:
        _leave_endings(connection, task_ids)
    if told and move.enters in outbox.LEFT_BY_MOVES:
        outbox.put(connection, move, told)


def _leave_endings(connection: Connection, task_ids: Collection[str]) -> None:
    """A note for each that others depend on. It costs a look into an index where there are none."""
    connection.execute(_ENDINGS, {"ended": sorted(task_ids)})


_AWAITED = select(dependencies.c.parent, null()).where(dependencies.c.parent.in_(bindparam("ended", expanding=True)))
# One that was tried again, and ends for a second time, is told of from the beginning.
_ENDINGS = (
    upsert(endings)
    .from_select(["parent", "told_until"], _AWAITED.distinct())
    .on_duplicate_key_update(told_until=None)
)


def note(connection: Connection, task_id: str, event: str, words: str, *, detail: Any = None) -> None:
    connection.execute(
        insert(events).from_select(
            ["task_id", "at", "event", "state", "attempt", "remark", "detail"],
            select(
                tasks.c.id,
                NOW,
                bindparam("event", event),
                tasks.c.state,
                tasks.c.attempt,
                bindparam("remark", words),
                bindparam("detail", detail, type_=events.c.detail.type),
            ).where(tasks.c.id == task_id),
        )
    )


def count(connection: Connection, name: str, by: int) -> None:
    connection.execute(
        text(
            "INSERT INTO counters (name, value) VALUES (:name, :by) ON DUPLICATE KEY UPDATE value = value + :by"
        ),
        {"name": name, "by": by},
    )
