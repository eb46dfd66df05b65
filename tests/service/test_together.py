"""Posts that come at the same moment share a commit, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import DataError

from ledger import acceptance, db
from ledger.acceptance import NewTask
from ledger.callers import Caller, Scope
from ledger.states import State
from tasks import together
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

ADA = Caller("ada", frozenset({Scope.WRITE}))
BOB = Caller("bob", frozenset({Scope.WRITE}))
POSTS = 10


class Gate:
    """The first transaction waits in here until it is opened; the tasks of each are noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transactions: list[list[str]] = []
        self._reached, self._open = threading.Event(), threading.Event()
        self._real = db.transact
        monkeypatch.setattr(db, "transact", self._transact)

    def _transact(self, work: Any) -> Any:
        if not self._reached.is_set():
            self._reached.set()
            self._open.wait(30)
        return self._real(work)

    def closed_behind(self, post: Future[Any]) -> None:
        assert self._reached.wait(10), post

    def open(self) -> None:
        self._open.set()


@pytest.fixture(name="gate")
def _gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture(name="commits")
def _commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks went into each transaction, as they are written."""
    numbers: list[int] = []
    real = acceptance.accept_within

    def counted(connection: Any, new: Sequence[NewTask], *, caller: Caller) -> list[State]:
        numbers.append(len(new))
        return real(connection, new, caller=caller)

    monkeypatch.setattr(acceptance, "accept_within", counted)
    return numbers


@pytest.fixture(name="pool")
def _pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(POSTS) as pool:
        yield pool


def all_at_once(pool: ThreadPoolExecutor, gate: Gate, posts: Sequence[tuple[NewTask, Caller]]) -> list[Future[Any]]:
    """One is at work; the others have come meanwhile."""
    (first, caller), *others = posts
    made = [pool.submit(together.accept, [first], caller=caller)]
    gate.closed_behind(made[0])
    made += [pool.submit(together.accept, [task], caller=caller) for task, caller in others]
    eventually(lambda: len(together._company._waiting) == len(others), what="the others wait")
    gate.open()
    return made


def test_who_comes_during_a_commit_shares_the_next_one(
    pool: ThreadPoolExecutor, gate: Gate, commits: list[int]
) -> None:
    new = [life.new() for _ in range(POSTS)]
    made = all_at_once(pool, gate, [(task, ADA) for task in new])
    assert [each.result(30) for each in made] == [[State.QUEUED]] * POSTS
    assert commits == [1, POSTS - 1]
    assert {life.task(task.task_id).owner for task in new} == {"ada"}


def test_each_task_belongs_to_who_posted_it(pool: ThreadPoolExecutor, gate: Gate) -> None:
    new = [life.new() for _ in range(POSTS)]
    callers = [ADA, BOB] * (POSTS // 2)
    for each in all_at_once(pool, gate, list(zip(new, callers, strict=True))):
        each.result(30)
    assert [life.task(task.task_id).owner for task in new] == [caller.owner for caller in callers]


def test_one_that_cannot_be_written_keeps_no_other_out(pool: ThreadPoolExecutor, gate: Gate) -> None:
    new = [life.new() for _ in range(POSTS)]
    new[4] = new[4]._replace(queue="x" * 1_000)
    made = all_at_once(pool, gate, [(task, ADA) for task in new])
    with pytest.raises(DataError):
        made[4].result(30)
    others = [each.result(30) for place, each in enumerate(made) if place != 4]
    assert others == [[State.QUEUED]] * (POSTS - 1)


def test_an_absent_ledger_is_told_to_all(pool: ThreadPoolExecutor, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(work: Any) -> Any:
        raise db.Full("the disk is full")

    gate._real = away
    for each in all_at_once(pool, gate, [(life.new(), ADA) for _ in range(POSTS)]):
        with pytest.raises(db.Full):
            each.result(30)


def test_who_may_be_refused_goes_alone(pool: ThreadPoolExecutor, gate: Gate, commits: list[int]) -> None:
    bounded = replace(ADA, most_open_tasks=100)
    first = pool.submit(together.accept, [life.new()], caller=ADA)
    gate.closed_behind(first)
    assert together.accept([life.new()], caller=bounded) == [State.QUEUED]
    assert not first.done(), "it does not wait for the first"
    gate.open()
    first.result(30)
