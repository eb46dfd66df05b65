"""The end of an attempt that failed: retry later, or give up. Also for those who act for a dead attempt."""

from __future__ import annotations

import traceback
from typing import Any

from pydantic import ValidationError

from ledger import transitions
from ledger.states import State
from tasks import catalog, retry

#: A message longer than this is cut, so that an error can always be stored.
MESSAGE_CHARACTERS = 2_000

#: Where a move made by `settle` may have led.
REACHED = frozenset({State.FAILED, State.RETRYING, State.QUEUED})


def settle(
    *,
    task_id: str,
    attempt: int,
    task_type: str,
    retries: int,
    max_retries: int,
    error: dict[str, Any],
    expired_only: bool = False,
) -> bool:
    """Move a failed attempt on to `retrying` or `failed`; False when the row was no longer this attempt's.

    `retries` and `max_retries` are those of the claim. `expired_only` makes the move only if the lease has run out.
    """
    said = error["message"]
    if error["permanent"]:
        return transitions.give_up(
            task_id, attempt, error=error, remark=f"not retried: {said}", expired_only=expired_only
        )
    if retries >= max_retries:
        remark = f"gave up after {retries} of {max_retries} retries: {said}"
        return transitions.give_up(task_id, attempt, error=error, remark=remark, expired_only=expired_only)
    wait = catalog.policy_of(task_type).wait_seconds(retries, retry.draw())
    remark = f"retry {retries + 1} of {max_retries} in {wait:.1f} s: {said}"
    return transitions.retry(
        task_id, attempt, after_seconds=wait, error=error, remark=remark, expired_only=expired_only
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
    return str(getattr(error, "orig", None) or error) or type(error).__name__


def _place(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}, line {frames[-1].lineno}" if frames else None
