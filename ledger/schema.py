"""Brings the databases to the shape that this version wants: forward only, under a lock, safe to run at any time.

Two lines of Alembic migrations: `migrations/ledger/` for the ledger's own schema, and `migrations/business/` for the
one protocol table and the sample table that every business database gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from ledger import db

_HERE = Path(__file__).parent / "migrations"
_LOCK_SECONDS = 60

LEDGER = "ledger"
#: Before the name of a business database.
BUSINESS = "data:"


class MigrationsBusy(Exception):
    """Another process has been migrating this database for longer than a minute."""


@dataclass(frozen=True)
class Database:
    #: `ledger`, or `data:` and the name of a business database.
    name: str
    #: Which migrations it gets.
    line: str
    url: str


def migrate(report: Callable[[str], None] = lambda line: None) -> None:
    """Bring the ledger and every business database up to date."""
    for database in databases():
        engine = db.lone_engine(database.url, patience_seconds=120)
        with db.translated(), engine.connect() as connection, _lock(connection):
            before = _revision(connection, database.line)
            config = _config(database.line)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            after = _revision(connection, database.line)
        report(f"{database.name}: " + (f"at {after}" if before == after else f"{before or 'empty'} -> {after}"))


def pending() -> list[str]:
    """The names of databases whose schema is not the one that this version wants."""
    behind = []
    for database in databases():
        with db.translated(), db.lone_engine(database.url, patience_seconds=2).connect() as connection:
            if is_behind(connection, database.line):
                behind.append(database.name)
    return behind


def is_behind(connection: Connection, line: str) -> bool:
    return _revision(connection, line) != ScriptDirectory.from_config(_config(line)).get_current_head()


def databases() -> list[Database]:
    """The ledger, then every business database."""
    return [
        Database(LEDGER, "ledger", db.ledger().url.render_as_string(hide_password=False)),
        *(Database(f"{BUSINESS}{name}", "business", db.data_url(name)) for name in db.data_names()),
    ]


def _config(line: str) -> Config:
    config = Config()
    # Alembic takes % for the beginning of a reference.
    here = str(_HERE).replace("%", "%%")
    config.set_main_option("script_location", here)
    config.set_main_option("version_locations", f"{here}/{line}")
    config.set_main_option("path_separator", "os")
    config.attributes["version_table"] = version_table(line)
    return config


def version_table(line: str) -> str:
    """Two lines may share one database, so each keeps its own record."""
    return f"sluice_{line}_version"


def _revision(connection: Connection, line: str) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": version_table(line)}).get_current_revision()


@contextmanager
def _lock(connection: Connection) -> Iterator[None]:
    if not connection.execute(text(f"SELECT GET_LOCK('sluice_migrate', {_LOCK_SECONDS})")).scalar():
        raise MigrationsBusy(MigrationsBusy.__doc__)
    try:
        yield
    finally:
        connection.execute(text("SELECT RELEASE_LOCK('sluice_migrate')"))
