"""Tags: words of a task's owner by which tasks are found again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection, delete, exists, insert
from sqlalchemy.sql.elements import ColumnElement

from ledger.callers import Caller
from ledger.models import task_tags, tasks

#: What a tag looks like.
FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,39}")
SAID = "a tag has 1 to 40 letters, digits and . _ : / = -, and begins with a letter or digit"


def attach(connection: Connection, tagged: Mapping[str, Sequence[str]], *, owner: str) -> None:
    """Note the tags of fresh tasks, by their ids."""
    rows = [{"task_id": task_id, "tag": tag, "owner": owner} for task_id, tags in tagged.items() for tag in tags]
    if rows:
        connection.execute(insert(task_tags), rows)


def has(tag: str) -> ColumnElement[bool]:
    """Whether a row of `tasks` has it."""
    return exists().where(task_tags.c.task_id == tasks.c.id, task_tags.c.tag == tag).correlate(tasks)


def index(*, caller: Caller) -> str:
    """The one that leads to `leads`."""
    return "ix_task_tags_tag" if caller.sees_all else "ix_task_tags_owner"


def leads(tag: str, *, caller: Caller) -> Iterator[ColumnElement[bool]]:
    """The rows of `task_tags` with a tag, which stand in the index in the order of the tasks' ids."""
    yield task_tags.c.tag == tag
    if not caller.sees_all:
        yield task_tags.c.owner == caller.owner


def forget(connection: Connection, task_ids: Sequence[str]) -> None:
    connection.execute(delete(task_tags).where(task_tags.c.task_id.in_(task_ids)))
