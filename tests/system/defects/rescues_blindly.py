"""The monitor takes a task back from a silent attempt by its id alone, whatever became of it since it was found."""

from __future__ import annotations

from sqlalchemy import insert, update

import failpoints
from ledger import db
from ledger.models import events, tasks
from ledger.queries import Standing
from ledger.states import State
from tasks import resolve


def _expire(row: Standing) -> bool:
    failpoints.reach("f15")
    with db.transaction() as connection:
        rescued = {"state": State.RETRYING, "due_at": db.NOW, "lease_until": None, "updated_at": db.NOW}
        connection.execute(update(tasks).where(tasks.c.id == row.task_id).values(**rescued))
        told = {"event": "retried", "state": State.RETRYING, "attempt": row.attempt, "at": db.NOW}
        connection.execute(insert(events).values(task_id=row.task_id, **told))
    return True


resolve._expire = _expire
