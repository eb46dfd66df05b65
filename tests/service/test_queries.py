"""The reads of the ledger: lists that stay put while tasks arrive, and counts on which others act."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from ledger import acceptance, db, dispatches, queries, transitions
from ledger.filters import Filter
from ledger.queries import BadCursor
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types


def accept_many(number: int, **more: object) -> list[str]:
    new = [life.new(**more) for _ in range(number)]  # type: ignore[arg-type]
    if new:
        acceptance.accept(new)
    return [task.task_id for task in new]


def pages(limit: int) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = queries.page(limit=limit, cursor=cursor)
        found.append([row.id for row in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize(("number", "sizes"), [(0, [0]), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_pages_hold_every_task_once_newest_first(number: int, sizes: list[int]) -> None:
    task_ids = accept_many(number)
    found = pages(limit=3)
    assert [len(page) for page in found] == sizes
    assert [task_id for page in found for task_id in page] == task_ids[::-1]


def test_a_cursor_stays_put_while_tasks_arrive() -> None:
    task_ids = accept_many(4)
    first = queries.page(limit=2)
    accept_many(3)
    second = queries.page(limit=2, cursor=first.next_cursor)
    assert [row.id for row in second.rows] == task_ids[1::-1]
    assert second.next_cursor is None


@pytest.mark.parametrize(
    "cursor", ["x", "%%%%", "AAAA", "é", base64.urlsafe_b64encode(b"\xff" * 36).decode(), "A" * 5_000]
)
def test_a_cursor_of_somebody_elses_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor, match="not a cursor of this list"):
        queries.page(cursor=cursor)


def test_filters_narrow_the_list() -> None:
    [high] = accept_many(1, priority="high")
    [later] = accept_many(1, delay_seconds=60)
    [other] = accept_many(1, task_type="test_failing")

    def found(**wanted: Any) -> set[str]:
        return {row.id for row in queries.page(Filter(**wanted)).rows}

    assert found(priorities=["high"]) == {high}
    assert found(states=["scheduled"]) == {later}
    assert found(states=["queued", "scheduled"]) == {high, later, other}
    assert found(task_types=["test_failing"]) == {other}
    assert found(task_types=["test_failing"], priorities=["high"]) == set()
    now = datetime.now(UTC)
    assert found(created_after=now + timedelta(hours=1)) == set()
    assert found(created_before=now + timedelta(hours=1), created_after=now - timedelta(hours=1)) == {
        high,
        later,
        other,
    }


def test_a_list_is_narrowed_by_the_end_of_its_tasks() -> None:
    early, late = failed(type="A", message="a"), failed(type="B", message="b")
    accept_many(1)
    life.put(early, finished_at=datetime(2026, 1, 31, 12, 0, 0))
    noon = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

    def found(**wanted: Any) -> list[str]:
        return [row.id for row in queries.page(Filter(**wanted)).rows]

    assert found(finished_before=noon) == []
    assert found(finished_before=noon + timedelta(seconds=1)) == [early]
    assert found(finished_after=noon) == [late, early]
    assert found(finished_after=noon + timedelta(seconds=1)) == [late]


def failed(**error: Any) -> str:
    task_id = life.accept()
    life.claim(task_id)
    transitions.give_up(task_id, 1, error={"permanent": True, "at": None} | error, remark="")
    return task_id


def test_failures_are_found_by_their_error_in_whatever_case() -> None:
    hung_up = failed(type="ConnectionError", message="The other side hung up: 100% sure")
    uncertain = failed(type="Uncertain", message="it may have been sent")
    accept_many(1)

    def found(**wanted: Any) -> list[str]:
        return [row.id for row in queries.page(Filter(**wanted)).rows]

    assert found(error="HUNG UP") == found(error="connectionerror: the") == found(error="100%") == [hung_up]
    assert found(error="1_0") == found(error="nobody said this") == []
    assert found(uncertain=True) == [uncertain]
    assert found(uncertain=False, states=["failed"]) == [hung_up]


def test_a_list_leaves_parameters_and_results_out() -> None:
    accept_many(1)
    names = set(queries.page().rows[0]._fields)
    assert not names & {"parameters", "result", "undone"}


def test_counts_name_every_state() -> None:
    accept_many(2)
    accept_many(1, delay_seconds=5)
    assert queries.counts() == {state.value: 0 for state in State} | {"queued": 2, "scheduled": 1}


def test_only_confirmed_tickets_that_settled_are_waiting() -> None:
    high, normal, fresh = *accept_many(1, priority="high"), *accept_many(1), *accept_many(1)
    unsent = accept_many(1)
    dispatches.mark_dispatched([life.ticket(high), life.ticket(normal)])
    life.let_pass(5)
    dispatches.mark_dispatched([life.ticket(fresh)])
    assert queries.waiting_by_queue(3) == {"data.high": 1, "data.normal": 1}
    assert queries.waiting_by_queue(0) == {"data.high": 1, "data.normal": 2}
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == unsent
    assert [ticket.task_id for ticket in queries.undispatched(4)] == unsent
    assert queries.undispatched(60) == []


def test_a_standing_tells_what_others_act_upon() -> None:
    task_id = life.accept()
    life.claim(task_id, lease_seconds=30)
    transitions.renew(task_id, 1, lease_seconds=30, done=5, total=9)
    standing = queries.standing(task_id)
    assert standing is not None
    assert (standing.state, standing.attempt, standing.lease_expired) == (State.RUNNING, 1, False)
    assert (standing.progress_done, standing.participants, standing.worker) == (5, (), life.WORKER)
    life.let_pass(40)
    standing = queries.standing(task_id)
    assert standing is not None
    assert standing.lease_expired
    assert 40 <= standing.idle_seconds < 50


def test_nothing_is_known_of_an_unknown_task() -> None:
    stranger = "019aa5c0-0000-7000-8000-000000000001"
    assert queries.state(stranger) is None
    assert queries.standing(stranger) is None
    assert queries.task(stranger) is None
    assert queries.history(stranger) == []


@pytest.mark.parametrize(
    ("key", "statement"),
    [
        ("PRIMARY", "SELECT * FROM tasks WHERE id < 'x' ORDER BY id DESC LIMIT 51"),
        (
            "ix_tasks_state_id",
            "SELECT * FROM tasks WHERE state = 'queued' AND id < 'x' ORDER BY id DESC LIMIT 51",
        ),
        (
            "ix_tasks_state_due",
            "SELECT id FROM tasks WHERE state = 'scheduled' AND due_at <= UTC_TIMESTAMP(6)",
        ),
        (
            "ix_tasks_state_lease",
            "SELECT id FROM tasks WHERE state = 'running' AND lease_until < UTC_TIMESTAMP(6)",
        ),
        (
            "ix_tasks_state_queue",
            "SELECT id FROM tasks WHERE state = 'queued' AND queue = 'data.low' AND dispatched_at IS NOT NULL "
            "ORDER BY dispatched_at LIMIT 10",
        ),
        (
            "ix_tasks_state_queue",
            "SELECT id FROM tasks WHERE state = 'queued' AND queue = 'data.low' AND dispatched_at IS NULL "
            "AND updated_at < UTC_TIMESTAMP(6) ORDER BY id LIMIT 500",
        ),
        (
            "ix_tasks_state_id",
            "SELECT id, finished_at FROM tasks FORCE INDEX (ix_tasks_state_id) WHERE state = 'queued' "
            "AND id > '0' AND id < 'x' ORDER BY id LIMIT 200",
        ),
        ("ix_task_events_task", "SELECT * FROM task_events WHERE task_id = 'x' ORDER BY seq"),
    ],
)
def test_each_frequent_question_is_answered_by_an_index(key: str, statement: str) -> None:
    accept_many(300)
    with db.reading() as connection:
        connection.execute(text("ANALYZE TABLE tasks, task_events"))
        [plan] = connection.execute(text(f"EXPLAIN FORMAT=TRADITIONAL {statement}")).all()
    assert plan.key == key
    assert "filesort" not in (plan.Extra or "")
