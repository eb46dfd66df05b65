"""A worker is told to end: it finishes what is short, hands back what is long, and is gone in time."""

from __future__ import annotations

import signal
import time

import pytest

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import processes
from tests.system.books import Books
from tests.system.conftest import SHUTDOWN_GRACE_SECONDS
from tests.system.patience import until
from tests.system.service import Service

#: Seconds beyond its grace within which a worker is gone, and what a busy machine adds.
BOUND_SECONDS = SHUTDOWN_GRACE_SECONDS + 5
MARGIN_SECONDS = 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_leaving_worker_finishes_the_short_and_hands_back_the_long(
    number: signal.Signals,
    service: Service,
    stack: Stack,
    books: Books,
    tell: Tell,
) -> None:
    short = service.post("linger_data", {"seconds": 1.5})
    long = service.post("slow_insert", {"rows": 1000, "seconds": 8})
    service.running(short)
    until(lambda: books.task(long).progress_done, "the first rows")
    took = seconds_to_leave(stack, number)
    tell(f"{number.name}: gone after {took:.1f} s")

    assert took < BOUND_SECONDS + MARGIN_SECONDS
    assert service.task(short)["state"] == "succeeded", books.history(short)
    assert [row.event for row in books.events("handed_back")] == ["handed_back"]
    task = service.succeeded(long, within=40)
    assert (task["attempt"], task["retries"]) == (2, 0), task["remarks"]
    assert service.task(short)["attempt"] == 1
    assert books.count() == 1000


def seconds_to_leave(stack: Stack, number: signal.Signals) -> float:
    began = time.monotonic()
    pid = stack.kill("data", number)
    processes.gone(pid, within=BOUND_SECONDS + 10)
    took = time.monotonic() - began
    stack.wait("data", after_pid=pid)
    return took


def test_a_leaving_worker_starts_nothing_any_more(service: Service, stack: Stack, books: Books) -> None:
    busy = [service.post("linger_data", {"seconds": 2}) for _ in range(2)]
    for task_id in busy:
        service.running(task_id)
    pid = stack.kill("data", signal.SIGTERM)
    waiting = service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 10}}] * 10)
    processes.gone(pid, within=BOUND_SECONDS + 10)
    assert books.states(waiting) == {"queued": 10}, books.told(waiting)
    assert books.states(busy) == {"succeeded": 2}, books.told(busy)

    stack.wait("data", after_pid=pid)
    books.all_succeeded(waiting, within=30)
    assert {row.attempt for row in books.tasks(busy + waiting)} == {1}


def test_a_task_can_be_stopped_while_its_worker_leaves(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("slow_insert", {"rows": 1000, "seconds": 30})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    pid = stack.kill("data", signal.SIGTERM)

    assert service.stop(task_id)["verdict"] == "rolled_back"
    processes.gone(pid, within=BOUND_SECONDS + 10)
    stack.wait("data", after_pid=pid)
    assert (service.state(task_id), books.count()) == ("revoked", 0)


def test_a_second_signal_hurries_a_leaving_worker(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("slow_insert", {"rows": 1000, "seconds": 6})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    stack.kill("data", signal.SIGTERM)
    took = seconds_to_leave(stack, signal.SIGTERM)

    assert took < SHUTDOWN_GRACE_SECONDS, f"took {took:.1f} s"
    assert service.succeeded(task_id, within=40)["retries"] == 0
    assert books.count() == 1000
