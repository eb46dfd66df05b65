"""The end of an attempt that failed: retry later, or give up. Also for those who act for a dead attempt."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from ledger import db, queries, transitions
from ledger.filters import UNCERTAIN
from ledger.queries import Standing
from ledger.states import State
from tasks import catalog, retry
from tasks.retry import IfUncertain

#: A message longer than this is cut, so that an error can always be stored.
MESSAGE_CHARACTERS = 2_000

#: Where a move made by `settle` may have led.
REACHED = frozenset({State.FAILED, State.RETRYING, State.QUEUED, State.SUCCEEDED})

#: What to do about a task that is held.
WAY_OUT = "Find out, then POST /api/tasks/<id>/resolve if it did, or /retry if it did not"


def settle(
    *,
    task_id: str,
    attempt: int,
    task_type: str,
    retries: int,
    max_retries: int,
    error: dict[str, Any],
    expired_only: bool = False,
    in_last_step: bool = False,
) -> bool:
    """Move a failed attempt on to `retrying` or `failed`; False when the row was no longer this attempt's.

    `retries` and `max_retries` are those of the claim. `expired_only` makes the move only if the lease has run out and
    the attempt is, or is not, in its last step.
    """
    said, seen = error["message"], {"expired_only": expired_only, "in_last_step": in_last_step}
    if error["permanent"]:
        return transitions.give_up(task_id, attempt, error=error, remark=f"not retried: {said}", **seen)
    if retries >= max_retries:
        remark = f"gave up after {retries} of {max_retries} retries: {said}"
        return transitions.give_up(task_id, attempt, error=error, remark=remark, **seen)
    wait = catalog.policy_of(task_type).wait_seconds(retries, retry.draw())
    remark = f"retry {retries + 1} of {max_retries} in {wait:.1f} s: {said}"
    return transitions.retry(task_id, attempt, after_seconds=wait, error=error, remark=remark, **seen)


def settle_uncertain(
    *,
    task_id: str,
    attempt: int,
    task_type: str,
    parameters: Mapping[str, Any],
    retries: int,
    max_retries: int,
    said: str,
    expired_only: bool = False,
) -> bool:
    """The same for an attempt of which nobody knows whether its last step took effect: the task says what follows."""
    error = silent(UNCERTAIN, said)
    match catalog.if_uncertain(task_type, parameters):
        case IfUncertain.TREAT_AS_DONE:
            remark = f"treated as done: {said}"
            return transitions.finish(task_id, attempt, keep_result=True, remark=remark, expired_only=expired_only)
        case IfUncertain.RETRY:
            return settle(
                task_id=task_id,
                attempt=attempt,
                task_type=task_type,
                retries=retries,
                max_retries=max_retries,
                error=error,
                expired_only=expired_only,
                in_last_step=True,
            )
    error |= {"permanent": True}
    remark = f"held: {said}. {WAY_OUT}"
    return transitions.give_up(
        task_id, attempt, error=error, remark=remark, expired_only=expired_only, in_last_step=True
    )


def settle_for(row: Standing, error: dict[str, Any], *, expired_only: bool = False) -> bool:
    """For an attempt that cannot speak for itself: it was told, or its lease ran out."""
    if not row.in_last_step:
        return settle(
            task_id=row.task_id,
            attempt=row.attempt,
            task_type=row.task_type,
            retries=row.retries,
            max_retries=row.max_retries,
            error=error,
            expired_only=expired_only,
        )
    task = queries.task(row.task_id)
    return task is not None and settle_uncertain(
        task_id=row.task_id,
        attempt=row.attempt,
        task_type=row.task_type,
        parameters=task.parameters,
        retries=row.retries,
        max_retries=row.max_retries,
        said=f"{error['message']}, in its last step, which may have taken effect (a mail may have been sent)",
        expired_only=expired_only,
    )


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the ledger keeps it: what and where, without any value that it was called with."""
    return {
        "type": type(error).__name__,
        "message": _message(error)[:MESSAGE_CHARACTERS],
        "permanent": isinstance(error, (retry.PermanentError, ValidationError)),
        "at": _place(error),
    }


def silent(kind: str, message: str) -> dict[str, Any]:
    """The same shape for an attempt that could not speak for itself."""
    return {"type": kind, "message": message, "permanent": False, "at": None}


def _message(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    # A driver's error carries its SQL behind the first line.
    said = str(getattr(error, "orig", None) or error) or type(error).__name__
    if isinstance(error, DBAPIError) and db.is_full(error):
        return f"no room left on the database's disk: {said}"
    return said


def _place(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, line {frames[-1].lineno}" if frames else None
