"""The one way out: stop a task, with a verdict that is true for ever.

The row decides: whichever of a stop (`running -> revoking`) and the attempt's decision (`running -> committing`) wins
it, the other learns. Everything after that only hurries: the attempt notices within a moment; when it does not, because
it sits in a long statement, is frozen or dead, its database connections are killed and the branches are rolled back
from here. Needs neither broker nor Redis nor a worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import failpoints
from ledger import db, queries, transitions, xa
from ledger.callers import EVERYBODY, Caller
from ledger.queries import Standing
from ledger.states import WAITING, State
from settings import settings
from tasks import catalog

log = logging.getLogger(__name__)

#: Seconds a stop waits for the rollback before it answers `stopping`.
WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.02


class Verdict(StrEnum):
    #: No attempt was running. Nothing of it is there, and none will run.
    STOPPED_BEFORE_START = "stopped_before_start"
    #: An attempt was running; all that it did has been undone.
    ROLLED_BACK = "rolled_back"
    #: The task had ended before; the stop changed nothing.
    ALREADY_FINISHED = "already_finished"
    #: The stop came after the decision: the task's effects stay.
    TOO_LATE_COMMITTED = "too_late_committed"
    #: Decided, nothing of it will become true; the undoing still goes on.
    STOPPING = "stopping"


class UnknownTask(Exception):
    """There is no such task."""


@dataclass(frozen=True)
class Stop:
    """What a stop answers. The row counts stand for a task that writes to databases, and are None for others."""

    task_id: str
    verdict: Verdict
    state: State
    rows_undone: int | None = None
    rows_remaining: int | None = None

    @property
    def took_effect(self) -> bool:
        return self.verdict in (Verdict.STOPPED_BEFORE_START, Verdict.ROLLED_BACK, Verdict.STOPPING)


def stop(
    task_id: str,
    *,
    by: str,
    wait_seconds: float = WAIT_SECONDS,
    seen_at: datetime | None = None,
    caller: Caller = EVERYBODY,
) -> Stop:
    """Take a task back. `seen_at` is the row's `updated_at` as the caller knows it.

    Raises UnknownTask, Stale when the row moved since, and `db.Unavailable` before anything was decided.
    """
    until = time.monotonic() + wait_seconds
    while True:
        moved = transitions.stop(task_id, remark=f"by {by}", seen_at=seen_at, caller=caller)
        seen_at = None
        if moved is None:
            raise UnknownTask(task_id)
        before, now = moved.before, moved.now
        if before in WAITING:
            _log_stop(task_id, moved.attempt)
            counted = (0, 0) if catalog.is_transactional(moved.task_type) else (None, None)
            return Stop(task_id, Verdict.STOPPED_BEFORE_START, now, *counted)
        if before.is_final:
            return _told(task_id, Verdict.ALREADY_FINISHED, now)
        if before is not State.COMMITTING:
            return _see_undone(task_id, moved.attempt, until)
        _wait_while(task_id, State.COMMITTING, until)
        if queries.state(task_id, caller=caller) in (State.COMMITTING, State.SUCCEEDED):
            return _told(task_id, Verdict.TOO_LATE_COMMITTED, now)
        # A mail's last step was refused: the task has failed, or is about to be tried again, which is to be stopped.


def _see_undone(task_id: str, attempt: int, until: float) -> Stop:
    """Wait for the attempt to undo its work; after the grace, see to it from here."""
    failpoints.reach("f19")
    try:
        _wait_while(task_id, State.REVOKING, min(until, time.monotonic() + settings().stop_grace_seconds))
        while queries.state(task_id) is State.REVOKING and time.monotonic() < until:
            undo(task_id, attempt)
            time.sleep(_POLL_SECONDS)
        row = queries.task(task_id)
    except xa.OUT_OF_REACH:
        # The stop is decided; only its confirmation has to wait for the database.
        row = None
    if row is None or row.state != State.REVOKED:
        return Stop(task_id, Verdict.STOPPING, State.REVOKING)
    return _counted(row, Verdict.ROLLED_BACK)


def undo(task_id: str, attempt: int) -> bool:
    """For an attempt in `revoking`: end its connections, roll its prepared branches back, and confirm once nothing is
    left.

    Safe from any process and at any time: the row was won, so that neither this attempt nor an earlier one can decide
    any more. A later one can, if the task was tried again while whoever runs this was frozen: it is left alone.
    """
    row = queries.standing(task_id)
    if row is None or not _is_revoking(row, attempt):
        return False
    away: Exception | None = None
    for name in row.participants:
        try:
            _undo_on(name, task_id, attempt)
        except xa.OUT_OF_REACH as error:
            # Locks on the other databases do not have to wait for this one.
            away = error
    if away is not None:
        raise away
    return confirm(task_id, attempt, databases=row.participants, rows_undone=row.progress_done)


def _is_revoking(row: Standing | None, attempt: int) -> bool:
    return row is not None and row.state is State.REVOKING and row.attempt == attempt


def _undo_on(database: str, task_id: str, attempt: int) -> None:
    xa.kill_holder(task_id, database, is_over=lambda: _is_revoking(queries.standing(task_id), attempt))
    for branch in xa.recover(database):
        if branch.task_id == task_id and branch.attempt <= attempt:
            xa.settle(branch, commit=False)


def confirm(task_id: str, attempt: int, *, databases: Collection[str], rows_undone: int) -> bool:
    """`revoking -> revoked`, once the rollback is physically over; what is left is counted after it."""
    if not all(xa.is_undone(task_id, name) for name in databases):
        return False
    undone = {
        "rows_undone": rows_undone,
        "rows_remaining": sum(xa.remaining_rows(task_id, name) for name in databases),
    }
    won = transitions.rolled_back(task_id, attempt, undone=undone)
    if won:
        _log_stop(task_id, attempt)
    return won


def _log_stop(task_id: str, attempt: int) -> None:
    """By whoever saw to it: the attempt, the door or the monitor."""
    log.info("stopped", extra={"action": "task_stopped", "task_id": task_id, "attempt": attempt})


def _wait_while(task_id: str, state: State, until: float) -> None:
    while queries.state(task_id) is state and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)


def _told(task_id: str, verdict: Verdict, state: State) -> Stop:
    """The verdict with the row as it stands; without the ledger, with the state that was won."""
    try:
        row = queries.task(task_id)
    except db.Unavailable:
        row = None
    return Stop(task_id, verdict, state) if row is None else _counted(row, verdict)


def _counted(row: Any, verdict: Verdict) -> Stop:
    undone: dict[str, Any] = row.undone or {}
    if not (row.participants or catalog.is_transactional(row.task_type)):
        undone = {}
    return Stop(row.id, verdict, State(row.state), undone.get("rows_undone"), undone.get("rows_remaining"))
