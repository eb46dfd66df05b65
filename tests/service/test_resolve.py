"""What the monitor does about branches, decisions, stops and leases whose attempt is not there to see to them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from ledger import db, queries, transitions, xa
from ledger.states import State
from ledger.xa import Branch, BranchId
from tasks import resolve, results
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

#: What `seen` tells afterwards: the attempts of branches in doubt, and the rows.
Fate = tuple[list[int], int]
LEFT: Fate = ([1], 0)
COMMITTED: Fate = ([], 1)
ROLLED_BACK: Fate = ([], 0)


@pytest.fixture(autouse=True)
def _brisk(configured: Callable[..., None]) -> Iterator[None]:
    configured(SLUICE_STOP_GRACE_SECONDS=0.2)
    yield
    life.clear_up()


def prepared(task_id: str, attempt: int = 1, database: str = db.DATA) -> BranchId:
    """A prepared branch with a row, whose owner is gone."""
    branch = Branch(BranchId(task_id, attempt, database))
    branch.start().execute(text("INSERT INTO data (field1) VALUES ('left behind')"))
    branch.prepare()
    branch.close()
    eventually(lambda: not life.kill_holder(task_id, database))
    return branch.id


def is_free(task_id: str, database: str) -> bool:
    """Whether no connection holds the task's lock there."""
    with db.data(database).connect() as connection:
        lock = {"name": xa.lock_name(task_id, database)}
        return bool(connection.execute(text("SELECT IS_FREE_LOCK(:name)"), lock).scalar())


def seen() -> Fate:
    return [branch.attempt for branch in life.in_doubt()], life.rows()


@pytest.mark.parametrize(
    ("state", "attempt", "fate"),
    [
        (State.RUNNING, 1, LEFT),
        (State.COMMITTING, 1, COMMITTED),
        (State.SUCCEEDED, 1, COMMITTED),
        (State.REVOKING, 1, ROLLED_BACK),
        (State.REVOKED, 1, ROLLED_BACK),
        (State.FAILED, 1, ROLLED_BACK),
        (State.RETRYING, 1, ROLLED_BACK),
        (State.QUEUED, 1, ROLLED_BACK),
        *((state, 2, ROLLED_BACK) for state in State),
    ],
)
def test_the_row_says_what_becomes_of_a_branch(state: State, attempt: int, fate: Fate) -> None:
    task_id = life.accept("bulk_insert")
    life.put(task_id, state=state, attempt=attempt, participants=["data"])
    prepared(task_id)
    life.let_pass(10)
    assert resolve.settle_branches() == (fate != LEFT)
    assert seen() == fate


def test_a_branch_without_a_task_is_not_touched(caplog: pytest.LogCaptureFixture) -> None:
    prepared("019aa5c0-0000-7000-8000-000000000001")
    assert resolve.settle_branches() == 0
    assert seen() == LEFT
    assert "belongs to no task" in caplog.text


@pytest.mark.parametrize("state", [State.COMMITTING, State.REVOKING])
def test_a_living_attempt_gets_a_moment_to_settle_its_own(state: State) -> None:
    task_id = life.accept("bulk_insert")
    life.put(task_id, state=state, attempt=1, updated_at=db.NOW, participants=["data"])
    prepared(task_id)
    life.put(task_id, updated_at=db.NOW)
    assert resolve.settle_branches() == 0
    life.let_pass(5)
    assert resolve.settle_branches() == 1


