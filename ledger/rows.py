"""New rows of a table, many in one INSERT, put together for the driver at once.

SQLAlchemy's own INSERT of many rows looks at each value several times, which takes longer than the database takes to
write it; and rows are what the door and the workers write most of (decision 18).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table


def put(connection: Connection, table: Table, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """`columns` says what stands in each: `%s`, which is a row's next value, or an expression with any number of them.
    One for which no row has a value is left at its default. Nothing is done for no rows."""
    if not rows:
        return
    used, values = _used(columns, list(zip(*rows, strict=True)))
    row = f"({', '.join(used.values())})"
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({', '.join(used)}) VALUES {', '.join([row] * len(rows))}",
        tuple(chain.from_iterable(zip(*values, strict=True))),
    )


def _used(columns: Mapping[str, str], values: Sequence[Sequence[Any]]) -> tuple[dict[str, str], list[Sequence[Any]]]:
    """The columns that are worth sending, and the values of all rows in each of their places."""
    used: dict[str, str] = {}
    kept: list[Sequence[Any]] = []
    place = 0
    for name, expression in columns.items():
        width = expression.count("%s")
        own = values[place : place + width]
        place += width
        if not width or any(value is not None for each in own for value in each):
            used[name] = expression
            kept += own
    return used, kept


def as_json(value: Any) -> str | None:
    """For a JSON column; None is SQL's NULL."""
    return None if value is None else json.dumps(value)
