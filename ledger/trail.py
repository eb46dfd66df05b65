"""The audit trail: a row for each move, written in the transaction that makes it; and the remarks between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ledger import db, rows
from ledger.models import events
from ledger.states import State


class Event(NamedTuple):
    """What happened, the state that its task was in after it, and the attempt that it concerns."""

    task_id: str
    event: str
    state: State
    attempt: int
    remark: str | None = None
    detail: Any = None


_COLUMNS = dict.fromkeys(Event._fields, "%s") | {"at": db.NOW.text}


def write(connection: Connection, told: Sequence[Event]) -> None:
    """In their order, all with the database's time of this statement."""
    rows.put(connection, events, _COLUMNS, [(*each[:-1], rows.as_json(each.detail)) for each in told])
