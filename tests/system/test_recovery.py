"""A task whose attempt died or froze is at work again within its lease, a look of the monitor, and two seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import processes
from tests.system.books import Books
from tests.system.conftest import LEASE_SECONDS, SECOND_DATA_WORKER, Scale
from tests.system.patience import until
from tests.system.processes import frozen, present
from tests.system.service import Service

#: How often the monitor looks for leases that are over.
SCAN_SECONDS = 1
PROMISED_SECONDS = LEASE_SECONDS + SCAN_SECONDS + 2


@contextmanager
def killed_child(stack: Stack, worker: str) -> Iterator[None]:
    processes.kill(processes.at_work(processes.children(stack.pid(worker))))
    yield


@contextmanager
def killed_parent(stack: Stack, worker: str) -> Iterator[None]:
    pid = stack.kill(worker)
    yield
    stack.wait(worker, after_pid=pid, seconds=60)


@contextmanager
def frozen_child(stack: Stack, worker: str) -> Iterator[None]:
    """The one that has the task; the other takes tickets, as it should."""
    with frozen(processes.at_work(processes.children(stack.pid(worker)))):
        yield


@contextmanager
def frozen_worker(stack: Stack, worker: str) -> Iterator[None]:
    parent = stack.pid(worker)
    with frozen(parent, *processes.children(parent)):
        yield


FAULTS = (killed_child, killed_parent, frozen_child, frozen_worker)


def test_a_lost_task_is_at_work_again_within_lease_scan_and_two_seconds(
    service: Service, stack: Stack, books: Books, scale: Scale, tell: Tell
) -> None:
    with present(stack, SECOND_DATA_WORKER):
        took = {
            fault.__name__: [seconds_until_again(fault, service, stack, books) for _ in range(scale.of(1, 10))]
            for fault in FAULTS
        }
    lines = [f"{name:14} {', '.join(f'{each:.1f}' for each in sorted(seconds))}" for name, seconds in took.items()]
    tell("\n".join([f"seconds from the fault until the next attempt, of {PROMISED_SECONDS} promised:", *lines]))
    assert max(map(max, took.values())) < PROMISED_SECONDS, took


def seconds_until_again(fault: Callable[..., object], service: Service, stack: Stack, books: Books) -> float:
    """By the clock of the ledger, which is this machine's."""
    task_id = service.post("linger_again", {"seconds": 1.5}, max_retries=10)
    service.running(task_id)
    worker = str(books.task(task_id).worker).partition("@")[0]
    with fault(stack, worker):  # type: ignore[attr-defined]
        at = datetime.now(UTC).replace(tzinfo=None)
        [again] = until(
            lambda: books.events("claimed", [task_id])[1:],
            f"the next attempt at {task_id}",
            within=60,
            seen=lambda: books.history(task_id),
        )
    service.succeeded(task_id, within=40)
    return float((again.at - at).total_seconds())
