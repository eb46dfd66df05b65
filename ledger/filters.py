"""Which tasks are meant: the conditions that a list and a replay of many share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import FromClause, Select, func, select
from sqlalchemy.sql.elements import ColumnElement

from ledger import firings, tags
from ledger.callers import Caller, owned
from ledger.models import dependencies, task_tags, tasks
from ledger.models import firings as fired
from ledger.states import State

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
    finished_after: datetime | None = None
    finished_before: datetime | None = None
    #: All of these, unlike the words above.
    tags: Sequence[str] = ()
    #: The schedule that submitted them.
    schedule: str | None = None
    #: No others than these; None lets all types be.
    within_types: Sequence[str] | None = None
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
        if self.within_types is not None:
            yield tasks.c.task_type.in_(self.within_types)
        if self.depends_on:
            yield tasks.c.id.in_(select(dependencies.c.child).where(dependencies.c.parent == self.depends_on))
        for column, after, before in (
            (tasks.c.created_at, self.created_after, self.created_before),
            (tasks.c.finished_at, self.finished_after, self.finished_before),
        ):
            if after:
                yield column >= after.replace(tzinfo=None)
            if before:
                yield column < before.replace(tzinfo=None)
        for tag in self.tags:
            yield tags.has(tag)
        if self.schedule:
            yield firings.by(self.schedule)
        if self.error:
            told = func.concat(_of_error("type"), ": ", _of_error("message"))
            yield func.lower(told).contains(self.error.lower(), autoescape=True)
        if self.resolved is not None:
            yield tasks.c.resolved_at.is_not(None) if self.resolved else tasks.c.resolved_at.is_(None)
        if self.uncertain is not None:
            is_uncertain = func.coalesce(_of_error("type"), "") == UNCERTAIN
            yield is_uncertain if self.uncertain else ~is_uncertain

    def newest(self, *columns: Any, caller: Caller, below: str | None = None) -> Select[Any]:
        """The caller's tasks that fit, newest first, those below an id. An index leads to them in that order, and is
        told to: a tag that few tasks have must not cost a walk through all, nor one that many have a sort of them."""
        if self.schedule:
            leads, rest = [*firings.leads(self.schedule, caller=caller)], replace(self, schedule=None)
            by, index = fired, firings.index(caller=caller)
        elif self.tags:
            first, *others = self.tags
            leads, rest = [*tags.leads(first, caller=caller)], replace(self, tags=others)
            by, index = task_tags, tags.index(caller=caller)
        else:
            return _in_order(columns, tasks, tasks.c.id, [*self.conditions(), owned(caller)], below)
        source = by.join(tasks, tasks.c.id == by.c.task_id)
        fits = [*leads, *rest.conditions(), owned(caller)]
        in_order = _in_order(columns, source, by.c.task_id, fits, below)
        led = in_order.prefix_with("STRAIGHT_JOIN").with_hint(by, f"FORCE INDEX ({index})")
        return led.with_hint(tasks, "FORCE INDEX (PRIMARY)")


def _in_order(
    columns: Sequence[Any], source: FromClause, by: Any, fits: Sequence[ColumnElement[bool]], below: str | None
) -> Select[Any]:
    bound = [] if below is None else [by < below]
    return select(*columns).select_from(source).where(*fits, *bound).order_by(by.desc())


#: Fits every task.
ANY = Filter()


class BadFilter(Exception):
    """A word of a filter that says nothing."""


def parsed(words: Sequence[str]) -> Filter:
    """`state=failed`, `error=timeout` and so on, for a replay: what failed, unless a state is given, without what
    somebody dealt with or what may have taken effect, unless that is asked for."""
    given: dict[str, list[str]] = {}
    for word in words:
        name, found, value = word.partition("=")
        if name not in _WORDS or not (found and value):
            raise BadFilter(f"{word!r}: expected NAME=VALUE; names are {', '.join(_WORDS)}")
        given.setdefault(name, []).append(value)
    if unknown := set(given.get("state", ())) - set(State):
        raise BadFilter(f"state={unknown.pop()}: states are {', '.join(State)}")
    if any(not tags.FORM.fullmatch(word) for word in given.get("tag", ())):
        raise BadFilter(f"tag={', '.join(given['tag'])}: {tags.SAID}")
    return Filter(
        states=given.get("state", [State.FAILED]),
        task_types=given.get("task_type", ()),
        priorities=given.get("priority", ()),
        created_after=_moment(given.get("created_after")),
        created_before=_moment(given.get("created_before")),
        finished_after=_moment(given.get("finished_after")),
        finished_before=_moment(given.get("finished_before")),
        tags=given.get("tag", ()),
        error=given.get("error", [None])[-1],
        resolved=_flag("resolved", given),
        uncertain=_flag("uncertain", given),
    )


_WORDS = (
    *("state", "task_type", "priority", "created_after", "created_before", "finished_after", "finished_before"),
    *("tag", "error", "resolved", "uncertain"),
)


def _moment(words: Sequence[str] | None) -> datetime | None:
    if not words:
        return None
    try:
        found = datetime.fromisoformat(words[-1])
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadFilter(f"{words[-1]!r} is no time such as 2026-01-31T12:00:00Z")
    return found.astimezone(UTC)


def _flag(name: str, given: dict[str, list[str]]) -> bool:
    word = given.get(name, ["0"])[-1]
    if word not in ("0", "1"):
        raise BadFilter(f"{name}={word}: expected 1 or 0")
    return word == "1"


def _of_error(field: str) -> ColumnElement[str]:
    return func.json_unquote(func.json_extract(tasks.c.error, f"$.{field}"))
