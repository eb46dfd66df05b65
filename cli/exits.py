"""What the exit code of a command about tasks says; docs/howto/command-line.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from client.answers import State, Verdict
from client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotOver,
    SluiceError,
    Unauthorized,
    Unsendable,
)


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    #: A wrong option or value, also one that the service refused.
    USAGE = 2
    STOPPED = 3
    #: The service was not reachable, or could not answer.
    AWAY = 4
    #: The time to wait was over before the task, or a stop that is still undoing.
    NOT_OVER = 5
    #: It does not fit the state of the task: a stop after the end, a retry of what is not over.
    TOO_LATE = 6
    #: No key, a wrong one, or one that is not for this.
    NOT_ALLOWED = 7
    #: By Ctrl-C, as shells have it.
    INTERRUPTED = 130


OF_STATE: Mapping[State, Exit] = {
    "succeeded": Exit.DONE,
    "failed": Exit.FAILED,
    "revoked": Exit.STOPPED,
    "expired": Exit.STOPPED,
}
OF_VERDICT: Mapping[Verdict, Exit] = {
    "stopped_before_start": Exit.DONE,
    "rolled_back": Exit.DONE,
    "stopping": Exit.NOT_OVER,
    "already_finished": Exit.TOO_LATE,
    "too_late_committed": Exit.TOO_LATE,
}
_OF_ERROR: Mapping[type[SluiceError], Exit] = {
    Invalid: Exit.USAGE,
    Unsendable: Exit.USAGE,
    NotFound: Exit.USAGE,
    Conflict: Exit.TOO_LATE,
    NotOver: Exit.NOT_OVER,
    Unauthorized: Exit.NOT_ALLOWED,
    Forbidden: Exit.NOT_ALLOWED,
}


def of_error(error: SluiceError) -> Exit:
    return _OF_ERROR.get(type(error), Exit.AWAY)
