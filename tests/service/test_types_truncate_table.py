"""truncate_table empties a table so that it can be taken back, and makes nobody wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from ledger import db
from settings import settings
from tasks.retry import PermanentError
from tasks.types import dataset
from tasks.types.truncate_table import TableBusy, TruncateTable, truncate_table
from tests.recording import committed, configure

_TABLES = {
    "keyless": "CREATE TABLE keyless (a INT)",
    "two_keys": "CREATE TABLE two_keys (a INT, b INT, PRIMARY KEY (a, b))",
    "worded": "CREATE TABLE worded (`key` VARCHAR(40) PRIMARY KEY)",
    "parent": "CREATE TABLE parent (a INT PRIMARY KEY)",
    "child": "CREATE TABLE child (a INT PRIMARY KEY, FOREIGN KEY (a) REFERENCES parent (a))",
}


@pytest.fixture(autouse=True)
def tables(servers: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(monkeypatch, SLUICE_TABLES=",".join(["data", "absent", *_TABLES]))
    with db.data().begin() as connection:
        for statement in _TABLES.values():
            connection.exec_driver_sql(f"{statement} ENGINE=InnoDB")
    yield
    with db.data().begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {', '.join(reversed(_TABLES))}")
    settings.cache_clear()


def run(table: str) -> dict[str, Any]:
    with committed() as attempt:
        result: dict[str, Any] = truncate_table(attempt, TruncateTable(table=table))
    return result


def fill(table: str, *rows: str) -> None:
    with db.data().begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES {', '.join(rows)}")


def size(table: str) -> int:
    with db.data().connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one())


def fill_data(rows: int) -> None:
    fill("data (field1)", *(f"('{number}')" for number in range(rows)))


def test_a_table_is_emptied_in_stretches_with_progress() -> None:
    fill_data(25_000)
    with committed() as attempt:
        assert truncate_table(attempt, TruncateTable(table="data")) == {"table": "data", "deleted": 25_000}
        assert dataset.count() == 25_000
    assert dataset.count() == 0
    assert attempt.told == [(10_000, 25_000), (20_000, 25_000), (25_000, 25_000)]


def test_a_stop_brings_every_row_back() -> None:
    fill_data(12_000)
    with pytest.raises(KeyboardInterrupt), committed() as attempt:
        truncate_table(attempt, TruncateTable(table="data"))
        raise KeyboardInterrupt
    assert dataset.count() == 12_000


@pytest.mark.parametrize("rows", [0, 1, 9_999, 10_000, 10_001])
def test_no_row_is_left_at_the_edge_of_a_stretch(rows: int) -> None:
    if rows:
        fill_data(rows)
    assert run("data")["deleted"] == rows
    assert dataset.count() == 0


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ("keyless", ["(1)", "(1)", "(NULL)"]),
        ("two_keys", ["(1, 1)", "(1, 2)"]),
        ("worded", ["('a')", "('%s')", "('é')"]),
    ],
)
def test_tables_of_any_key_are_emptied(table: str, rows: list[str]) -> None:
    fill(table, *rows)
    assert run(table) == {"table": table, "deleted": len(rows)}
    assert size(table) == 0


def test_it_gives_way_to_a_task_that_is_writing_and_leaves_all_rows() -> None:
    fill_data(100)
    with db.data().connect() as writer:
        writer.exec_driver_sql("INSERT INTO data (field1) VALUES ('not committed yet')")
        began = time.monotonic()
        with pytest.raises(TableBusy, match="other tasks are writing to data"):
            run("data")
        assert 1 < time.monotonic() - began < 4
        writer.rollback()
    assert dataset.count() == 100


def test_readers_and_writers_do_not_wait_behind_it() -> None:
    fill_data(100)
    with committed() as attempt:
        truncate_table(attempt, TruncateTable(table="data"))
        with db.data().begin() as other:
            other.exec_driver_sql("SET SESSION innodb_lock_wait_timeout=1, lock_wait_timeout=1")
            assert other.exec_driver_sql("SELECT COUNT(*) FROM data").scalar_one() == 100
            other.exec_driver_sql("INSERT INTO data (field1) VALUES ('new')")
    assert dataset.count() == 1


def test_rows_that_another_table_needs_are_not_deleted() -> None:
    fill("parent", "(1)")
    fill("child", "(1)")
    with pytest.raises(PermanentError, match="refer to rows of parent"):
        run("parent")
    assert size("parent") == 1


def test_an_open_table_that_is_not_there_is_named() -> None:
    with pytest.raises(PermanentError, match="there is no table 'absent'"):
        run("absent")


@pytest.mark.parametrize(
    "table", ["", "users", "DATA", "data--", "sluice_marker", "mysql.user", None, 5, ["data"]]
)
def test_tables_that_are_not_open_are_refused_at_the_door(table: Any) -> None:
    with pytest.raises(ValidationError, match="table"):
        TruncateTable.model_validate({"table": table})
