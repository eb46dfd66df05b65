"""What is known of tickets: which are due, which the broker has, and which it has lost or given up on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, literal_column, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, moving, tickets, trail
from ledger.models import events, tasks
from ledger.states import MOVES, State
from ledger.tickets import Place, Ticket
from ledger.trail import Event

NOW = db.NOW


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
            connection.execute(_MARK, {"ids": sorted(task_ids), "before": attempt - 1, "of": queue})

    db.transact(work)


#: Made once: the door sends it for every few posts.
_MARK = (
    update(tasks)
    .where(
        tasks.c.id.in_(bindparam("ids", expanding=True)),
        tasks.c.state == State.QUEUED,
        tasks.c.attempt == bindparam("before"),
        tasks.c.queue == bindparam("of"),
    )
    .values(dispatched_at=NOW, dispatches=tasks.c.dispatches + 1)
)


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
        trail.write(connection, [Event(row.id, "redispatched", State.QUEUED, row.attempt, words) for row in rows])
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
