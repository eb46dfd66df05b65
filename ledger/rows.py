"""New rows of a table, many in one INSERT, put together for the driver at once.

SQLAlchemy's own INSERT of many rows looks at each value several times, which takes longer than the database takes to
write it; and rows are what the door and the workers write most of (decision 18).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain, compress
from typing import Any

from sqlalchemy import Connection, Table


def put(connection: Connection, table: Table, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> None:
    """`columns` says what stands in each: `%s`, which is a row's next value, or an expression with any number of them.
    One for which no row has a value is left at its default. Nothing is done for no rows."""
    if not rows:
        return
    used, values = _used(columns, list(zip(*rows, strict=True)))
    row = f"({', '.join(used.values())})"
    if len(rows) > 1:
        row, values = _with_shared(connection, row, values)
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


def _with_shared(
    connection: Connection, row: str, values: Sequence[Sequence[Any]]
) -> tuple[str, list[Sequence[Any]]]:
    """The row with what all of them share already in it, and the values of its other places. Rows that come together
    are much alike, and the driver writes each value by itself."""
    shared = [_is_shared(each) for each in values]
    row %= tuple("%s" if is_shared else "%%s" for is_shared in shared)
    with closing(connection.connection.cursor()) as cursor:
        driver: Any = cursor
        row = driver.mogrify(row, [each[0] for each in compress(values, shared)])
    return row, [each for each, is_shared in zip(values, shared, strict=True) if not is_shared]


def _is_shared(values: Sequence[Any]) -> bool:
    """Whether one value stands in all rows, and can stand in a template."""
    first = values[0]
    return values.count(first) == len(values) and len(set(map(type, values))) == 1 and "%" not in str(first)


def as_json(value: Any) -> str | None:
    """For a JSON column; None is SQL's NULL."""
    return None if value is None else json.dumps(value)
