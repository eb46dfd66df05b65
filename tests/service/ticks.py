"""A schedule's ticks by hand: they come when a test says so, and whoever goes round looks at them."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import select, text, update

from ledger import db, queries, schedules
from ledger.callers import Caller, Scope
from ledger.filters import Filter
from ledger.models import firings as fired
from ledger.models import schedules as rows
from ledger.models import tasks
from ledger.schedules import Schedule
from tasks import schedules as ticking
from tests.doors import MASTER

#: As the key that the tests have anyway acts.
TESTS = Caller("tests", frozenset({Scope.ADMIN}), key_id=MASTER.key_id)
_numbers = count()


def schedule(caller: Caller = TESTS, **more: Any) -> str:
    given: dict[str, Any] = {
        "name": f"new-year-{next(_numbers)}",
        "cron": "0 0 1 1 *",
        "timezone": "UTC",
        "task": {"task_type": "test_quick"},
    }
    return ticking.create(Schedule(**given | more), caller=caller)


def row(schedule_id: str) -> Any:
    return schedules.get(schedule_id)


def now() -> datetime:
    with db.reading() as connection:
        found: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    return found.replace(microsecond=0)


def wait_for(schedule_id: str, tick: datetime) -> datetime:
    """Let it wait for another tick."""
    with db.transaction() as connection:
        connection.execute(update(rows).where(rows.c.id == schedule_id).values(next_tick=tick, due_at=tick))
    return tick


def come(schedule_id: str, seconds_ago: float = 0) -> datetime:
    """Let its next tick be one that has come."""
    return wait_for(schedule_id, now() - timedelta(seconds=seconds_ago))


def go_round() -> int:
    """What a monitor does, until nothing is due; how many tickets there are to send."""
    tickets = 0
    while due := schedules.due():
        tickets += sum(ticking.fire(each) is not None for each in due)
    return tickets


def ticks(schedule_id: str) -> list[datetime]:
    """The ticks that have tasks, each with a row of its own."""
    with db.reading() as connection:
        found = connection.execute(
            select(fired.c.tick)
            .join(tasks, tasks.c.id == fired.c.task_id)
            .where(fired.c.schedule_id == schedule_id)
            .order_by(fired.c.task_id)
        )
        return list(found.scalars())


def tasks_of(schedule_id: str) -> list[str]:
    return [each.id for each in queries.page(Filter(schedule=schedule_id)).rows][::-1]
