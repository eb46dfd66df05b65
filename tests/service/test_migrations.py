"""The sum of the migrations is the models, however often and by how many they are run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import JSON

from cli.stack import Stack
from ledger import db, schema
from ledger.models import business
from ledger.models import ledger as ledger_models
from settings import settings
from tasks.types.dataset import data
from tests.conftest import CHECKOUT
from tests.recording import configure


@pytest.fixture
def fresh(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings point at two empty databases, each on its own server."""
    urls = {name: servers.environment()[name] for name in ("LEDGER_DATABASE_URL", "DATA_DATABASE_URL")}
    for url in urls.values():
        on_server(url, "DROP DATABASE IF EXISTS {}", "CREATE DATABASE {}")
    configure(monkeypatch, **{name: f"{url}_fresh" for name, url in urls.items()}, DATA_DATABASES="")
    db.be_patient(10)
    yield
    for url in urls.values():
        on_server(url, "DROP DATABASE {}")
    monkeypatch.undo()
    settings.cache_clear()
    db.be_patient(10)


def on_server(url: str, *statements: str) -> None:
    """Say something about the empty database beside another one."""
    with db.lone_engine(url, patience_seconds=10).connect() as connection:
        for statement in statements:
            connection.execute(text(statement.format(f"{url.rpartition('/')[2]}_fresh")))


def same_type(
    context: Any, inspected: Any, in_models: Any, inspected_type: Any, model_type: Any
) -> bool | None:
    """MariaDB keeps JSON as long text with a check; for the rest Alembic's own comparison will do."""
    return False if isinstance(model_type, JSON) and isinstance(inspected_type, mysql.LONGTEXT) else None


def differences(url: str, line: str, metadata: MetaData) -> list[Any]:
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": same_type, "compare_server_default": True}
        )
        found = compare_metadata(context, metadata)
    return [each for each in found if schema.version_table(line) not in str(each)]


def newest(line: str) -> str:
    """The number of the last migration."""
    return max(path.name[:4] for path in (CHECKOUT / "ledger" / "migrations" / line).glob("0*.py"))


@pytest.mark.usefixtures("fresh")
def test_the_sum_of_the_migrations_is_the_models() -> None:
    schema.migrate()
    both = MetaData()
    for table in (*business.tables.values(), data):
        table.to_metadata(both)
    assert differences(settings().ledger_database_url.get_secret_value(), "ledger", ledger_models) == []
    assert differences(settings().data_database_url.get_secret_value(), "business", both) == []


@pytest.mark.usefixtures("fresh")
def test_a_second_migration_finds_nothing_to_do() -> None:
    told: list[str] = []
    schema.migrate(told.append)
    schema.migrate(told.append)
    ledger_, business_ = newest("ledger"), newest("business")
    assert told[:2] == [f"ledger: empty -> {ledger_}", f"data:data: empty -> {business_}"]
    assert told[2:] == [f"ledger: at {ledger_}", f"data:data: at {business_}"]


@pytest.mark.usefixtures("fresh")
def test_a_schema_that_is_behind_is_told() -> None:
    assert schema.pending() == ["ledger", "data:data"]
    schema.migrate()
    assert schema.pending() == []


@pytest.mark.usefixtures("fresh")
def test_many_may_migrate_at_once() -> None:
    command = [sys.executable, "-m", "ledger", "migrate"]
    running = [subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [line for each in running for line in each.communicate(timeout=60)[0].splitlines()]
    assert [each.returncode for each in running] == [0, 0, 0, 0]
    assert told.count(f"ledger: empty -> {newest('ledger')}") == 1
    assert told.count(f"ledger: at {newest('ledger')}") == 3
    assert schema.pending() == []


@pytest.mark.usefixtures("fresh")
def test_who_cannot_get_the_lock_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_LOCK_SECONDS", 0)
    with db.ledger().connect() as other:
        other.execute(text("SELECT GET_LOCK('sluice_migrate', 0)"))
        with pytest.raises(schema.MigrationsBusy):
            schema.migrate()
        other.invalidate()


@pytest.mark.usefixtures("fresh")
def test_a_table_that_was_there_before_is_kept() -> None:
    with db.data().begin() as connection:
        connection.execute(
            text("CREATE TABLE data (id BIGINT AUTO_INCREMENT PRIMARY KEY, field1 TEXT, field2 TEXT)")
        )
        connection.execute(text("INSERT INTO data (field1) VALUES ('mine')"))
    schema.migrate()
    with db.data().connect() as connection:
        assert connection.execute(text("SELECT field1 FROM data")).scalars().all() == ["mine"]


@pytest.mark.usefixtures("fresh")
def test_both_lines_may_share_one_database(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, DATA_DATABASE_URL=settings().ledger_database_url.get_secret_value())
    schema.migrate()
    assert schema.pending() == []
