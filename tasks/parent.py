"""What a worker's parent tells the ledger in the place of a child that cannot speak any more.

The parent keeps no connection, which a fork could inherit. When it cannot reach the ledger it lets go: the lease of the
attempt runs out, and the monitor does the same.
"""

from __future__ import annotations

import logging
from typing import Any

from ledger import db, queries, transitions
from settings import settings
from tasks import failure, log

logger = logging.getLogger(__name__)


def worker_lost(task_id: str, number: int, reason: str) -> None:
    """The child died that had this attempt."""
    _act_for(task_id, number, failure.silent("WorkerLost", f"the worker process died: {reason}"))


def timed_out(task_id: str, number: int, seconds: float) -> None:
    """The child did not heed the task's timeout, and was ended."""
    _act_for(task_id, number, failure.silent("TimeoutError", f"was ended after {seconds:g} s"))


def refused(task_id: str, number: int, *, worker: str, reason: str) -> bool:
    """This worker cannot do the task's type: the attempt fails, so that the task says why it waits. False when no task
    waits for this ticket."""
    with log.about(task_id, number):
        try:
            claim = transitions.claim(task_id, number, worker=worker, lease_seconds=settings().lease_seconds)
        except db.Unavailable:
            return False
        finally:
            db.ledger().dispose()
    if claim is not None:
        _act_for(task_id, number, failure.silent("UnknownTaskType", reason))
    return claim is not None


def _act_for(task_id: str, number: int, error: dict[str, Any]) -> None:
    with log.about(task_id, number):
        try:
            row = queries.standing(task_id)
            if row is None or row.attempt != number:
                return
            won = failure.settle_for(row, error)
            logger.warning(
                "%s: %s", row.task_type, error["message"], extra={"action": "worker_lost", "won": won}
            )
        except db.Unavailable:
            logger.warning("the ledger does not answer, leaving a dead attempt to its lease")
        finally:
            db.ledger().dispose()
