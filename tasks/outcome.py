"""Waits for a task's end, for callers who want an answer at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from ledger import queries
from ledger.callers import EVERYBODY, Caller
from ledger.states import FINAL

_FIRST_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.25


def wait(
    task_id: str, seconds: float, *, caller: Caller = EVERYBODY, unless: Callable[[], bool] = lambda: False
) -> Row[Any] | None:
    """The task once it is over, or None when it is not within so many seconds, or when there is a reason to leave."""
    until, pause = time.monotonic() + seconds, _FIRST_POLL_SECONDS
    while True:
        state = queries.state(task_id, caller=caller)
        if state is None:
            return None
        if state in FINAL:
            return queries.task(task_id, caller=caller)
        if time.monotonic() >= until or unless():
            return None
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)
