"""The tables that tasks may change: which, what they look like, and how their names are written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from sqlalchemy import ColumnClause, Connection, column, quoted_name, text

from settings import settings
from tasks.retry import PermanentError

#: Rows per statement: enough for speed, few enough that a stop is noticed within milliseconds.
CHUNK_ROWS = 1_000
#: Values per statement, so that rows of many columns do not make statements of many megabytes.
CHUNK_VALUES = 20_000


def check_table(name: str) -> str:
    """The name itself, if SLUICE_TABLES lists it; otherwise ValueError with those that it lists."""
    tables = settings().tables
    if name not in tables:
        raise ValueError(f"table {name!r} is not open to tasks; open are: {', '.join(tables) or 'none'}")
    return name


#: A parameter that names an open table; checked at the door, so that a wrong one never becomes a task.
TableName = Annotated[
    str,
    Field(
        min_length=1, max_length=64, description="A table that the operator opened to tasks (SLUICE_TABLES)"
    ),
    AfterValidator(check_table),
]


def columns_of(connection: Connection, name: str) -> dict[str, bool]:
    """The columns of an open table in their order, each with whether it may be NULL.

    Raises PermanentError when the table is not open to tasks (any more), or not there.
    """
    try:
        check_table(name)
    except ValueError as error:
        raise PermanentError(str(error)) from error
    found = _describe(connection, name, "column_name, is_nullable = 'YES'")
    if not found:
        raise PermanentError(f"there is no table {name!r} in the database")
    return {column: bool(nullable) for column, nullable in found}


def key_of(connection: Connection, table: str) -> ColumnClause[Any] | None:
    """The column that is the table's primary key; None when it is made of several, or there is none."""
    keys = [name for name, key in _describe(connection, table, "column_name, column_key") if key == "PRI"]
    return column(exactly(keys[0])) if len(keys) == 1 else None


def _describe(connection: Connection, table: str, what: str) -> list[tuple[str, Any]]:
    rows = connection.execute(
        text(
            f"SELECT {what} FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = :table ORDER BY ordinal_position"
        ),
        {"table": table},
    )
    return [(name, value) for name, value in rows]


def exactly(name: str) -> quoted_name:
    """An identifier that SQLAlchemy quotes whatever it looks like."""
    return quoted_name(name, quote=True)


def insert_statement(connection: Connection, table: str, columns: list[str], rows: int) -> str:
    """One INSERT of so many rows for the driver; its parameters are the values, row after row.

    A fifth faster than the driver's executemany, which formats row by row. SQLAlchemy's own multi-row
    VALUES would spend three quarters of the time on compiling it.
    """
    quote = connection.dialect.identifier_preparer.quote_identifier
    names = ", ".join(quote(name) for name in columns)
    row = f"({', '.join(['%s'] * len(columns))})"
    return f"INSERT INTO {quote(table)} ({names}) VALUES {', '.join([row] * rows)}"


def chunk_rows(columns: int) -> int:
    """How many rows of so many columns go into one statement."""
    return max(1, min(CHUNK_ROWS, CHUNK_VALUES // columns))
