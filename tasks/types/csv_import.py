"""`csv_import`: the rows of an uploaded CSV file into a table, all of them or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from ledger import db
from tasks import storage
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import PermanentError
from tasks.work import tables
from tasks.work.csv_file import BadCsv, CsvFile, Delimiter

Header = Annotated[str, Field(min_length=1, max_length=128)]
ColumnName = Annotated[str, Field(min_length=1, max_length=64)]

#: MySQL's numbers for a row that the table cannot take: missing or wrong values, values too long or out of
#: range, duplicates, and rows that break a foreign key or a check.
_BAD_ROW = frozenset(
    {1048, 1062, 1264, 1265, 1292, 1364, 1366, 1406, 1411, 1416, 1452, 1586, 1690, 3140, 3819, 4025}
)
_AT_ROW = re.compile(r" at row (\d+)$")


class CsvImport(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"filename": "people.csv"},
                {"filename": "friends.csv", "columns": {"name": "field1", "city": "field2"}},
            ]
        },
    )

    filename: storage.FileName
    table: tables.TableName = "data"
    columns: dict[Header, ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Which column of the file goes into which column of the table; its other columns are "
        "left out. Without this every column of the file goes into the column of the same name",
    )
    delimiter: Delimiter = Field(default=",", description="What stands between two cells")

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        targets = list((self.columns or {}).values())
        if len(set(targets)) < len(targets):
            raise ValueError("columns: two columns of the file go into the same column of the table")
        return self


@dataclass(frozen=True)
class _Column:
    name: str
    #: Its place in the file's rows.
    place: int
    nullable: bool

    def value(self, row: list[str]) -> str | None:
        """The row's cell; an empty one is NULL where the table allows it."""
        return row[self.place] or (None if self.nullable else "")


@task_type("csv_import", worker="data", parameters=CsvImport, transactional=True)
def csv_import(attempt: Attempt, parameters: CsvImport) -> dict[str, Any]:
    """Insert the rows of an uploaded CSV file into a table: all of them, or none.

    The file is UTF-8 with a header line. The result is `{imported, table, filename, columns}`, progress is
    in rows (its total counts line ends, so it is too large for a file with line ends inside cells). Empty
    cells become NULL where the table allows it; columns that the file does not fill get their default. A
    line that is not CSV, has too few or too many cells, or does not fit the table, ends the task and is
    named.
    """
    with storage.open_input(parameters.filename) as file:
        total = _line_ends(file)
        table = CsvFile(file, parameters.filename, parameters.delimiter)
        connection = attempt.database()
        columns = _columns(table, tables.columns_of(connection, parameters.table), parameters)
        imported = 0
        for chunk in _chunks(table, tables.chunk_rows(len(columns))):
            _insert(connection, parameters.table, columns, chunk, table)
            imported += len(chunk)
            attempt.progress(imported, max(total, imported))
    attempt.progress(imported, imported)
    return {
        "imported": imported,
        "table": parameters.table,
        "filename": parameters.filename,
        "columns": [column.name for column in columns],
    }


def _line_ends(file: BinaryIO) -> int:
    ends = 0
    while piece := file.read(storage.CHUNK_BYTES):
        ends += piece.count(b"\n")
    file.seek(0)
    return ends


def _columns(table: CsvFile, known: dict[str, bool], parameters: CsvImport) -> list[_Column]:
    """Where each value comes from and goes to; PermanentError when the file or the table lacks a column."""
    wanted = parameters.columns or {header: header for header in table.header}
    if absent := [header for header in wanted if header not in table.header]:
        raise PermanentError(
            f"{table.name} has no column {', '.join(absent)}; its header is: {', '.join(table.header)}"
        )
    if unknown := [name for name in wanted.values() if name not in known]:
        raise PermanentError(
            f"table {parameters.table} has no column {', '.join(unknown)}; it has: {', '.join(known)}. "
            "The parameter `columns` says which column of the file goes where"
        )
    return [_Column(name, table.header.index(header), known[name]) for header, name in wanted.items()]


def _chunks(table: CsvFile, size: int) -> Iterator[list[tuple[int, list[str]]]]:
    """The rows, so many at a time, each with its line number."""
    rows = ((table.line, row) for row in table.rows())
    while chunk := list(islice(rows, size)):
        yield chunk


def _insert(
    connection: Connection,
    name: str,
    columns: list[_Column],
    chunk: list[tuple[int, list[str]]],
    table: CsvFile,
) -> None:
    statement = tables.insert_statement(connection, name, [column.name for column in columns], len(chunk))
    values = tuple(column.value(row) for _, row in chunk for column in columns)
    try:
        connection.exec_driver_sql(statement, values)
    except DBAPIError as error:
        if db.error_code(error) not in _BAD_ROW or error.orig is None:
            raise
        message = str(error.orig.args[-1])
        lines = [line for line, _ in chunk]
        if at := _AT_ROW.search(message):
            raise table.fault(message[: at.start()], line=lines[int(at[1]) - 1]) from error
        raise BadCsv(f"{table.name}, lines {lines[0]} to {lines[-1]}: {message}") from error
