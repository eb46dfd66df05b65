"""Looks whether a database is fit for what is done with it, and says in a sentence what is missing, and the way out.

    look("data:archive").faults == ["table data is MyISAM, which no rollback undoes: ALTER TABLE data ENGINE=InnoDB"]

Workers and the monitor tell it at their start, `/readyz` and `python -m ledger migrate` whenever they are asked: a
privilege that is missing is better known before the first stop than by it. A database that is away is not unfit; it is
looked at when it is back.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, bindparam, text
from sqlalchemy.exc import DBAPIError

from ledger import db, grants, models, schema, xa
from ledger.grants import Role
from ledger.schema import Database
from settings import settings

log = logging.getLogger(__name__)

#: Seconds that each look waits for a database.
PATIENCE_SECONDS = 2.0

_OUR_TABLES = {"ledger": frozenset(models.ledger.tables), "business": frozenset(models.business.tables)}
_LIMITS = "docs/explanation/two-phase-commit.md#known-limits"


@dataclass(frozen=True)
class Fitness:
    #: What keeps a promise from being held.
    faults: tuple[str, ...] = ()
    #: What works, but is not all that the operator may expect.
    warnings: tuple[str, ...] = ()


def look(name: str, role: Role | None = None) -> Fitness:
    """Look at the database of that name (`schema.databases`), and whether a role may do there what it has to.

    Raises `Unavailable` when it is away.
    """
    [database] = [each for each in schema.databases() if each.name == name]
    engine = db.lone_engine(database.url, patience_seconds=PATIENCE_SECONDS)
    try:
        with db.translated(), engine.connect() as connection:
            if refused := _refusal(connection, "SELECT", schema.version_table(database.line)):
                return Fitness((refused,))
            if schema.is_behind(connection, database.line):
                return Fitness((f"{name} is behind this version: run `python -m ledger migrate`",))
            faults = [*_unfit_tables(connection, database, role), *_refusals(connection, database, role)]
            if database.line == "business":
                faults += [*_hidden_branches(database), *_unstoppable(engine)]
            return Fitness(tuple(faults), tuple(_limits(connection, database.line)))
    except DBAPIError as error:
        return Fitness((f"the server refuses: {error.orig}",))


def tell(names: Iterable[str], role: Role) -> list[str]:
    """Log what is to be said of these databases; returns those that are away, which were not looked at."""
    away = []
    for name in names:
        try:
            found = look(name, role)
        except db.Unavailable as error:
            log.warning("%s is not looked at yet: %s", name, error, extra={"action": "database_away"})
            away.append(name)
            continue
        for fault in found.faults:
            log.error("%s: %s", name, fault, extra={"action": "database_unfit", "database": name})
        for warning in found.warnings:
            log.warning("%s: %s", name, warning, extra={"action": "database_limited", "database": name})
    return away


def _unfit_tables(connection: Connection, database: Database, role: Role | None) -> Iterator[str]:
    """Ours must be there, and those that tasks write must be undone by a rollback. Nobody sees a table without a right
    on it."""
    ours = _OUR_TABLES[database.line]
    if role is not None and database.line == "ledger":
        ours = ours & grants.needed(role, database.line).keys()
    theirs = frozenset(settings().tables) if database.line == "business" else frozenset()
    found = connection.execute(
        text(
            "SELECT table_name, engine FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_name IN :names"
        ).bindparams(bindparam("names", sorted(ours | theirs), expanding=True))
    )
    engines = {str(row[0]): row[1] for row in found}
    for table in sorted(ours - engines.keys()):
        yield f"table {table} is gone, though the migrations that made it are on record: restore it"
    for table, engine in sorted(engines.items()):
        if engine is not None and engine != "InnoDB":
            yield f"table {table} is {engine}, which no rollback undoes: ALTER TABLE {table} ENGINE=InnoDB"


#: A statement that needs one right on a table and finds nothing to do.
_TRIES = {
    "SELECT": "SELECT 1 FROM `{table}` WHERE 1 = 0",
    "INSERT": "INSERT INTO `{table}` SELECT * FROM `{table}` WHERE 1 = 0",
    "UPDATE": "UPDATE `{table}` SET `{column}` = `{column}` WHERE 1 = 0",
    "DELETE": "DELETE FROM `{table}` WHERE 1 = 0",
}
#: Command denied on the table, on a column, or on the whole database.
_DENIED = frozenset({1142, 1143, 1044})


def _refusals(connection: Connection, database: Database, role: Role | None) -> Iterator[str]:
    """What this user may not do though the role has to. Tried, since rights come by tables, patterns and roles."""
    if role is not None and database.line == "business":
        role = Role.TASKS
    for table, rights in grants.needed(role, database.line).items() if role else ():
        for right in rights:
            if refused := _refusal(connection, right, table):
                yield refused


def _refusal(connection: Connection, right: str, table: str) -> str | None:
    column = _FIRST_COLUMNS.get(table, "id")
    try:
        connection.exec_driver_sql(_TRIES[right].format(table=table, column=column))
    except DBAPIError as error:
        if db.error_code(error) not in _DENIED:
            return None  # such as a table that is not there, which is told elsewhere
        url = connection.engine.url
        user = grants.account(f"{url.username}@...")
        return f"user {url.username!r} may not {right}: GRANT {right} ON `{url.database}`.`{table}` TO {user}"
    return None


_FIRST_COLUMNS = {
    table.name: next(iter(table.columns)).name
    for metadata in (models.ledger, models.business)
    for table in metadata.tables.values()
}


def _hidden_branches(database: Database) -> Iterator[str]:
    """On MySQL it takes a privilege to see prepared branches."""
    try:
        xa.recover(database.name.removeprefix(schema.BUSINESS))
    except xa.MissingPrivilege as error:
        yield str(error)


def _unstoppable(engine: Engine) -> Iterator[str]:
    """A stop finds a silent attempt's connection by the lock that it holds, and ends it."""
    with engine.connect() as holder, engine.connect() as beside:
        yield from ending_faults(holder, beside)
        holder.invalidate()


def ending_faults(holder: Connection, beside: Connection) -> Iterator[str]:
    """Whether one connection can be found and ended from beside it, as a stop does."""
    lock = {"name": f"sluice:fit:{uuid.uuid4()}"}
    holder.execute(text("SELECT GET_LOCK(:name, 0)"), lock)
    mine = holder.execute(text("SELECT CONNECTION_ID()")).scalar_one()
    found = beside.execute(text("SELECT IS_USED_LOCK(:name)"), lock).scalar()
    if found != mine:
        yield "a named lock does not tell who holds it: a proxy that shares sessions cannot stand in between"
        return
    try:
        beside.exec_driver_sql(f"KILL CONNECTION {int(found)}")
    except DBAPIError as error:
        yield f"a stop could not end a silent attempt's connection by KILL: {error.orig}"


def _limits(connection: Connection, line: str) -> Iterator[str]:
    is_mariadb = connection.dialect.is_mariadb  # type: ignore[attr-defined]
    flush, binary_log, sync = connection.exec_driver_sql(
        "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog"
    ).one()
    if flush != 1:
        yield f"a power cut may take back what is committed: innodb_flush_log_at_trx_commit is {flush} and should be 1"
    if binary_log and sync != 1 and not is_mariadb:
        yield f"a power cut may take back what is committed: sync_binlog is {sync} and should be 1"
    if binary_log and is_mariadb and line == "business":
        yield f"MariaDB's binary log is on: after a crash a replica may stop at an XA COMMIT, see {_LIMITS}"
