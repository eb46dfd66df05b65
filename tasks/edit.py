"""Edits a task that waits, and sends the ticket that the change makes necessary."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import celery_config
from ledger import editing, queries
from ledger.callers import EVERYBODY, Caller
from ledger.editing import Change
from ledger.moving import Stale as Stale  # noqa: PLC0414  what an edit raises
from ledger.states import State
from tasks import catalog, relay
from tasks.revoke import UnknownTask


class NotWaiting(Exception):
    """Only a task that waits can be changed; this one is running, or over."""

    def __init__(self, task_id: str, state: State) -> None:
        self.task_id, self.state = task_id, state
        super().__init__(f"the task is {state}; only a task that waits can be changed")


def edit(
    task_id: str, change: Change, *, by: str, seen_at: datetime | None = None, caller: Caller = EVERYBODY
) -> None:
    """Change a waiting task. Raises UnknownTask, catalog.NotForYou, NotWaiting, Stale, and `db.Unavailable`."""
    row = queries.task(task_id, caller=caller)
    if row is None:
        raise UnknownTask(task_id)
    catalog.insist(row.task_type, caller=caller)
    if change.priority is not None:
        queue = celery_config.queue_name(celery_config.worker_of(row.queue), change.priority)
        change = replace(change, queue=queue)
    done = editing.edit(task_id, change, remark=f"by {by}", seen_at=seen_at, caller=caller)
    if done is None:
        raise UnknownTask(task_id)
    if not done.won:
        raise NotWaiting(task_id, done.state)
    if done.ticket is not None:
        relay.send_soon([done.ticket])
