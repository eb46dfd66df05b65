"""Finds queues that RabbitMQ could not bring back after a crash, and declares them anew.

A quorum queue is a process on each of its nodes. One that RabbitMQ cannot start when it comes up, because its disk had
not been told of the queue yet, stays on its list: a look at it answers "empty", it can be declared, and whatever wants
a ticket into it or out of it meets nobody. RabbitMQ does not mend that by itself, not by another start either.

Deleting it loses tickets at most, which the ledger notices and sends again, and never a task. But a queue that is
merely slow, or that waits for most of its nodes, holds tickets that will be there again, so it is deleted only when

* RabbitMQ itself says that there is no such process (`noproc`). One that is slow, or without a majority, lets the
  question time out; whose node is down, RabbitMQ says that;
* it says so in each look for PATIENCE_SECONDS, without an outage in between: after the death of a node that led, the
  others agree on another within some of them.

Only queues that took no tickets are looked at often. All of them are looked at from time to time, because nobody would
miss a queue for dead letters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import celery_config
from ledger import leadership
from tasks import broker
from tasks.dispatch import BrokerUnavailable

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
#: Seconds between two looks at all queues. Each look at an empty one is a line in its log on RabbitMQ's disk.
ALL_SECONDS = 30.0


class Mending:
    """Remembers since when a queue has been dead."""

    def __init__(self) -> None:
        self._dead_since: dict[str, float] = {}
        #: Those that did not answer; asked again when all are.
        self._mute: set[str] = set()
        self._told: set[str] = set()
        self._all_at = 0.0

    def mend(self, silent: Collection[str]) -> list[str]:
        """One round; answers which queues were declared anew. `silent` are those that took no tickets."""
        now = time.monotonic()
        try:
            answers = {name: broker.is_dead(name) for name in self._asked(silent, now)}
        except BrokerUnavailable:
            self._dead_since.clear()
            raise
        self._remember({name for name, answer in answers.items() if answer is None})
        self._dead_since = {name: self._dead_since.get(name, now) for name, is_dead in answers.items() if is_dead}
        mended = [name for name, since in self._dead_since.items() if since < now and now - since >= PATIENCE_SECONDS]
        for name in mended:
            self._declare_anew(name)
        return mended

    def _remember(self, mute: set[str]) -> None:
        self._mute |= mute
        for name in sorted(mute - self._told):
            words = "queue %s does not say whether it lives: it is slow, misses other nodes, or may not be read here"
            log.warning(words, name, extra={"action": "queue_mute", "queue": name})
        self._told |= mute

    def _asked(self, silent: Collection[str], now: float) -> set[str]:
        if now < self._all_at:
            return {*silent, *self._dead_since} - self._mute
        self._all_at, self._mute = now + ALL_SECONDS, set()
        return {queue.name for queue in celery_config.all_queues()}

    def _declare_anew(self, name: str) -> None:
        leadership.check()
        broker.declare_anew(name)
        del self._dead_since[name]
        log.error("RabbitMQ had lost queue %s, it was declared anew", name, extra={"action": "queue_mended"})
