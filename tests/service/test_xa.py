"""Branches on a real server: who sees their rows when, who may settle them, and what the server's answers prove."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from cli.stack import Stack
from ledger import db, xa
from ledger.xa import FORMAT_ID, Branch, BranchId
from tasks.types.dataset import data
from tests import invariants, life
from tests.conftest import eventually

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"


@pytest.fixture
def branch() -> Iterator[Callable[..., Branch]]:
    """Makes branches that have begun, with a row in them; ends them all."""
    made: list[Branch] = []

    def begin(attempt: int = 1, task_id: str = TASK_ID, rows: int = 1) -> Branch:
        branch = Branch(BranchId(task_id, attempt, db.DATA))
        made.append(branch)
        try:
            connection = branch.start()
        except Exception:
            branch.close()
            raise
        connection.execute(insert(data), [{"field1": str(row)} for row in range(rows)])
        return branch

    yield begin
    for each in made:
        each.close()
    life.clear_up()


def is_free() -> bool:
    with db.data().connect() as connection:
        lock = {"name": xa.lock_name(TASK_ID, db.DATA)}
        return bool(connection.execute(text("SELECT IS_FREE_LOCK(:name)"), lock).scalar())


def test_a_branch_that_was_lost_is_never_worked_on_outside(branch: Callable[..., Branch]) -> None:
    connection = branch().connection
    life.kill_holder(TASK_ID, db.DATA)
    with pytest.raises(DBAPIError):
        connection.execute(insert(data), [{"field1": "lost"}])
    # A handler that thinks it can go on from here.
    connection.rollback()
    for _ in range(2):
        with pytest.raises(db.Unavailable, match="was lost"):
            connection.execute(insert(data), [{"field1": "outside"}])
    assert life.rows() == 0


def is_mariadb() -> bool:
    """MariaDB ties a prepared branch to the session that prepared it; MySQL lets go of it."""
    with db.data().connect() as connection:
        return bool(connection.dialect.is_mariadb)  # type: ignore[attr-defined]


def test_rows_and_marker_appear_together_at_the_commit(branch: Callable[..., Branch]) -> None:
    mine = branch(rows=3)
    for step in (mine.prepare, mine.commit):
        assert (life.rows(), xa.marked_attempt(TASK_ID, db.DATA), xa.remaining_rows(TASK_ID, db.DATA)) == (
            0,
            None,
            0,
        )
        step()
    assert (life.rows(), xa.marked_attempt(TASK_ID, db.DATA), xa.remaining_rows(TASK_ID, db.DATA)) == (
        3,
        1,
        3,
    )
    assert xa.recover(db.DATA) == []


@pytest.mark.parametrize("prepared", [False, True])
def test_a_rollback_leaves_neither_rows_nor_branch(prepared: bool, branch: Callable[..., Branch]) -> None:
    mine = branch()
    if prepared:
        mine.prepare()
    mine.rollback()
    mine.close()
    assert (life.rows(), xa.marked_attempt(TASK_ID, db.DATA), xa.recover(db.DATA)) == (0, None, [])
    eventually(lambda: xa.is_undone(TASK_ID, db.DATA))


def test_an_unprepared_branch_dies_with_its_connection(branch: Callable[..., Branch]) -> None:
    branch().close()
    eventually(is_free)
    assert (life.rows(), xa.recover(db.DATA)) == (0, [])


def test_a_prepared_branch_outlives_its_connection(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.prepare()
    mine.close()
    assert xa.recover(db.DATA) == [mine.id]
    assert not xa.is_undone(TASK_ID, db.DATA)
    eventually(lambda: xa.settle(mine.id, commit=True))
    assert (life.rows(), xa.recover(db.DATA)) == (1, [])


def test_a_prepared_branch_counts_the_tasks_rows_alone(branch: Callable[..., Branch]) -> None:
    mine = branch(rows=3)
    mine.prepare()
    assert mine.rows == 3


def test_letting_go_twice_is_harmless(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.kill()
    with pytest.raises(DBAPIError):
        mine.prepare()
    mine.close()
    mine.close()


def test_a_settled_branch_whose_connection_was_killed_is_let_go(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.rollback()
    mine.kill()
    eventually(is_free)
    mine.close()
    assert mine.connection.closed


def test_a_branch_refuses_whatever_would_commit_it(branch: Callable[..., Branch]) -> None:
    mine = branch()
    for statement in ("COMMIT", "BEGIN", "TRUNCATE TABLE data", "CREATE TABLE other (a INT)"):
        with pytest.raises(DBAPIError):
            mine.connection.exec_driver_sql(statement)
    assert life.rows() == 0
    mine.prepare()
    mine.commit()
    assert life.rows() == 1


def test_a_failed_statement_leaves_the_branch_alive(branch: Callable[..., Branch]) -> None:
    mine = branch()
    with pytest.raises(DBAPIError):
        mine.connection.exec_driver_sql("INSERT INTO data (id, field1) VALUES (1, 'a'), (1, 'b')")
    mine.prepare()
    mine.commit()
    assert life.rows() == 1


def test_a_second_attempt_waits_until_the_first_is_gone(
    branch: Callable[..., Branch], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = branch()
    monkeypatch.setattr(xa, "LOCK_WAIT_SECONDS", 0)
    with pytest.raises(xa.StillHeld):
        branch(attempt=2)
    first.rollback()
    first.close()
    monkeypatch.setattr(xa, "LOCK_WAIT_SECONDS", 5)
    second = branch(attempt=2)
    second.prepare()
    second.commit()
    assert xa.marked_attempt(TASK_ID, db.DATA) == 2


def test_no_second_attempt_commits_beside_the_first(
    branch: Callable[..., Branch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xa, "ROW_WAIT_SECONDS", 1)
    first = branch()
    first.prepare()
    first.close()
    eventually(is_free)
    with pytest.raises(DBAPIError) as waited:
        branch(attempt=2)
    assert db.error_code(waited.value) == 1205, "it waits for the prepared marker"
    eventually(lambda: xa.settle(first.id, commit=True))
    with pytest.raises(DBAPIError) as doubled:
        branch(attempt=3)
    assert db.error_code(doubled.value) == 1062, "it meets the committed marker"
    assert life.rows() == 1


def test_a_commit_that_somebody_else_made_counts(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.prepare()
    with db.data().begin() as connection:
        connection.exec_driver_sql("KILL CONNECTION %s", (mine.connection_id,))
    eventually(lambda: xa.settle(mine.id, commit=True))
    late = Branch(mine.id)
    late.state = "prepared"
    late.commit()
    assert late.state == "done"
    late.close()


def test_a_commit_of_a_branch_that_is_gone_is_no_success(branch: Callable[..., Branch]) -> None:
    late = Branch(BranchId(TASK_ID, 1, db.DATA))
    late.state = "prepared"
    with pytest.raises(DBAPIError) as refusal:
        late.commit()
    assert db.error_code(refusal.value) == xa.XAER_NOTA
    late.close()


@pytest.mark.parametrize("commit", [True, False])
def test_a_branch_in_its_owners_hands_is_settled_by_others_on_mysql_only(
    commit: bool, branch: Callable[..., Branch]
) -> None:
    mine = branch()
    mine.prepare()
    is_held = is_mariadb()
    assert xa.settle(mine.id, commit=commit) is not is_held
    assert xa.recover(db.DATA) == ([mine.id] if is_held else [])
    assert life.kill_holder(TASK_ID, db.DATA)
    eventually(lambda: xa.settle(mine.id, commit=commit))
    assert life.rows() == (1 if commit else 0)


def test_settling_what_is_settled_is_done(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.prepare()
    mine.commit()
    assert xa.settle(mine.id, commit=True)
    assert xa.settle(mine.id, commit=False)
    assert life.rows() == 1


def test_only_branches_of_our_own_are_listed(branch: Callable[..., Branch]) -> None:
    mine = branch()
    mine.prepare()
    foreign: tuple[Any, ...] = (b"\xff\x00" + TASK_ID[2:].encode(), "1.data", FORMAT_ID + 1)
    with db.lone_engine(db.data_url(db.DATA), patience_seconds=5).connect() as other:
        for verb in ("START", "END", "PREPARE"):
            other.exec_driver_sql(f"XA {verb} %s,%s,%s", foreign)
        found, seen_by_tests = xa.recover(db.DATA), invariants.prepared_branches(other)
        other.exec_driver_sql("XA ROLLBACK %s,%s,%s", foreign)
    assert found == [mine.id]
    assert seen_by_tests == [(TASK_ID, "1.data")]


def test_killing_nobody_is_no_feat() -> None:
    assert not life.kill_holder(TASK_ID, db.DATA)
    assert xa.is_undone(TASK_ID, db.DATA)


def test_a_kill_hits_only_the_holder_of_the_lock(branch: Callable[..., Branch]) -> None:
    mine, other = branch(), branch(task_id=TASK_ID[:-1] + "2")
    assert life.kill_holder(TASK_ID, db.DATA)
    eventually(is_free)
    other.prepare()
    other.commit()
    with pytest.raises(DBAPIError):
        mine.prepare()
    assert life.rows() == 1


def test_a_branch_does_not_kill_who_follows_it(branch: Callable[..., Branch]) -> None:
    first = branch()
    first.rollback()
    first.close()
    second = branch(attempt=2)
    first.kill()
    second.prepare()
    second.commit()
    assert life.rows() == 1


def test_the_lock_is_free_only_after_the_rollback(branch: Callable[..., Branch]) -> None:
    mine = branch(rows=1)
    for _ in range(40):
        mine.connection.execute(insert(data), [{"field1": str(row)} for row in range(1_000)])
    life.kill_holder(TASK_ID, db.DATA)
    eventually(is_free, every=0.001)
    with db.data().connect() as connection:
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM data").scalar() == 0


def test_a_prepared_branch_outlives_the_server(servers: Stack, branch: Callable[..., Branch]) -> None:
    mine, unprepared = branch(), branch(task_id=TASK_ID[:-1] + "2")
    mine.prepare()
    server = servers.databases["data"]
    servers.wait(server, after_pid=servers.kill(server, signal.SIGKILL))
    mine.close()
    unprepared.close()
    assert xa.recover(db.DATA) == [mine.id]
    assert xa.settle(mine.id, commit=True)
    assert life.rows() == 1
