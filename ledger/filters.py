"""Which tasks are meant: the conditions that a list and a replay of many share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.sql.elements import ColumnElement

from ledger.models import dependencies, tasks

#: The error type of a task that is held because nobody knows whether its last step was taken.
UNCERTAIN = "Uncertain"


@dataclass(frozen=True)
class Filter:
    """Tasks that fit all that is given; several words for one column are alternatives. Times are aware, in UTC."""

    states: Sequence[str] = ()
    task_types: Sequence[str] = ()
    priorities: Sequence[str] = ()
    #: The task that all of them depend on.
    depends_on: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    #: A part of the error's type or message, in whatever case.
    error: str | None = None
    #: Whether somebody has dealt with the failure.
    resolved: bool | None = None
    #: Whether it failed because the outcome of its last step is unknown.
    uncertain: bool | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        for column, words in (
            (tasks.c.state, self.states),
            (tasks.c.task_type, self.task_types),
            (tasks.c.priority, self.priorities),
        ):
            if words:
                # The columns are ASCII: the server refuses to compare them with anything else.
                yield column.in_([word for word in words if word.isascii()])
        if self.depends_on:
            yield tasks.c.id.in_(select(dependencies.c.child).where(dependencies.c.parent == self.depends_on))
        if self.created_after:
            yield tasks.c.created_at >= self.created_after.replace(tzinfo=None)
        if self.created_before:
            yield tasks.c.created_at < self.created_before.replace(tzinfo=None)
        if self.error:
            told = func.concat(_of_error("type"), ": ", _of_error("message"))
            yield func.lower(told).contains(self.error.lower(), autoescape=True)
        if self.resolved is not None:
            yield tasks.c.resolved_at.is_not(None) if self.resolved else tasks.c.resolved_at.is_(None)
        if self.uncertain is not None:
            is_uncertain = func.coalesce(_of_error("type"), "") == UNCERTAIN
            yield is_uncertain if self.uncertain else ~is_uncertain


#: Fits every task.
ANY = Filter()


def _of_error(field: str) -> ColumnElement[str]:
    return func.json_unquote(func.json_extract(tasks.c.error, f"$.{field}"))
