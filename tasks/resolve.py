"""Settles what attempts left behind: prepared branches, decided but unfinished tasks, stops without a confirmation.

The row says what becomes of a branch, and only a row that cannot change its mind any more:

    committing or succeeded, this attempt   -> commit
    running, this attempt                   -> leave: the attempt may still decide
    anything else                           -> roll back: this attempt can never decide again
    no row                                  -> touch nothing and raise the alarm: another deployment's, or a ledger
                                               that was restored from an old backup
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

import failpoints
from ledger import db, leadership, queries, transitions, xa
from ledger.queries import Standing
from ledger.states import ACTIVE, State
from ledger.xa import BranchId
from settings import settings
from tasks import failure, results, revoke

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that a living attempt gets to carry out its own decision.
OWNERS_SECONDS = 1.0
#: Failures after which a round is broken off: then it is the ledger itself that is away.
MOST_TROUBLES = 5


def settle_branches() -> int:
    """Look at every prepared branch on every database; answers how many were settled."""
    found: list[BranchId] = []
    _each(db.data_names(), lambda name: found.extend(xa.recover(name)))
    return len(_each(found, _settle_branch))


def _each(items: Iterable[T], act: Callable[[T], object]) -> list[T]:
    """Do it for each; answers those for which something was done.

    A database that is away must not keep the others' tasks waiting: it is asked once, and what else lies there is left
    for the next round.
    """
    done: list[T] = []
    away: set[object] = set()
    troubles = 0
    for item in items:
        if _place(item) in away:
            continue
        leadership.check()
        try:
            if act(item):
                done.append(item)
        except xa.OUT_OF_REACH as error:
            log.warning("left %s for later: %s", item, error, extra={"action": "left_for_later"})
            if not isinstance(error, DBAPIError):
                away.add(_place(item))
            troubles += 1
            if troubles > MOST_TROUBLES:
                raise
    return done


def _place(item: object) -> object:
    """Where an item lies: one database, or those on which a task's attempt was."""
    match item:
        case Standing():
            return item.participants
        case BranchId():
            return item.database
        case (Standing(), str(name)):
            return name
    return item


def _settle_branch(branch: BranchId) -> bool:
    row = queries.standing(branch.task_id)
    if row is None:
        log.error(
            "a branch in doubt belongs to no task of this ledger",
            extra={"action": "branch_unknown", "task_id": branch.task_id, "attempt": branch.attempt},
        )
        return False
    same_attempt = row.attempt == branch.attempt
    if same_attempt and row.state in (State.COMMITTING, State.SUCCEEDED):
        return row.idle_seconds > OWNERS_SECONDS and _carry_out(branch, commit=True)
    if same_attempt and row.state is State.RUNNING:
        return False
    if same_attempt and row.state is State.REVOKING and row.idle_seconds < settings().stop_grace_seconds:
        return False
    return _carry_out(branch, commit=False)


def _carry_out(branch: BranchId, *, commit: bool) -> bool:
    failpoints.reach("f17")
    if not xa.settle(branch, commit=commit):
        # MariaDB: the session that prepared it still lives, and holds the task's lock. It has nothing left to say.
        # A later attempt sees to it by itself.
        xa.kill_holder(branch.task_id, branch.database, is_over=lambda: _is_held(branch, commit=commit))
        return False
    log.warning(
        "settled a branch in doubt: %s",
        "commit" if commit else "rollback",
        extra={"action": "branch_settled", "task_id": branch.task_id, "attempt": branch.attempt},
    )
    return True


def _is_held(branch: BranchId, *, commit: bool) -> bool:
    row = queries.standing(branch.task_id)
    return row is not None and row.attempt == branch.attempt and not xa.settle(branch, commit=commit)


def finish_decided() -> int:
    """Finish tasks whose attempt died between its decision and the last note of it."""
    rows = queries.standings(State.COMMITTING, idle_seconds=OWNERS_SECONDS)
    return len(_each(rows, _finish))


def _finish(row: Standing) -> bool:
    if not row.participants:
        return row.lease_expired and _retry_effects(row)
    if any(branch.task_id == row.task_id for name in row.participants for branch in xa.recover(name)):
        return False
    marked = [xa.marked_attempt(row.task_id, name) for name in row.participants]
    if any(attempt != row.attempt for attempt in marked):
        log.error(
            "a decided task has neither a branch nor its rows: somebody settled the branch by hand",
            extra={"action": "heuristic_outcome", "task_id": row.task_id, "attempt": row.attempt},
        )
        return False
    won = transitions.finish(row.task_id, row.attempt, keep_result=True)
    task = queries.task(row.task_id)
    if won and task is not None:
        results.keep(row.task_id, row.attempt, task.result)
        log.warning("finished a decided task", extra={"action": "task_succeeded", "task_id": row.task_id})
    return won


def _retry_effects(row: Standing) -> bool:
    """A file, whose last step may be taken twice: the same output name. Or a mail, of which the row says whether its
    last byte may have been sent."""
    error = failure.silent("WorkerLost", f"worker {row.worker} fell silent after the decision")
    return failure.settle_for(row, error, expired_only=True)


def finish_stops() -> int:
    """Undo stopped tasks whose attempt did not do so itself."""
    patience = settings().stop_grace_seconds + OWNERS_SECONDS
    rows = queries.standings(State.REVOKING, idle_seconds=patience)
    return len(_each(rows, lambda row: revoke.undo(row.task_id, row.attempt)))


def expire_leases() -> int:
    """Take tasks back from attempts that have been silent for too long. Their rows first, their connections second."""
    taken = _each(queries.expired_leases(), _expire)
    _each([(row, name) for row in taken for name in row.participants], _end_connection)
    return len(taken)


def _expire(row: Standing) -> bool:
    failpoints.reach("f15")
    error = failure.silent("LeaseExpired", f"worker {row.worker} fell silent for longer than its lease")
    taken = failure.settle_for(row, error, expired_only=True)
    if taken:
        transitions.count("lease_expiries", 1)
        log.warning(error["message"], extra={"action": "lease_expired", "task_id": row.task_id})
    return taken


def _end_connection(where: tuple[Standing, str]) -> None:
    """What is left undone here, because a database is away or this monitor dies, the next attempt does that comes there
    (`Branch.start`), or else the server after `xa.IDLE_SECONDS`."""
    row, name = where

    def is_over() -> bool:
        now = queries.standing(row.task_id)
        return now is not None and now.attempt == row.attempt and now.state not in ACTIVE

    xa.kill_holder(row.task_id, name, is_over=is_over)
