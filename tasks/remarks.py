"""Says on a task that waits without progress why it does, in the words of `explain`, once for each new cause.

A round looks at the longest waiting few of each queue, and at a few of each other kind of delay: what keeps them keeps
those behind them. So its work is bounded, whatever number waits. RabbitMQ is asked once and a database that is away
once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, Select

import celery_config
from ledger import db, remarks
from ledger.models import tasks
from ledger.remarks import Wait
from ledger.states import State
from tasks import inquiry
from tasks.evidence import Evidence
from tasks.explain import Cause, explain

log = logging.getLogger(__name__)

#: Seconds beyond the moment at which it should have gone on after which a task's wait is explained.
LATE_SECONDS = 10.0
#: Tasks of one queue, or of one kind of delay, that a round looks at.
SAMPLE = 20

#: Nothing has to be said of a task that goes on.
_GOES_ON = frozenset({Cause.FINISHED, Cause.RUNNING, Cause.STARTING, Cause.COMMITTING})


def leave() -> int:
    """One round; answers how many remarks were written."""
    late = list(_late())
    if not late:
        return 0
    found = {each.task.task_id: each for each in inquiry.about_some(late)}
    known = remarks.told(found)
    return sum(_remark(each, known) for each in found.values())


def _remark(found: Evidence, known: set[Wait]) -> bool:
    task, reason = found.task, explain(found)
    wait = Wait(task.task_id, task.state, task.attempt, reason.cause)
    if reason.cause in _GOES_ON or wait in known:
        return False
    # Not the sentence: it may repeat an error's words, and those a parameter.
    log.info("a task waits", extra={"action": "task_waits", "task_id": task.task_id, "cause": reason.cause})
    return remarks.explain(wait, reason.sentence)


def _late() -> Iterator[Row[Any]]:
    with db.reading() as connection:
        for statement in _late_ones():
            yield from connection.execute(statement).all()


def _late_ones() -> Iterator[Select[Any]]:
    """Each is read off the head of an index. Tasks of one queue come in the order in which workers take them."""
    since, some = db.earlier(LATE_SECONDS), inquiry.rows().limit(SAMPLE)
    for queue in celery_config.queue_names():
        ready = some.where(tasks.c.state == State.QUEUED, tasks.c.queue == queue)
        yield ready.where(tasks.c.dispatched_at < since).order_by(tasks.c.dispatched_at, tasks.c.id)
        yield ready.where(tasks.c.dispatched_at.is_(None), tasks.c.updated_at < since).order_by(tasks.c.id)
    for state in (State.SCHEDULED, State.RETRYING):
        yield some.where(tasks.c.state == state, tasks.c.due_at < since).order_by(tasks.c.due_at)
    silent = some.where(tasks.c.state == State.RUNNING, tasks.c.lease_until < since)
    yield silent.order_by(tasks.c.lease_until)
    for state in (State.COMMITTING, State.REVOKING, State.THROTTLED):
        yield some.where(tasks.c.state == state, tasks.c.updated_at < since).order_by(tasks.c.id)
