"""What a worker's parent tells the ledger in the place of a child that cannot speak any more.

The parent keeps no connection, which a fork could inherit. When it cannot reach the ledger it lets go: the lease of the
attempt runs out, and the monitor does the same.
"""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple

from ledger import db, queries, transitions
from settings import settings
from tasks import failure, log

logger = logging.getLogger(__name__)


class Child(NamedTuple):
    """Whose ticket it was. There may be two tickets of one attempt, one of them in a child that froze before its claim:
    what becomes of that one says nothing of the other, which won."""

    worker: str
    #: None when it died before its parent learned which one has the ticket.
    pid: int | None


def worker_lost(task_id: str, number: int, reason: str, *, child: Child | None = None) -> None:
    """The child died that had this attempt; without a child, whoever had it."""
    _act_for(task_id, number, failure.silent("WorkerLost", f"the worker process died: {reason}"), child)


def timed_out(task_id: str, number: int, seconds: float, *, child: Child | None = None) -> None:
    """The child did not heed the task's timeout, and was ended."""
    _act_for(task_id, number, failure.silent("TimeoutError", f"was ended after {seconds:g} s"), child)


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
        _act_for(task_id, number, failure.silent("UnknownTaskType", reason), Child(worker, os.getpid()))
    return claim is not None


def _act_for(task_id: str, number: int, error: dict[str, Any], child: Child | None) -> None:
    with log.about(task_id, number):
        try:
            row = queries.standing(task_id)
            if row is None or row.attempt != number or not _has_claimed(child, task_id, number):
                return
            won = failure.settle_for(row, error)
            logger.warning(
                "%s: %s", row.task_type, error["message"], extra={"action": "worker_lost", "won": won}
            )
        except db.Unavailable:
            logger.warning("the ledger does not answer, leaving a dead attempt to its lease")
        finally:
            db.ledger().dispose()


def _has_claimed(child: Child | None, task_id: str, number: int) -> bool:
    if child is None:
        return True
    claim = queries.claimant(task_id, number)
    if claim is None or claim["worker"] != child.worker:
        return False
    # Workers of an older version do not say which child it was.
    return child.pid is None or claim.get("pid", child.pid) == child.pid
