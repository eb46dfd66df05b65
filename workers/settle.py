"""What the parent does about a ticket whose child cannot speak for itself any more.

A child settles its task in the ledger before it reports. When it is killed, or runs into the hard time limit, the
parent tells the ledger in its place. The ledger decides whether there is another attempt, and sends a new ticket for
it; the old ticket is acknowledged.

Only the ticket of a child that died or left is given back instead: it may not have claimed its task. If it had, the
ticket means an attempt that is over, and whoever gets it drops it. If not, the attempt starts at once, and not when the
monitor misses the ticket. RabbitMQ's delivery limit dead-letters a ticket that always kills.

When things fail: without the ledger the parent lets go, and the lease of the attempt runs out.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]
from celery.exceptions import InvalidTaskError, Terminated, TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request
from celery.worker.state import task_ready

from tasks import parent

log = logging.getLogger(__name__)

#: The longest task id that the ledger holds.
ID_LENGTH = 64


class Settled(Request):
    """A ticket in this worker's hands. Only the ledger can take it back: Celery's own revoke has no say."""

    #: The child that has it, and its time limits: hard and soft, in seconds.
    worker_pid: Any
    time_limits: Any
    _connection_errors: Any

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self.attempt = _checked(self)

    def revoked(self) -> bool:
        return False

    def terminate(self, pool: Any, signal: Any = None) -> None:
        log.warning("not terminated: tasks are stopped through the API", extra={"task_id": self.id})

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """`on_failure` has seen to it."""

    def on_unasked(self) -> None:
        """The child had no time for it, and the ticket is as good as ever."""
        task_ready(self)
        self.reject(requeue=True)
        self.send_event("task-rejected", requeue=True)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """The child did not come back as it should."""
        task_ready(self)
        error = _unwrapped(exc_info.exception)
        try:
            self._tell_ledger(error)
        finally:
            self._let_go(error)
            self.send_event("task-failed", exception=type(error).__name__, traceback=None)

    def _tell_ledger(self, error: BaseException) -> None:
        match error:
            case WorkerLostError():
                parent.worker_lost(self.id, self.attempt, str(error), child=self._child)
            case TimeLimitExceeded():
                # Dead before the ledger knows: the next attempt must not meet this one's locks.
                _kill(self.worker_pid)
                parent.timed_out(self.id, self.attempt, self.time_limits[0], child=self._child)
            case SystemExit() | Terminated():
                log.debug("its child was told to leave", extra={"task_id": self.id})
            case _:
                extra = {"task_id": self.id, "attempt": self.attempt}
                log.error("an attempt's life cycle broke", exc_info=error, extra=extra)

    @property
    def _child(self) -> parent.Child:
        return parent.Child(self.hostname, self.worker_pid)

    def _let_go(self, error: BaseException) -> None:
        if isinstance(error, WorkerLostError | SystemExit | Terminated):
            self.reject(requeue=True)
        else:
            self.acknowledge()

    def send_event(self, type: str, **fields: Any) -> None:
        """To Flower, which is to show what became of the task and not that a child came back."""
        if type == "task-succeeded":
            type, fields = _shown(fields)
        if type:
            super().send_event(type, **fields)

    def acknowledge(self) -> None:
        if not self._went_back():
            super().acknowledge()

    def acknowledge_with(self, others: Sequence[Settled]) -> None:
        """One word for all tickets that came before this one on its channel; `others` are those that are still out."""
        if not self._went_back():
            self.message.ack_log_error(log, self._connection_errors, multiple=True)
        for each in (*others, self):
            each.acknowledged = True

    def reject(self, requeue: bool = False) -> None:
        if not self._went_back():
            super().reject(requeue=requeue)

    def _went_back(self) -> bool:
        """Whether the ticket returned to its queue by itself, with the connection on which it came."""
        return self.message.channel.connection is None


def _shown(fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An event for the state that the attempt left its task in; none for a ticket that was dropped for another."""
    # The child's answer comes as its repr.
    match fields["result"].strip("'"):
        case "None":
            return "", {}
        case "succeeded":
            return "task-succeeded", fields
        case "failed":
            return "task-failed", {"exception": "see the task", "traceback": None}
        case "revoked" | "revoking":
            return "task-revoked", {"terminated": True, "signum": None, "expired": False}
        case "expired":
            return "task-revoked", {"terminated": False, "signum": None, "expired": True}
        case state:
            return "task-retried", {"exception": f"the task is {state}", "traceback": None}


def _checked(request: Any) -> int:
    """The attempt that a ticket is for. Whatever is no ticket of ours is refused, and dead-lettered."""
    arguments, keywords, callbacks = request._payload
    match arguments:
        case [int(attempt)] if attempt >= 1 and not isinstance(attempt, bool):
            pass
        case _:
            raise InvalidTaskError("a ticket carries the number of its attempt and nothing else")
    if keywords or any(callbacks.values()):
        raise InvalidTaskError("a ticket has neither keywords nor callbacks")
    if not isinstance(request.id, str) or len(request.id) > ID_LENGTH or request.eta is not None:
        raise InvalidTaskError("a ticket has an id, and no time of its own")
    hard, soft = request.time_limits
    for seconds in (hard, soft):
        if seconds is not None and not seconds > 0:
            raise InvalidTaskError("a ticket's time limits are seconds")
    return attempt


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _unwrapped(error: Any) -> BaseException:
    """What happened in a child travels with its traceback around it."""
    return error.exc if isinstance(error, ExceptionWithTraceback) else error  # type: ignore[no-any-return]
