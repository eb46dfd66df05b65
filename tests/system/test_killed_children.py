"""Workers' children are killed in the middle of their work, and everything is done all the same, once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import celery_config
from cli.stack import Stack
from tests.conftest import Tell
from tests.system import processes
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.service import Service

#: Retries enough for whatever is hit again and again.
RETRIES = 30
CHILDREN = 2


def test_every_task_succeeds_once_though_each_child_is_killed_again_and_again(
    service: Service,
    stack: Stack,
    books: Books,
    scale: Scale,
    chance: random.Random,
    tell: Tell,
) -> None:
    number, kills = scale.of(120, 300), scale.of(3, 5)
    for kind in celery_config.WORKERS:
        has_its_children(kind, stack.pid(kind))
    task_ids = service.post_all(mixed(number, chance))
    killers = [
        threading.Thread(
            target=kill_children, args=(stack, books, kind, kills, random.Random(chance.random()))
        )
        for kind in celery_config.WORKERS
    ]
    for killer in killers:
        killer.start()
    for killer in killers:
        killer.join()

    books.all_succeeded(task_ids, within=180)
    hits = [event for event in books.events("retried") if (event.detail or {}).get("type") == "WorkerLost"]
    tell(f"{len(celery_config.WORKERS) * CHILDREN * kills} kills hit {len(hits)} running tasks")
    assert len(hits) >= kills, f"only {len(hits)} kills hit a running task"
    inserted = sum(row.result["inserted"] for row in books.tasks(task_ids) if "inserted" in row.result)
    assert service.count() == inserted > 0


def mixed(number: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Tasks over all kinds and priorities: half of each kind does real work, half of it takes its time."""
    for place in range(number):
        kind = celery_config.WORKERS[place % 3]
        real = {
            "data": ("bulk_insert", {"rows": chance.randrange(1_000, 30_000)}),
            "email": ("email_sending", {"to": "somebody@example.com", "if_uncertain": "retry"}),
            "file": ("file_processing", {"filename": "your_file.txt", "operation": "compress"}),
        }
        slow = (f"linger_{kind}", {"seconds": chance.uniform(0.2, 0.6)})
        task_type, parameters = real[kind] if place % 6 < 3 else slow
        yield {
            "task_type": task_type,
            "parameters": parameters,
            "priority": chance.choice(celery_config.PRIORITIES),
            "max_retries": RETRIES,
        }


def kill_children(stack: Stack, books: Books, kind: str, times: int, chance: random.Random) -> None:
    """Kill every child of a worker so many times, each time in the middle of something where there is work left."""
    parent = stack.pid(kind)
    for _ in range(times):
        for child in processes.children(parent)[:CHILDREN]:
            wait_for_work(books, kind)
            time.sleep(chance.uniform(0, 0.1))  # not a wait: any moment of a task should be hit
            processes.kill(child)
        has_its_children(kind, parent)


def has_its_children(kind: str, parent: int) -> None:
    until(lambda: len(processes.children(parent)) == CHILDREN, f"{kind} has its children")


def wait_for_work(books: Books, kind: str) -> None:
    """Until a task runs, or all are done."""
    until(lambda: books.running(kind) or not books.waiting(kind), f"a running {kind} task", within=30)


def test_a_child_killed_in_the_middle_of_an_insert_leaves_no_row_behind(
    service: Service, stack: Stack, books: Books
) -> None:
    task_id = service.post("slow_insert", {"rows": 5000, "seconds": 3})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    for child in processes.children(stack.pid("data")):
        processes.kill(child)

    task = service.succeeded(task_id)
    assert [each["outcome"] for each in task["attempts"]] == ["failed", "succeeded"], task["attempts"]
    assert task["attempts"][0]["error"]["type"] == "WorkerLost"
    assert books.count() == 5000


def test_a_poison_task_ends_failed_with_its_reason_while_others_flow(service: Service, books: Books) -> None:
    poison = [service.post("poison") for _ in range(2)]
    others = service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 100}}] * 20)

    books.all_succeeded(others, within=30)
    for task_id in poison:
        task = service.ended(task_id, within=60)
        assert (task["state"], task["retries"], len(task["attempts"])) == ("failed", 3, 4), task
        assert task["error"]["type"] == "WorkerLost"
        assert "gave up after 3 of 3 retries: the worker process died" in task["remarks"][-1]["text"]
    assert sum(service.task(task_id)["attempt"] > 1 for task_id in others) == 0
