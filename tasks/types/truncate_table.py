"""`truncate_table`: empty a table inside the task's branch, so that a stop brings its rows back.

By DELETE, because TRUNCATE is DDL: it cannot be taken back, is refused inside a branch, and while it waits
for a lock every reader of the table waits behind it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, and_, delete, func, select, table, true
from sqlalchemy.exc import DBAPIError

from ledger import db
from ledger.callers import Scope
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import PermanentError
from tasks.work import tables

#: Seconds to wait for rows that other tasks are writing. Short, because what is deleted so far stays locked
#: meanwhile.
LOCK_WAIT_SECONDS = 2
#: Rows deleted per statement.
STRETCH_ROWS = 10_000

#: MySQL's numbers: lock wait timeout; a foreign key of another table refers to a row.
_LOCK_WAIT_TIMEOUT, _REFERRED_TO = 1205, 1451


class TableBusy(Exception):
    """Other tasks are writing to the table; it can be emptied when they are done."""


class TruncateTable(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"table": "data"}]}
    )

    table: tables.TableName


@task_type(
    "truncate_table", worker="data", parameters=TruncateTable, transactional=True, scope=Scope.ADMIN
)
def truncate_table(attempt: Attempt, parameters: TruncateTable) -> dict[str, Any]:
    """Delete all rows of a table: all of them, or none.

    The result is `{table, deleted}`, progress is in rows. Rows that other tasks are writing are waited for
    two seconds; then the attempt fails and is tried again later.
    """
    name = parameters.table
    connection = attempt.database()
    tables.columns_of(connection, name)
    connection.exec_driver_sql(
        f"SET SESSION innodb_lock_wait_timeout={LOCK_WAIT_SECONDS}, lock_wait_timeout={LOCK_WAIT_SECONDS}"
    )
    try:
        return {"table": name, "deleted": _delete_all(attempt, connection, name)}
    except DBAPIError as error:
        if db.error_code(error) == _LOCK_WAIT_TIMEOUT:
            raise TableBusy(f"other tasks are writing to {name}") from error
        if db.error_code(error) == _REFERRED_TO:
            raise PermanentError(f"rows of another table refer to rows of {name}") from error
        raise


def _delete_all(attempt: Attempt, connection: Connection, name: str) -> int:
    """Delete in stretches of the primary key.

    A LIMIT without bounds would walk over everything deleted before, each time anew.
    """
    rows = table(tables.exactly(name))
    key = tables.key_of(connection, name)
    total = connection.execute(select(func.count()).select_from(rows)).scalar_one()
    if key is None:
        attempt.progress(0, total)
        deleted = connection.execute(delete(rows)).rowcount
        attempt.progress(deleted, deleted)
        return deleted
    deleted, beyond = 0, true()
    while True:
        last = connection.execute(
            select(key).select_from(rows).where(beyond).order_by(key).offset(STRETCH_ROWS - 1).limit(1)
        ).scalar()
        stretch = beyond if last is None else and_(beyond, key <= last)
        deleted += connection.execute(delete(rows).where(stretch)).rowcount
        attempt.progress(deleted, max(total, deleted))
        if last is None:
            return deleted
        beyond = key > last
