"""Puts what a webhook wants to know into the ledger, in the transaction in which it happens.

So that nothing is told that did not happen, and nothing that happened is forgotten: a delivery is there if and only if
its event is. `ledger.deliveries` says what becomes of it. A task without a webhook costs a look at its row.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, and_, func, insert, literal, select
from sqlalchemy.sql.elements import ColumnElement

from ledger import db
from ledger.models import events, tasks, webhook_deliveries
from ledger.states import FINAL, Move, State

#: What a webhook may want to know of, by the state that was entered.
TYPES = {state: f"task.{state}" for state in (State.RUNNING, State.RETRYING, *sorted(FINAL))}
#: Moves into these always look whether there is a webhook. A claim reads the row anyway, and sees.
LEFT_BY_MOVES = frozenset(TYPES) - {State.RUNNING}

#: Tries that each delivery has.
MOST_TRIES = 9


def put(connection: Connection, move: Move, task_ids: Collection[str]) -> None:
    """Leave a delivery of the move that was just made for each task whose webhook wants to know of it."""
    told = (
        select(func.max(events.c.seq), tasks.c.id, lane(), db.NOW, literal(MOST_TRIES))
        .join(events, events.c.task_id == tasks.c.id)
        .where(db.among(tasks.c.id, task_ids), events.c.event == move.name, wants(literal(TYPES[move.enters])))
        .group_by(tasks.c.id)
    )
    columns = ["seq", "task_id", "lane", "next_at", "tries_left"]
    connection.execute(insert(webhook_deliveries).from_select(columns, told))


def wants(kind: ColumnElement[str]) -> ColumnElement[bool]:
    """Tasks whose webhook wants to know of events of this type."""
    listed = func.json_contains(tasks.c.webhook, func.json_quote(kind), "$.events")
    return and_(tasks.c.webhook.is_not(None), listed == 1)


def owner_of(lane: str) -> str:
    """Whose a lane is."""
    return lane.partition(" ")[0]


def lane() -> ColumnElement[Any]:
    """The owner of a task, and where its webhook is: scheme, host and port."""
    url = func.json_unquote(func.json_extract(tasks.c.webhook, "$.url"))
    return func.concat(tasks.c.owner, " ", func.substring_index(url, "/", 3))
