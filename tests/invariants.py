"""What must hold of the databases when nothing is going on any more, each broken rule as a sentence.

    assert violations(ledger, {"data": engine, "archive": other_engine}) == []

The rules of `ledger.verify`, which hold at any time, and what is more at rest: every task has ended, no branch is
prepared, and the table `data` in each business database, which began empty, has the rows that the ledger speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, func, select, table, text

from ledger import verify
from ledger.models import marker, tasks
from ledger.states import FINAL, State
from ledger.verify import Rule
from ledger.xa import FORMAT_ID

#: Sentences about one rule; beyond them only their number is told.
MOST_SENTENCES = 10


def violations(ledger: Engine, databases: Mapping[str, Engine]) -> list[str]:
    """Every broken rule as a sentence that names the task and what was seen; empty when all is well."""
    found = [sentence for rule in verify.rules(ledger, databases) for sentence in _shortened(_told(rule))]
    with ledger.connect() as books:
        found += _shortened(list(_unfinished(books)))
        for name, engine in databases.items():
            with engine.connect() as rows:
                rules = [
                    _markers_and_results_differ(books, rows, name),
                    _rows_nobody_wrote(books, rows, name),
                    _branches_in_doubt(rows, name),
                ]
                found += [sentence for rule in rules for sentence in _shortened(list(rule))]
    return found


def _told(rule: Rule) -> list[str]:
    return [f"task {each.task_id}: {each.words} ({rule.name})" for each in verify.violations(rule)]


def _shortened(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SENTENCES
    return sentences[:MOST_SENTENCES] + ([f"... and {rest} more of this kind"] if rest > 0 else [])


def _unfinished(books: Connection) -> Iterator[str]:
    """At rest every accepted task is in a terminal state."""
    found = books.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.state.not_in(sorted(FINAL))))
    for row in found:
        yield f"task {row.id} has not ended, it is {row.state}"


def _markers_and_results_differ(books: Connection, rows: Connection, name: str) -> Iterator[str]:
    """The marker of a succeeded task speaks of as many rows as its result."""
    markers = {row.task_id: row.changed_rows for row in rows.execute(select(marker))}
    for row in _writers(books, name):
        if markers.get(row.id) != _changed_rows(row.result):
            yield f"task {row.id} succeeded with {row.result}, but its marker in {name} says {markers.get(row.id)} rows"


def _rows_nobody_wrote(books: Connection, rows: Connection, name: str) -> Iterator[str]:
    """The table holds what succeeded tasks wrote into it and did not delete, no row more or less."""
    results = [row.result for row in _writers(books, name)]
    expected = sum(_changed_rows(result) * (-1 if "deleted" in result else 1) for result in results)
    there = rows.execute(select(func.count()).select_from(table("data"))).scalar_one()
    if there != expected:
        yield f"the table data in {name} has {there} rows, but succeeded tasks account for {expected}"


def _branches_in_doubt(rows: Connection, name: str) -> Iterator[str]:
    """No branch of ours waits for its decision to be carried out."""
    for task_id, attempt in prepared_branches(rows):
        if attempt.endswith(f".{name}"):
            yield f"a branch is in doubt: task {task_id}, attempt and database {attempt}"


def prepared_branches(connection: Connection) -> list[tuple[str, str]]:
    """Both parts of the name of every branch of ours that is prepared on a server: the task, and attempt.database."""
    is_mariadb = connection.dialect.is_mariadb  # type: ignore[attr-defined]
    rows = connection.execute(text("XA RECOVER" if is_mariadb else "XA RECOVER CONVERT XID"))
    named = [(length, _as_text(name)) for format_id, length, _, name in rows if format_id == FORMAT_ID]
    return [(name[:length], name[length:]) for length, name in named]


def _as_text(name: str | bytes) -> str:
    """MariaDB says names as they are, and as bytes when another program's is no text; MySQL in hexadecimal digits."""
    if isinstance(name, bytes):
        return name.decode("latin-1")
    return bytes.fromhex(name[2:]).decode("latin-1") if name.startswith("0x") else name


def _changed_rows(result: dict[str, Any]) -> int:
    """Rows in each of the databases that the task wrote to."""
    return int(next(result[word] for word in ("inserted", "imported", "deleted") if word in result))


def _writers(books: Connection, name: str) -> Iterator[Any]:
    """The succeeded tasks whose decision covered a database."""
    decided = select(tasks.c.id, tasks.c.attempt, tasks.c.result, tasks.c.participants).where(
        tasks.c.state == State.SUCCEEDED, tasks.c.participants.is_not(None)
    )
    return (row for row in books.execute(decided) if name in row.participants)
