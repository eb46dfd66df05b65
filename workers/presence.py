"""Tells the ledger every few seconds that this worker is there, and what it can do.

It is the parent's event loop that tells, not a thread or a process beside it: what stands still must not be reported
alive. So a beat has to be short. It opens a connection, says one statement and closes it, because a fork would inherit
a connection that is kept: 1.7 ms of processor time. When the ledger does not answer, the beat gives up after half a
second and the next ones are left out for a while, in which the children could not do anything either. The figures and
the other ways are in docs/decisions/0006-workers-tell-that-they-live.md.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from celery.worker import state
from sqlalchemy.exc import DBAPIError

from ledger import db, presence

log = logging.getLogger(__name__)

#: Seconds for which a ledger that did not answer is left alone.
REST_SECONDS = 3.0


class Beats:
    """The beats of one worker process."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.incarnation = str(uuid.uuid4())
        self.reaches_broker = False
        self._next_at = 0.0
        self._has_arrived = False
        self._is_resting = False

    def beat(self, *, reaches_broker: bool = True) -> None:
        """Write this worker's row, unless it was written a moment ago, or the ledger is to be left alone."""
        self.reaches_broker = reaches_broker
        if time.monotonic() < self._next_at:
            return
        said = self._said(reaches_broker)
        self._is_resting = not self._told(presence.beat if self._has_arrived else presence.arrive, said)
        self._has_arrived = self._has_arrived or not self._is_resting
        # A little less than the timer's step, or every other beat would come too early by a hair.
        pause = REST_SECONDS if self._is_resting else 0.75 * presence.BEAT_SECONDS
        self._next_at = time.monotonic() + pause

    def beat_now(self) -> None:
        """Something has changed that others should know, such as that RabbitMQ is back."""
        if not self._is_resting:
            self._next_at = 0.0
        self.beat()

    def end(self) -> None:
        """Take the row away. A ledger that did not answer the last time is not waited for."""
        if self._has_arrived and not self._is_resting:
            self._told(presence.leave, self._said(False))

    def _told(self, tell: Any, said: presence.Presence) -> bool:
        try:
            tell(said)
        except (db.Unavailable, DBAPIError) as error:
            log.warning("cannot tell the ledger that this worker is here: %s", error, extra={"action": "beat_missed"})
            return False
        return True

    def _said(self, reaches_broker: bool) -> presence.Presence:
        children = self.worker.pool._pool if self.worker.pool is not None else None
        return presence.Presence(
            name=self.worker.hostname,
            kind=self.worker.kind,
            queues=self._queues(),
            concurrency=self.worker.concurrency,
            free=max(0, children.free) if children is not None else 0,
            reaches_broker=reaches_broker,
            leaving=self.is_leaving,
            incarnation=self.incarnation,
        )

    @property
    def is_leaving(self) -> bool:
        return state.should_stop is not None or state.should_terminate is not None

    def _queues(self) -> tuple[str, ...]:
        return tuple(queue.name for queue in self.worker.app.amqp.queues.consume_from.values())