def test_a_branch_that_its_frozen_owner_holds_is_wrested_from_it() -> None:
    task_id = life.accept("bulk_insert", {"rows": 1_000})
    with life.child(life.hit_after("decide", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        life.rounds_until(lambda: life.state(task_id) is State.SUCCEEDED)
        assert seen() == ([], 1_000)


def test_two_monitors_settle_each_branch_together() -> None:
    task_ids = [life.accept("bulk_insert") for _ in range(12)]
    for place, task_id in enumerate(task_ids):
        state = State.COMMITTING if place % 2 else State.RETRYING
        life.put(task_id, state=state, attempt=1, participants=["data"])
        prepared(task_id)
    life.let_pass(10)
    with ThreadPoolExecutor(2) as monitors:
        for each in [monitors.submit(resolve.settle_branches) for _ in range(2)]:
            each.result()
    assert seen() == ([], 6)


# --- decided, and not finished -------------------------------------------------------------------------------------


def decided(task_id: str) -> None:
    life.claim(task_id)
    assert transitions.decide(task_id, 1, databases=["data"], result={"inserted": 1})


def test_a_committed_decision_is_finished_with_its_result() -> None:
    task_id = life.accept("bulk_insert")
    decided(task_id)
    prepared(task_id)
    life.let_pass(10)
    assert resolve.finish_decided() == 0, "its branch is not settled yet"
    assert resolve.settle_branches() == 1
    assert resolve.finish_decided() == 1
    assert (life.state(task_id), life.task(task_id).result) == (State.SUCCEEDED, {"inserted": 1})
    assert results.fetch(task_id, 1) == (True, {"inserted": 1})
    assert resolve.finish_decided() == 0


def test_a_decision_whose_rows_are_missing_raises_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    task_id = life.accept("bulk_insert")
    decided(task_id)
    life.let_pass(10)
    assert resolve.finish_decided() == 0
    assert life.state(task_id) is State.COMMITTING
    assert "neither a branch nor its rows" in caplog.text


def test_the_rows_of_another_attempt_finish_nothing() -> None:
    task_id = life.accept("bulk_insert")
    decided(task_id)
    eventually(lambda: xa.settle(prepared(task_id, attempt=2), commit=True))
    life.let_pass(10)
    assert resolve.finish_decided() == 0
    assert life.state(task_id) is State.COMMITTING


def test_an_effect_in_its_last_step_is_retried_after_the_lease() -> None:
    task_id = life.accept("test_effect")
    life.claim(task_id, lease_seconds=30)
    transitions.decide(task_id, 1, databases=[], result={})
    life.let_pass(20)
    assert resolve.finish_decided() == 0
    life.let_pass(20)
    assert resolve.finish_decided() == 1
    assert life.state(task_id) is State.RETRYING
    assert "fell silent after the decision" in life.remarks(task_id)


# --- leases --------------------------------------------------------------------------------------------------------


def test_a_silent_attempts_task_is_taken_back_once() -> None:
    task_id = life.accept("bulk_insert")
    life.claim(task_id, lease_seconds=5)
    assert resolve.expire_leases() == 0
    life.let_pass(10)
    assert resolve.expire_leases() == 1
    assert resolve.expire_leases() == 0
    assert (life.state(task_id), life.task(task_id).retries) == (State.RETRYING, 1)
    assert "fell silent for longer than its lease" in life.remarks(task_id)


def test_silence_without_retries_left_is_a_failure() -> None:
    task_id = life.accept("bulk_insert", max_retries=0)
    life.claim(task_id, lease_seconds=5)
    life.let_pass(10)
    assert resolve.expire_leases() == 1
    assert (life.state(task_id), life.task(task_id).error["type"]) == (State.FAILED, "LeaseExpired")


@pytest.mark.parametrize("meanwhile", ["renewed", "decided", "handed back"])
def test_what_moved_since_the_look_is_left_alone(meanwhile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept("bulk_insert")
    life.claim(task_id, lease_seconds=5)
    life.let_pass(10)
    looked = queries.expired_leases()
    assert [row.task_id for row in looked] == [task_id]
    monkeypatch.setattr(queries, "expired_leases", lambda: looked)
    {
        "renewed": lambda: transitions.renew(task_id, 1, lease_seconds=30),
        "decided": lambda: transitions.decide(task_id, 1, databases=["data"], result={}),
        "handed back": lambda: transitions.hand_back(task_id, 1, remark=""),
    }[meanwhile]()
    before = life.everything()
    assert resolve.expire_leases() == 0
    assert life.everything() == before


# --- a database that is away ---------------------------------------------------------------------------------------

#: More tasks on it than a round bears troubles.
STUCK = resolve.MOST_TROUBLES + 2


def left(state: State, *databases: str) -> str:
    """A task whose attempt is gone, and had been on these databases."""
    task_id = life.accept("bulk_insert")
    life.put(task_id, state=state, attempt=1, participants=list(databases), lease_until=db.NOW, result={})
    return task_id


@pytest.mark.usefixtures("database_away")
def test_branches_elsewhere_are_settled_while_a_database_is_away() -> None:
    task_id = left(State.RETRYING, "data", "archive")
    for name in ("data", "archive"):
        prepared(task_id, database=name)
    life.let_pass(10)
    assert resolve.settle_branches() == 2
    assert life.in_doubt("data", "archive") == []


@pytest.mark.parametrize(
    ("state", "act", "after"),
    [
        (State.REVOKING, resolve.finish_stops, State.REVOKED),
        (State.COMMITTING, resolve.finish_decided, State.SUCCEEDED),
    ],
)
def test_tasks_elsewhere_are_finished_while_a_database_is_away(
    state: State, act: Callable[[], int], after: State, database_away: str
) -> None:
    task_id = left(state, "data")
    if state is State.COMMITTING:
        eventually(lambda: xa.settle(prepared(task_id), commit=True))
    stuck = [left(state, database_away) for _ in range(STUCK)]
    life.let_pass(10)
    assert act() == 1
    assert life.state(task_id) is after
    assert {life.state(each) for each in stuck} == {state}


def test_a_lease_runs_out_elsewhere_while_a_database_is_away(database_away: str) -> None:
    stuck = [left(State.RUNNING, database_away) for _ in range(STUCK)]
    task_id = left(State.RUNNING, "data")
    life.let_pass(10)
    resolve.expire_leases()
    assert {life.state(each) for each in [*stuck, task_id]} == {State.RETRYING}


def test_a_database_that_is_away_keeps_no_connection_on_another_from_being_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task_id = life.accept("fan_out_insert", {"rows": 3_000})
    with life.child(life.hit_after("prepare", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        kill_holder, [first, *_] = xa.kill_holder, life.standing(task_id).participants

        def away(task: str, database: str, **named: Any) -> bool:
            if database == first:
                raise db.Unavailable("not there")
            return kill_holder(task, database, **named)

        monkeypatch.setattr(xa, "kill_holder", away)
        life.let_pass(100)
        assert resolve.expire_leases() == 1
        for name in life.standing(task_id).participants[1:]:
            eventually(partial(is_free, task_id, name))


def test_a_database_that_is_away_is_asked_once_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        task_id = life.accept("bulk_insert", {"rows": 10})
        life.claim(task_id)
        transitions.join(task_id, 1, db.DATA)
    asked = []

    def away(task_id: str, database: str, **named: Any) -> bool:
        asked.append(database)
        raise db.Unavailable("it does not answer for five seconds")

    monkeypatch.setattr(xa, "kill_holder", away)
    life.let_pass(100)
    assert resolve.expire_leases() == 3
    assert asked == [db.DATA]


def test_a_monitor_that_froze_before_ending_a_connection_leaves_a_later_attempt_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    life.claim(task_id)
    transitions.join(task_id, 1, db.DATA)
    life.let_pass(100)
    kill_holder = xa.kill_holder
    with ExitStack() as children:

        def freeze(*task: Any, **named: Any) -> bool:
            monkeypatch.setattr(xa, "kill_holder", kill_holder)
            life.release(task_id)
            later = life.hit_after("progress", signal.SIGSTOP, life.worker_child(task_id, 2))
            frozen.append(children.enter_context(life.child(later)))
            eventually(lambda: life.is_frozen(frozen[0]))
            return kill_holder(*task, **named)

        frozen: list[int] = []
        monkeypatch.setattr(xa, "kill_holder", freeze)
        assert resolve.expire_leases() == 1
        os.kill(frozen[0], signal.SIGCONT)
        assert life.end_of(frozen[0]) == 0
    assert (life.state(task_id), life.rows(), life.task(task_id).attempt) == (State.SUCCEEDED, 3_000, 2)


def test_an_attempt_ends_the_connection_of_a_frozen_one_that_nobody_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    with life.child(life.hit_after("progress", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        life.let_pass(100)
        with monkeypatch.context() as dying:
            dying.setattr(resolve, "_end_connection", lambda where: None)
            assert resolve.expire_leases() == 1
        assert not xa.is_undone(task_id, db.DATA)
        life.release(task_id)
        with life.child(life.worker_child(task_id, 2)) as second:
            assert life.end_of(second) == 0
        assert (life.state(task_id), life.rows()) == (State.SUCCEEDED, 3_000)


def test_an_expired_attempts_connection_is_ended_although_its_type_declared_none() -> None:
    task_id = life.accept("test_undeclared")
    with life.child(life.hit_after("progress", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        assert not xa.is_undone(task_id, db.DATA)
        life.let_pass(100)
        assert resolve.expire_leases() == 1
        eventually(lambda: xa.is_undone(task_id, db.DATA))
