"""What can go wrong with a call: the service said no (`Problem`), or it was not there (`Unreachable`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.answers import Fault, Task


class SluiceError(Exception):
    """The root of all of them."""


class BadAddress(SluiceError):
    """The address or the key of the service is missing, or none."""


class Unsendable(SluiceError, ValueError):
    """What was asked cannot be put into a request; nothing was sent."""


class Unreachable(SluiceError):
    """The service did not answer. What was asked may have been done all the same, unless `was_sent` is false."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__(message)


class NotSluice(SluiceError):
    """Something answered, but not as the service does."""


class NotOver(SluiceError):
    """The task had not ended when the time to wait was over; `task` is how it stood."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(f"task {task['task_id']} is still {task['state']}")


class Problem(SluiceError):
    """The service's own words for what is wrong: a problem document (RFC 9457)."""

    def __init__(self, document: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        self.status = int(document["status"])
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", ""))
        #: Its `type`, such as `/problems/validation`.
        self.kind = str(document.get("type", "about:blank"))
        self.instance: str | None = document.get("instance")
        #: Under which the service's log has it.
        self.request_id: str | None = document.get("request_id")
        #: Every field that is wrong.
        self.faults: list[Fault] = list(document.get("errors", ()))
        #: Seconds after which it may be tried again.
        self.retry_after = retry_after
        #: All of it, with whatever this kind of problem says besides.
        self.document = dict(document)
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)


class Invalid(Problem):
    """400, 413, 415, 422: something is wrong with what was asked; `faults` names the fields."""


class Unauthorized(Problem):
    """401: no key, or one that opens nothing."""


class Forbidden(Problem):
    """403: the key is good, but not for this."""


class NotFound(Problem):
    """404: there is no such task, queue or route, or it is not the key's owner's."""


class Conflict(Problem):
    """409, 412: it does not fit the state that the thing is in."""


class TooManyRequests(Problem):
    """429: the key has used up what it may do for now; `retry_after` says for how long."""


class Unavailable(Problem):
    """502, 503, 504: the service, or something that it cannot do without, is away for now."""


_BY_STATUS: dict[int, type[Problem]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem(document: Mapping[str, Any], *, retry_after: float | None = None) -> Problem:
    """The exception for a problem document."""
    return _BY_STATUS.get(int(document["status"]), Problem)(document, retry_after=retry_after)
