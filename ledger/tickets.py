"""Tickets: what the broker carries of a task."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from ledger.models import tasks


class Ticket(NamedTuple):
    """What the broker carries: which attempt of which task may start, and where."""

    task_id: str
    attempt: int
    task_type: str
    queue: str
    timeout_seconds: int


@dataclass(frozen=True)
class Terms:
    """What a ticket was sent with and its task may have been changed from since."""

    queue: str
    timeout_seconds: int


@dataclass(frozen=True)
class Place:
    """A ticket's place among those of its queue: tickets that were sent together stand in the order of their ids."""

    dispatched_at: datetime
    task_id: str


#: What a ticket is made of.
COLUMNS = (tasks.c.id, tasks.c.attempt, tasks.c.task_type, tasks.c.queue, tasks.c.timeout_seconds)


def of(row: Any) -> Ticket:
    """The ticket for a task's next attempt."""
    return Ticket(row.id, row.attempt + 1, row.task_type, row.queue, row.timeout_seconds)
