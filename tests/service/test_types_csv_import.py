"""csv_import puts the rows of a file into a table, or names the line that kept it from doing so."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ledger import db
from settings import settings
from tasks import storage
from tasks.retry import PermanentError
from tasks.types import dataset
from tasks.types.csv_import import CsvImport, csv_import
from tests.recording import RecordingAttempt, committed, configure

TABLE = "odd `table` 100%"


@pytest.fixture(autouse=True)
def prepared(servers: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty storage folder, and a table whose names need quoting."""
    configure(monkeypatch, SLUICE_STORAGE_DIR=tmp_path, SLUICE_TABLES=f"data,absent,{TABLE}")
    with db.data().begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE `odd ``table`` 100%%` (`select` INT NOT NULL PRIMARY KEY, `a``b %%s` VARCHAR(5),"
            " amount DECIMAL(6,2) NOT NULL DEFAULT 7, day DATE, INDEX (day)) ENGINE=InnoDB"
        )
    yield
    with db.data().begin() as connection:
        connection.exec_driver_sql("DROP TABLE `odd ``table`` 100%%`")
    settings.cache_clear()


def run(content: str | bytes, **parameters: Any) -> tuple[dict[str, Any], RecordingAttempt]:
    """Import a file in a branch of its own, which is committed unless the import fails."""
    raw = content if isinstance(content, bytes) else content.encode()
    storage.save_upload("x.csv", io.BytesIO(raw), 1 << 26)
    with committed() as attempt:
        return csv_import(attempt, CsvImport.model_validate({"filename": "x.csv", **parameters})), attempt


def fields() -> list[tuple[str | None, str | None]]:
    return [(row["field1"], row["field2"]) for row in dataset.page(0, 1_000)]


def odd_rows() -> list[Any]:
    with db.data().connect() as connection:
        return list(connection.exec_driver_sql("SELECT * FROM `odd ``table`` 100%%` ORDER BY 1"))


def test_a_file_with_the_tables_own_columns_needs_no_mapping() -> None:
    result, _ = run("field1,field2\nAda,Lovelace\nGrace,Hopper\n")
    assert result == {"imported": 2, "table": "data", "filename": "x.csv", "columns": ["field1", "field2"]}
    assert fields() == [("Ada", "Lovelace"), ("Grace", "Hopper")]


def test_a_mapping_picks_columns_and_leaves_the_rest() -> None:
    run("age;city;name\n36;London;Ada\n", delimiter=";", columns={"name": "field1", "city": "field2"})
    assert fields() == [("Ada", "London")]


def test_columns_that_the_file_lacks_keep_their_default() -> None:
    run("name\nAda\n", columns={"name": "field2"})
    assert fields() == [(None, "Ada")]


def test_marks_quotes_and_line_ends_inside_cells_are_read_as_written() -> None:
    run('\ufefffield1,field2\r\n"a ""b"", c","two\r\nlines"\r\n\r\nünï,日本\r\n')
    assert fields() == [('a "b", c', "two\r\nlines"), ("ünï", "日本")]


def test_text_that_looks_like_sql_stays_text() -> None:
    run("field1,field2\n'); DROP TABLE data; --,%s %(x)s \\' \"\"\n")
    assert fields() == [("'); DROP TABLE data; --", '%s %(x)s \\\' ""')]


def test_names_that_need_quoting_are_quoted() -> None:
    run("select,a`b %s\n1,x\n2,\n", table=TABLE)
    assert [(row[0], row[1], int(row[2])) for row in odd_rows()] == [(1, "x", 7), (2, None, 7)]


def test_many_rows_come_in_chunks_with_progress_in_rows() -> None:
    _, attempt = run("field1\n" + "".join(f"row {number}\n" for number in range(2_500)))
    assert dataset.count() == 2_500
    assert [done for done, _ in attempt.told] == [1_000, 2_000, 2_500, 2_500]
    assert attempt.told[-1] == (2_500, 2_500)


def test_a_header_alone_imports_nothing() -> None:
    result, attempt = run("field1,field2\n")
    assert (result["imported"], attempt.told) == (0, [(0, 0)])


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("3,toolong,1,", "line 1204: Data too long for column"),
        ("x,a,1,", "line 1204: .*[Ii]ncorrect integer"),
        (",a,1,", "line 1204: .*[Ii]ncorrect integer"),
        ("3,a,99999,", "line 1204: Out of range"),
        ("3,a,1,yesterday", "line 1204: .*[Ii]ncorrect date"),
        ("1000,a,1,", "Duplicate entry"),
        ("3,a,1", "line 1204: 3 cells, but the header has 4"),
    ],
)
def test_a_row_that_does_not_fit_is_named_and_nothing_stays(row: str, complaint: str) -> None:
    good = "".join(f"{number},a,1,2026-01-02\n" for number in range(1_000, 2_200))
    blank_lines = "\n\n"
    with pytest.raises(PermanentError, match=complaint):
        run(f"select,a`b %s,amount,day\n{good}{blank_lines}{row}\n4,a,1,\n", table=TABLE)
    assert odd_rows() == []


@pytest.mark.parametrize(
    ("content", "parameters", "complaint"),
    [
        ("name,city\nAda,London\n", {}, "table data has no column name, city; it has: id, field1, field2"),
        ("field1\nx\n", {"columns": {"name": "field1"}}, "x.csv has no column name; its header is: field1"),
        ("a\nx\n", {"columns": {"a": "field3"}}, "table data has no column field3"),
        ("a\nx\n", {"table": "absent"}, "there is no table 'absent'"),
        ("", {}, "x.csv is empty"),
        (b"field1\n\xe4\n", {}, "line 2: not UTF-8"),
        (b"\xff\xfef\0i\0", {}, "line 1: not UTF-8"),
    ],
)
def test_a_file_that_does_not_fit_the_table_is_refused(
    content: str | bytes, parameters: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(PermanentError, match=complaint):
        run(content, **parameters)
    assert dataset.count() == 0


def test_a_missing_file_is_named() -> None:
    with pytest.raises(PermanentError, match="there is no file absent"), committed() as attempt:
        csv_import(attempt, CsvImport(filename="absent.csv"))


def test_a_table_that_was_closed_while_the_task_waited_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = CsvImport(filename="x.csv")
    storage.save_upload("x.csv", io.BytesIO(b"field1\nx\n"), 100)
    configure(monkeypatch, SLUICE_TABLES="other")
    with pytest.raises(PermanentError, match="not open to tasks"), committed() as attempt:
        csv_import(attempt, parameters)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "filename"),
        ({"filename": "../x.csv"}, "one plain word"),
        ({"filename": "x", "table": "mysql.user"}, "not open to tasks; open are: data"),
        ({"filename": "x", "table": "data; DROP TABLE data"}, "not open to tasks"),
        ({"filename": "x", "table": "sluice_marker"}, "not open to tasks"),
        ({"filename": "x", "delimiter": ",,"}, "delimiter"),
        ({"filename": "x", "columns": {}}, "columns"),
        ({"filename": "x", "columns": {"a": "field1", "b": "field1"}}, "same column"),
        ({"filename": "x", "columns": {"a": ""}}, "columns"),
        ({"filename": "x", "truncate": True}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        CsvImport.model_validate(body)
