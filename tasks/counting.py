"""What the leading monitor counts for `/metrics`: what waits and runs, branches in doubt, webhooks that are late.

A scrape reads what was counted last (`ledger.figures`), so that it costs the same whatever there is to count. Counting
a million waiting tasks takes its time: nobody counts again for so many times as long.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import celery_config
from ledger import backlog, db, deliveries, figures, xa
from ledger.states import ACTIVE, LIVE, State
from ledger.xa import BranchId

log = logging.getLogger(__name__)

#: Counting takes at most one part in so many of the monitor's time.
RESTS = 9

Named = Iterator[tuple[tuple[str, str], float]]


@dataclass
class Counting:
    """One monitor's. Of branches in doubt it remembers since when it has seen them: no server tells."""

    seen_since: dict[BranchId, float] = field(default_factory=dict)
    _rests_until: float = 0.0

    def count(self) -> None:
        """Count everything, and write it down, unless the last time was long and a moment ago."""
        began = time.monotonic()
        if began < self._rests_until:
            return
        figures.write(dict([*_tasks(), *self._branches(), *_webhooks()]))
        self._rests_until = time.monotonic() + (time.monotonic() - began) * RESTS

    def _branches(self) -> Named:
        now, seen = time.monotonic(), dict[BranchId, float]()
        for database in db.data_names():
            try:
                branches = xa.recover(database)
            except xa.OUT_OF_REACH as error:
                log.debug("cannot see the branches of %s: %s", database, error)
                # They are there as before, for all that is known.
                seen |= {branch: since for branch, since in self.seen_since.items() if branch.database == database}
                yield ("database_reachable", database), 0
                continue
            since = {branch: self.seen_since.get(branch, now) for branch in branches}
            seen |= since
            yield ("database_reachable", database), 1
            yield ("in_doubt", database), len(branches)
            yield ("in_doubt_seconds", database), now - min(since.values(), default=now)
        self.seen_since = seen


def _tasks() -> Named:
    """Every state and every queue, so that a figure does not vanish when there is nothing more to count."""
    live = backlog.live()
    states = Counter[str]()
    for (_, state), number in live.items():
        states[state] += number
    for state in sorted(LIVE):
        yield ("tasks", state), states[state]
    for queue in celery_config.queue_names():
        ready = live.get((queue, State.QUEUED), 0)
        yield ("queue_waiting", queue), ready
        yield ("queue_running", queue), sum(live.get((queue, state), 0) for state in ACTIVE)
        yield ("queue_unsent", queue), backlog.unsent(queue) if ready else 0
        yield ("queue_oldest_seconds", queue), (backlog.oldest_seconds(queue) or 0) if ready else 0


def _webhooks() -> Named:
    number, seconds = deliveries.waiting()
    yield ("webhooks_waiting", ""), number
    yield ("webhooks_late_seconds", ""), seconds
