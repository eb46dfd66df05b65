"""New rows of a table, many in one INSERT, put together for the driver at once.

SQLAlchemy's own INSERT of many rows looks at each value several times, which takes longer than the database takes to
write it; and rows are what the door and the workers write most of (`docs/decisions/0018-rows-as-one-statement.md`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table


def put(connection: Connection, table: Table, columns: Mapping[str, str], rows: Sequence[Iterable[Any]]) -> None:
    """`columns` says what stands in each: `%s`, which is a row's next value, or an expression with any number of them.
    Nothing is done for no rows."""
    if rows:
        row = f"({', '.join(columns.values())})"
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([row] * len(rows))}",
            tuple(chain.from_iterable(rows)),
        )


def as_json(value: Any) -> str | None:
    """For a JSON column; None is SQL's NULL."""
    return None if value is None else json.dumps(value)
