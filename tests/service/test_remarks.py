"""The monitor says on waiting tasks why they wait: once for each new cause, and with bounded work."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from ledger import acceptance, db, dispatches, presence, queries, transitions
from ledger.models import tasks
from ledger.remarks import EXPLAINED, Wait, explain
from ledger.states import State
from tasks import remarks
from tests import broker, life, task_types  # noqa: F401  registers the types


@pytest.fixture(autouse=True)
def _empty_queues(servers: object) -> None:
    broker.declare_empty()


def said(task_id: str) -> list[str]:
    """The causes that a task was told, in order."""
    return [row.detail["cause"] for row in queries.history(task_id) if row.event == EXPLAINED]


def test_a_waiting_task_is_told_each_new_cause_once(configured: Callable[..., None]) -> None:
    task_id = life.accept()
    assert remarks.leave() == 0
    life.let_pass(remarks.LATE_SECONDS + 1)
    assert [remarks.leave() for _ in range(3)] == [1, 0, 0]
    presence.beat(life.said(free=0))
    assert [remarks.leave() for _ in range(3)] == [1, 0, 0]
    assert said(task_id) == ["no_worker", "ticket_not_sent"]
    assert "No worker takes tickets from data.normal" in life.remarks(task_id)
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    assert [remarks.leave() for _ in range(2)] == [1, 0]


def test_a_new_wait_is_explained_anew() -> None:
    task_id = life.accept()
    life.let_pass(20)
    assert remarks.leave() == 1
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="a worker leaves")
    assert remarks.leave() == 0
    life.let_pass(20)
    assert remarks.leave() == 1
    assert said(task_id) == ["no_worker", "no_worker"]


def test_what_goes_on_or_waits_rightly_is_told_nothing() -> None:
    presence.beat(life.said(free=2))
    life.accept(delay_seconds=3_600)
    running, next_one = life.accept(), life.accept()
    life.claim(running)
    dispatches.mark_dispatched([life.ticket(next_one)])
    life.let_pass(20)
    with db.transaction() as connection:
        connection.execute(tasks.update().where(tasks.c.id == next_one).values(dispatched_at=db.earlier(2)))
    assert remarks.leave() == 0


def test_a_silent_attempt_and_an_overdue_task_are_explained() -> None:
    silent, overdue = life.accept(), life.accept(delay_seconds=5)
    life.claim(silent, lease_seconds=2)
    life.let_pass(30)
    assert remarks.leave() == 2
    assert (said(silent), said(overdue)) == (["worker_lost"], ["monitor_missing"])


def test_two_monitors_with_the_same_remark_write_one() -> None:
    wait = Wait(life.accept(), State.QUEUED, 0, "no_worker")
    assert [explain(wait, "No worker is there.") for _ in range(2)] == [True, False]


def test_a_task_that_has_moved_gets_no_remark() -> None:
    task_id = life.accept()
    life.claim(task_id)
    assert not explain(Wait(task_id, State.QUEUED, 0, "no_worker"), "No worker is there.")
    assert EXPLAINED not in life.names_of_events(task_id)


def test_a_task_that_somebody_is_moving_is_not_waited_for() -> None:
    task_id = life.accept()
    with db.transaction() as connection:
        connection.execute(tasks.update().where(tasks.c.id == task_id).values(timeout_seconds=7))
        began = time.monotonic()
        assert not explain(Wait(task_id, State.QUEUED, 0, "no_worker"), "No worker is there.")
        assert time.monotonic() - began < 1


def test_a_long_backlog_costs_no_more_than_its_head() -> None:
    task_ids = []
    for _ in range(10):
        new = [life.new() for _ in range(2_000)]
        acceptance.accept(new)
        task_ids += [task.task_id for task in new]
    life.let_pass(60)
    began = time.monotonic()
    assert remarks.leave() == remarks.SAMPLE
    assert time.monotonic() - began < 5
    assert remarks.leave() == 0
    assert [bool(said(each)) for each in task_ids[: remarks.SAMPLE + 1]] == [True] * remarks.SAMPLE + [False]
