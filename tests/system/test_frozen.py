"""Processes that are frozen and not dead: nobody waits for them, and when they thaw they change nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from cli.stack import Stack
from tests.system import failpoint, processes
from tests.system.books import Books
from tests.system.conftest import SECOND_DATA_WORKER
from tests.system.patience import until
from tests.system.processes import frozen, present
from tests.system.service import Service

ROWS = 2_000


def test_a_frozen_workers_insert_is_done_by_another_and_once(
    service: Service, stack: Stack, books: Books
) -> None:
    task_id = service.post("slow_insert", {"rows": ROWS, "seconds": 4})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    with ExitStack() as later:
        with frozen(*everybody_of(stack, "data")):
            later.enter_context(present(stack, SECOND_DATA_WORKER))
            task = service.succeeded(task_id, within=60)
            assert [each["outcome"] for each in task["attempts"]] == ["failed", "succeeded"], task["attempts"]
            assert task["attempts"][0]["error"]["type"] == "LeaseExpired"
            assert SECOND_DATA_WORKER in task["worker"]
            told = books.history(task_id)
        # The thawed child is at work again when it has done something else.
        others = service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 10}}] * 20)
        books.all_succeeded(others, within=40)
        until(lambda: thawed_gave_up(stack, task_id), "the thawed attempt has given up", within=20)
    assert books.history(task_id) == told
    assert books.count() == ROWS + 20 * 10


@pytest.mark.parametrize("point", ["f8", "f10"])
def test_a_thawed_attempt_changes_nothing_while_the_next_one_runs(
    point: str, service: Service, books: Books
) -> None:
    failpoint.arm(point, "freeze")
    task_id = service.post("slow_insert", {"rows": ROWS, "seconds": 2})
    with frozen(failpoint.hit(point)):
        until(lambda: begun(books, task_id, attempt=2), "the second attempt is at work", within=30)
    # The first attempt thaws here, and with f10 its next step is the decision.
    service.succeeded(task_id, within=40)
    moves = [(row.event, row.attempt) for row in books.moves(task_id)]
    assert moves[-3:] == [("claimed", 2), ("decided", 2), ("finished", 2)], moves
    assert books.count() == ROWS


def begun(books: Books, task_id: str, *, attempt: int) -> bool:
    row = books.task(task_id)
    return bool(row.attempt == attempt and row.state == "running" and row.progress_done)


def test_a_stop_of_a_frozen_workers_task_is_rolled_back(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("slow_insert", {"rows": ROWS, "seconds": 30})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    with frozen(*everybody_of(stack, "data")):
        began = time.monotonic()
        answer = service.stop(task_id)
        took = time.monotonic() - began
        assert (answer["verdict"], answer["rows_remaining"]) == ("rolled_back", 0), answer
        assert took < 5, f"took {took:.1f} s"
        told = books.history(task_id)
    service.succeeded(service.post("bulk_insert", {"rows": 10}), within=40)
    assert books.history(task_id) == told
    assert books.count() == 10


def test_a_frozen_monitor_is_missed_but_not_fatal(service: Service, stack: Stack, books: Books) -> None:
    with frozen(stack.pid("monitor")):
        now = service.post("bulk_insert", {"rows": 10})
        later = service.post("bulk_insert", {"rows": 10}, delay=0.5)
        service.succeeded(now)
        running = service.post("slow_insert", {"seconds": 30})
        until(lambda: books.task(running).progress_done, "the first rows")
        assert service.stop(running)["verdict"] == "rolled_back"
        assert service.state(later) == "scheduled"
    service.succeeded(later)


def everybody_of(stack: Stack, name: str) -> list[int]:
    """A worker's process and its children."""
    parent = stack.pid(name)
    return [parent, *processes.children(parent)]


def thawed_gave_up(stack: Stack, task_id: str) -> bool:
    lines = stack.log("data", lines=500)
    return any(task_id in line and ("lease_lost" in line or "attempt_stopped" in line) for line in lines)
