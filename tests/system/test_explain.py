"""Each cause of waiting, made on purpose, is named by `explain` exactly; and the monitor says the same on the task."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from cli.stack import Stack
from tests.system import failpoint, processes
from tests.system.books import Books
from tests.system.patience import until
from tests.system.processes import away, frozen
from tests.system.service import Service

#: The promise is two seconds; the rest is for a busy machine.
ANSWER_SECONDS = 3.0


def explained(service: Service, task_id: str) -> dict[str, Any]:
    began = time.monotonic()
    told = service.get(f"/api/tasks/{task_id}/explain")
    assert time.monotonic() - began < ANSWER_SECONDS
    return told


def is_told(service: Service, task_id: str, cause: str, words: str = "", *, within: float = 15) -> dict[str, Any]:
    """Wait until a task is told a cause; the explanation."""
    last: dict[str, Any] = {}

    def told() -> bool:
        last.clear()
        last.update(explained(service, task_id))
        return bool(last["cause"] == cause and words in last["sentence"])

    until(told, f"{task_id} is told {cause} {words}", within=within, seen=lambda: dict(last))
    return last


@contextmanager
def every_place_taken(service: Service, books: Books) -> Iterator[Sequence[str]]:
    """Both children of the data worker are busy in here."""
    taken = [service.post("linger_data", {"seconds": 60}) for _ in range(2)]
    until(lambda: books.running("data") == len(taken), "busy children")
    try:
        yield taken
    finally:
        for task_id in taken:
            service.stop(task_id)


def test_what_waits_while_no_worker_is_there(service: Service, stack: Stack, books: Books) -> None:
    with away(stack, "data"):
        orphan = service.post("linger_data", {"seconds": 0})
        child = service.post("linger_data", {"seconds": 0}, depends_on=[orphan])
        later = service.post("linger_data", {"seconds": 0}, delay=300)
        hasty = service.post("linger_data", {"seconds": 0}, expires_in=1)
        assert explained(service, later)["cause"] == "waits_for_time"
        assert orphan in is_told(service, child, "waits_for_tasks")["sentence"]
        is_told(service, orphan, "no_worker", "No worker takes tickets from data.normal")
        assert service.get("/api/workers")["items"]
        assert not [each for each in service.get("/api/workers")["items"] if each["kind"] == "data"]
        is_told(service, hasty, "expired")
    assert service.stop(later)["verdict"] == "stopped_before_start"
    is_told(service, later, "finished", "It was stopped")
    is_told(service, child, "finished", "It succeeded")


def test_what_waits_in_line_and_loses_its_ticket(service: Service, stack: Stack, books: Books) -> None:
    with every_place_taken(service, books) as taken:
        running = is_told(service, taken[0], "running")
        assert running["evidence"]["worker"]["name"].startswith("data@")
        first, second = service.post("linger_data", {"seconds": 0}), service.post("linger_data", {"seconds": 0})
        urgent = service.post("linger_data", {"seconds": 0}, priority="high")
        until(lambda: books.dispatched([first, second, urgent]) == 3, "the tickets")
        is_told(service, urgent, "in_line", "It is the next of data.high; 2 of 2 places are taken.")
        is_told(service, second, "in_line", "2 tasks go before it, 1 of better priority and 1 earlier in data.normal")
        queue = next(each for each in service.get("/api/queues")["items"] if each["name"] == "data.normal")
        assert (queue["ready"], queue["running"], queue["workers"]) == (2, 2, 1)
        # While no monitor looks, since one that does may send it again before anybody has asked.
        with frozen(stack.pid("monitor")):
            stack.rabbitmqctl("purge_queue", "--vhost", "sluice", "data.normal")
            is_told(service, second, "ticket_lost", "does not hold its ticket any more")
        is_told(service, second, "ticket_resent", "sent again", within=30)
        remarked = until(lambda: books.events("explained", [urgent]), "the monitor's remark", within=30)
        assert [each.detail["cause"] for each in remarked] == ["in_line"]
    books.all_succeeded([first, second, urgent], within=30)


def test_what_waits_while_its_queue_is_paused(service: Service) -> None:
    assert service.ask("POST", "/api/queues/data.low/pause", json={"reason": "for a test"}).status_code == 200
    try:
        task_id = service.post("linger_data", {"seconds": 0}, priority="low")
        is_told(service, task_id, "queue_paused", "for a test")
    finally:
        assert service.ask("POST", "/api/queues/data.low/resume").status_code == 200
    is_told(service, task_id, "finished", "It succeeded")


def test_what_waits_while_rabbitmq_is_dead(service: Service, stack: Stack, books: Books) -> None:
    with every_place_taken(service, books):
        before = service.post("linger_data", {"seconds": 0})
        until(lambda: books.dispatched([before]), "the ticket")
        pid = stack.kill("rabbitmq")
        is_told(service, before, "broker_unreachable")
        posted = service.post("linger_data", {"seconds": 0})
        assert "ticket_not_sent" in is_told(service, posted, "broker_unreachable")["also"]
        stack.wait("rabbitmq", after_pid=pid, seconds=60)
    books.all_succeeded([before, posted], within=60)


def test_a_task_whose_worker_is_killed(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("linger_data", {"seconds": 1})
    service.running(task_id)
    with frozen(stack.pid("monitor")):
        pid = stack.kill("data")
        is_told(service, task_id, "worker_lost", within=30)
        stack.wait("data", after_pid=pid, seconds=60)
        told = is_told(service, task_id, "worker_lost", "died, and has been started anew")
        assert told["evidence"]["worker"]["is_here"]
    is_told(service, task_id, "finished", "It succeeded", within=30)


def test_a_task_whose_worker_freezes_while_no_monitor_looks(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("linger_data", {"seconds": 5})
    due = service.post("linger_email", {"seconds": 0}, delay=2)
    service.running(task_id)
    parent = stack.pid("data")
    with frozen(stack.pid("monitor")):
        with frozen(*processes.children(parent)):
            is_told(service, task_id, "lease_expired", "its worker is there")
            with frozen(parent):
                is_told(service, task_id, "worker_lost", "died or is frozen", within=20)
                assert "lease_expired" in explained(service, task_id)["also"]
        is_told(service, due, "monitor_missing", "No monitor is at work to queue it", within=20)
    books.all_succeeded([task_id, due], within=40)


def test_a_task_that_fails_waits_for_its_retry_and_for_which_error(service: Service) -> None:
    task_id = service.post("stumble", {"times": 3})
    told = is_told(service, task_id, "waits_for_retry", "ConnectionError (stumbled)", within=30)
    assert told["sentence"].startswith("It waits for retry ") or "is about to be queued" in told["sentence"]
    hopeless = service.post("stumble", {"times": 9}, max_retries=0)
    is_told(service, hopeless, "finished", "It failed for good")


def test_a_decided_task_whose_worker_died_is_in_doubt(service: Service, stack: Stack) -> None:
    with frozen(stack.pid("monitor")):
        failpoint.arm("f11")
        task_id = service.post("slow_insert", {"rows": 10, "seconds": 0.1})
        failpoint.hit("f11")
        told = is_told(service, task_id, "in_doubt", "branch on database data is prepared and not committed")
        assert told["evidence"]["databases"]["data"] == "prepared"
    is_told(service, task_id, "finished", "It succeeded", within=30)


def test_a_stop_of_a_frozen_attempt_tells_who_holds_what(service: Service, stack: Stack, books: Books) -> None:
    task_id = service.post("slow_insert", {"seconds": 30})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    with frozen(*processes.children(stack.pid("data"))), ThreadPoolExecutor(1) as hand:
        verdict = hand.submit(service.stop, task_id)
        told = is_told(service, task_id, "being_stopped", "a connection still holds its lock on database data")
        assert told["evidence"]["databases"]["data"] == "held"
        assert verdict.result()["verdict"] == "rolled_back"
    is_told(service, task_id, "finished", "0 rows of it remain")


def test_without_the_ledger_nothing_is_explained(service: Service, stack: Stack) -> None:
    task_id = service.post("linger_data", {"seconds": 0})
    with frozen(stack.pid(stack.databases["ledger"])):
        began = time.monotonic()
        answer = service.ask("GET", f"/api/tasks/{task_id}/explain")
        assert time.monotonic() - began < ANSWER_SECONDS
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    until(lambda: service.ask("GET", "/readyz").status_code == 200, "a ready service", within=30)
    service.succeeded(task_id)


@pytest.mark.parametrize("path", ["00000000-0000-7000-8000-000000000000", "nonsense"])
def test_an_unknown_task_is_not_explained(path: str, service: Service) -> None:
    assert service.ask("GET", f"/api/tasks/{path}/explain").status_code == 404
