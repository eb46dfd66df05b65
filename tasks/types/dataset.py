"""The table `data`: its definition, its reads, and the types that fill it with random rows."""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, func, select

from ledger import db
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.work import tables

data = Table(
    "data",
    MetaData(),
    #: Big, because ids of rows that were rolled back are not used again.
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("field1", String(50)),
    Column("field2", String(50)),
)

MOST_ROWS = 1_000_000

_SHORTEST, _LONGEST = 8, 12
_LETTERS = (string.ascii_letters + string.digits).encode()
#: Every byte as a letter or digit. The first eight letters come up a quarter more often, which filler can
#: bear.
_AS_LETTER = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


def count() -> int:
    """How many rows the table has."""
    with db.reading(db.data()) as connection:
        return connection.execute(select(func.count()).select_from(data)).scalar_one()


def page(after: int, limit: int) -> list[dict[str, Any]]:
    """The next rows by id: `[{id, field1, field2}]`, beginning after an id."""
    with db.reading(db.data()) as connection:
        rows = connection.execute(select(data).where(data.c.id > after).order_by(data.c.id).limit(limit))
        return [dict(row) for row in rows.mappings()]


class BulkInsert(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"rows": 100_000}]}
    )

    rows: int = Field(
        default=100_000,
        ge=1,
        le=MOST_ROWS,
        validation_alias=AliasChoices("rows", "num"),
        description="How many random rows to insert; `num` is another name for it",
    )


@task_type("bulk_insert", worker="data", parameters=BulkInsert, transactional=True)
def bulk_insert(attempt: Attempt, parameters: BulkInsert) -> dict[str, Any]:
    """Insert random rows into the table `data`: all of them, or none.

    The result is `{inserted, table}`, progress is in rows. Field1 and field2 are 8 to 12 letters and digits.
    """
    _fill([attempt.database()], attempt, parameters.rows)
    return {"inserted": parameters.rows, "table": data.name}


class FanOutInsert(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{}, {"rows": 1_000}]}
    )

    rows: int = Field(default=10_000, ge=1, le=MOST_ROWS, description="How many random rows, in each database")
    databases: list[str] | None = Field(
        default=None, min_length=1, max_length=16, description="Names of business databases; all of them by default"
    )

    @field_validator("databases")
    @classmethod
    def _are_known(cls, names: list[str] | None) -> list[str] | None:
        for name in names or ():
            if name not in db.data_names():
                raise ValueError(f"there is no database {name!r}; known are {', '.join(db.data_names())}")
        return names


@task_type("fan_out_insert", worker="data", parameters=FanOutInsert, transactional=True)
def fan_out_insert(attempt: Attempt, parameters: FanOutInsert) -> dict[str, Any]:
    """Insert the same random rows into the table `data` of several databases: everywhere, or nowhere.

    The result is `{inserted, table, databases}` with the rows of each database, progress is in rows of all together.
    """
    names = list(dict.fromkeys(parameters.databases or db.data_names()))
    _fill([attempt.database(name) for name in names], attempt, parameters.rows)
    return {"inserted": parameters.rows, "table": data.name, "databases": names}


def _fill(connections: Sequence[Connection], attempt: Attempt, rows: int) -> None:
    """The same random rows through each connection, chunk by chunk."""
    columns = ["field1", "field2"]
    for start in range(0, rows, tables.CHUNK_ROWS):
        chunk = min(tables.CHUNK_ROWS, rows - start)
        words = tuple(random_words(chunk * len(columns)))
        for connection in connections:
            # One statement of many rows is a fifth faster than the driver's executemany, which formats them one by one.
            connection.exec_driver_sql(tables.insert_statement(connection, data.name, columns, chunk), words)
        attempt.progress((start + chunk) * len(connections), rows * len(connections))


def random_words(number: int) -> list[str]:
    """Words of 8 to 12 letters and digits.

    Cut from one block of the system's random bytes: eight times as fast as choosing letter by letter, and,
    unlike the state of `random`, not inherited by all children of a forking worker alike.
    """
    letters = os.urandom(number * _LONGEST).translate(_AS_LETTER).decode("ascii")
    shorter = os.urandom(number)
    spread = _LONGEST - _SHORTEST + 1
    return [
        letters[place * _LONGEST : (place + 1) * _LONGEST - shorter[place] % spread]
        for place in range(number)
    ]
