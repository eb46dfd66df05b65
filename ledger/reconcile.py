"""Adds up: what was accepted is over or alive, and a queued task has its ticket in the broker.

The first is read from one snapshot, so that it holds to the last task while the service works. The broker cannot be
read in the same instant: tasks whose ticket is younger than `settled_seconds` are not compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import and_, func, select

from ledger import db
from ledger.db import earlier
from ledger.models import events, tasks
from ledger.states import ACTIVE, FINAL, State

#: The type of a task of which only an event is left.
NO_TASK = "(no row)"


@dataclass(frozen=True)
class Sum:
    """The tasks of one type. `accepted` counts the events that say so, `states` the rows."""

    task_type: str
    accepted: int
    states: Mapping[str, int]

    @property
    def terminal(self) -> int:
        return sum(number for state, number in self.states.items() if State(state).is_final)

    @property
    def live(self) -> int:
        return sum(self.states.values()) - self.terminal

    @property
    def missing(self) -> int:
        """Accepted and neither over nor alive; less than none when there are rows that nobody accepted."""
        return self.accepted - self.terminal - self.live


@dataclass(frozen=True)
class Waiting:
    """A queue by the ledger: tasks with a ticket, those of them that have had it for a while, and those at work."""

    queued: int = 0
    settled: int = 0
    active: int = 0

    def lost(self, *, ready: int, unacked: int) -> int:
        """Tickets that the broker ought to hold and does not. One in a worker's hands may not be claimed yet."""
        return max(0, self.settled - ready - max(0, unacked - self.active))


def sums() -> list[Sum]:
    """Every type, by name."""
    with db.reading() as pooled:
        books = pooled.execution_options(isolation_level="REPEATABLE READ")
        task_type = func.coalesce(tasks.c.task_type, NO_TASK)
        accepted = books.execute(
            select(task_type, func.count())
            .select_from(events)
            .outerjoin(tasks, tasks.c.id == events.c.task_id)
            .where(events.c.event == "accepted")
            .group_by(task_type)
        )
        counted: dict[str, int] = {row[0]: row[1] for row in accepted}
        states: dict[str, dict[str, int]] = {}
        for name, state, number in books.execute(
            select(tasks.c.task_type, tasks.c.state, func.count()).group_by(tasks.c.task_type, tasks.c.state)
        ):
            states.setdefault(name, {})[state] = number
    return [Sum(name, counted.get(name, 0), states.get(name, {})) for name in sorted({*counted, *states})]


def waiting(settled_seconds: float) -> dict[str, Waiting]:
    """Every queue that has a task that is not over."""
    is_queued = tasks.c.state == State.QUEUED
    has_settled = and_(is_queued, tasks.c.dispatched_at < earlier(settled_seconds))
    with db.reading() as books:
        rows = books.execute(
            select(
                tasks.c.queue,
                func.count(func.if_(is_queued, 1, None)),
                func.count(func.if_(has_settled, 1, None)),
                func.count(func.if_(tasks.c.state.in_(sorted(ACTIVE)), 1, None)),
            )
            .where(tasks.c.state.not_in(sorted(FINAL)))
            .group_by(tasks.c.queue)
        )
        return {queue: Waiting(*numbers) for queue, *numbers in rows}
