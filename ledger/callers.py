"""Who asks: whose tasks a request may see and touch.

Every read and change of the ledger on somebody's behalf takes a `Caller`, and its statement carries `owned(caller)`.
Another owner's task is then not found, exactly as one that never was. A test reads the house for calls that leave the
caller out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import true
from sqlalchemy.sql.elements import ColumnElement

from ledger.models import tasks


class Scope(StrEnum):
    """What a key may do."""

    #: Look at tasks, files and the sample table.
    READ = "read"
    #: Submit tasks, try them again, upload files.
    WRITE = "write"
    #: Take tasks back.
    STOP = "stop"
    #: Everything, on everybody's tasks; and what concerns the whole service, such as keys and queues.
    ADMIN = "admin"
    #: Read /metrics and nothing else: for a scraper, whose configuration many people read.
    METRICS = "metrics"


@dataclass(frozen=True)
class Caller:
    owner: str
    scopes: frozenset[Scope]
    #: Bounds of this key; None is none.
    key_id: str | None = None
    requests_per_minute: int | None = None
    most_open_tasks: int | None = None
    mails_per_day: int | None = None

    @property
    def sees_all(self) -> bool:
        return Scope.ADMIN in self.scopes

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or self.sees_all


#: The service itself, and its operator at the command line. What it submits belongs to nobody.
NOBODY = ""
EVERYBODY = Caller(NOBODY, frozenset({Scope.ADMIN}))


def owned(caller: Caller) -> ColumnElement[bool]:
    """The rows of `tasks` that are there for this caller."""
    return true() if caller.sees_all else tasks.c.owner == caller.owner
