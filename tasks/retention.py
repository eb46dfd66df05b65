"""Purges what has been over for longer than the operator wants to keep it, a small batch at a time.

A task stays, however old, while a branch of it is prepared anywhere, and while one of its databases is not among the
configured ones: nobody could say then that nothing of it is left there. When any database is away, or the storage
folder, nothing is purged. The files that a task made go with it; what people uploaded stays.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from ledger import db, leadership, retention, xa
from ledger.retention import Over
from ledger.states import FINAL, State
from settings import settings
from tasks import storage

log = logging.getLogger(__name__)

BATCH = 200
#: Seconds between two passes over all that is there.
PASS_SECONDS = 600.0


def keep_days(state: State) -> float:
    """0 means for ever."""
    return settings().keep_failed_days if state is State.FAILED else settings().keep_days


@dataclass
class Pass:
    """How far a pass over a state's tasks has come."""

    after: str = ""
    rests_until: float = 0.0


@dataclass
class Purge:
    """One monitor's passes."""

    passes: dict[State, Pass] = field(default_factory=lambda: {state: Pass() for state in sorted(FINAL)})

    def go_on(self) -> int:
        """A batch of each state that is not through; answers how many tasks were purged."""
        return sum(
            self._batch(state, each, keep_days(state))
            for state, each in self.passes.items()
            if keep_days(state) and time.monotonic() >= each.rests_until
        )

    def _batch(self, state: State, each: Pass, days: float) -> int:
        found = retention.over(state, days=days, after=each.after, limit=BATCH)
        old = [task for task in found if task.is_old]
        try:
            purged = _purge(old, state, days) if old else 0
        except (*xa.OUT_OF_REACH, OSError) as error:
            log.warning("purges nothing for now: %s", error, extra={"action": "purge_postponed"})
            each.rests_until = time.monotonic() + PASS_SECONDS
            return 0
        each.after = found[-1].task_id if found else ""
        if len(found) < BATCH:
            each.after, each.rests_until = "", time.monotonic() + PASS_SECONDS
        return purged


def _purge(old: list[Over], state: State, days: float) -> int:
    databases = db.data_names()
    # After the rows were read: what is over begins no branch any more.
    in_doubt = {branch.task_id for name in databases for branch in xa.recover(name)}
    doomed = [task for task in old if task.task_id not in in_doubt and set(task.participants) <= set(databases)]
    if not doomed:
        return 0
    retention.note(doomed, state, days=days)
    for name in databases:
        leadership.check()
        retention.forget_markers(doomed, name)
    return retention.purge(doomed, state, days=days, first=storage.forget_outputs)
