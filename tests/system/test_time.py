"""Nothing starts before its time, and hardly after it. Only the database's clock is asked."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, text

from cli.stack import Stack
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.processes import away
from tests.system.service import Service

#: Seconds after its time at which a task has started when a worker is free. The promise is 1.
LATE_SECONDS = 1.0


def test_a_delayed_task_starts_on_time_and_never_before(service: Service, books: Books) -> None:
    task_ids = [service.post("data_processing", {"data": [1]}, delay=delay) for delay in (2, 2, 0.3, 1.25)]
    assert books.states(task_ids)["scheduled"] >= 3
    books.all_succeeded(task_ids, within=20)

    for row, delay in zip(map(books.task, task_ids), (2, 2, 0.3, 1.25), strict=True):
        waited = (row.started_at - row.created_at).total_seconds()
        assert delay <= waited < delay + LATE_SECONDS, f"a delay of {delay} s became {waited:.3f} s"


def test_of_many_delayed_tasks_none_starts_before_its_time(
    service: Service, books: Books, scale: Scale, chance: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    longest = scale.of(3, 20)
    delays = [round(chance.uniform(0, longest), 3) for _ in range(scale.of(300, 10_000))]
    task_ids = []
    for some in (delays[begin : begin + 1_000] for begin in range(0, len(delays), 1_000)):
        bodies = [{"task_type": "data_processing", "parameters": {"data": [1]}, "delay": delay} for delay in some]
        answer = service.ask("POST", "/api/tasks/batch", json={"tasks": bodies})
        assert answer.status_code == 202, answer.text
        task_ids += answer.json()["task_ids"]
    books.all_succeeded(task_ids, within=scale.of(60, 600))

    begun = {row.id: row.created_at for row in books.tasks(task_ids)}
    due = {
        task_id: begun[task_id] + timedelta(seconds=delay) for task_id, delay in zip(task_ids, delays, strict=True)
    }
    late = [(event.at - due[event.task_id]).total_seconds() for event in books.events("claimed", task_ids)]
    early = [seconds for seconds in late if seconds < 0]
    with capsys.disabled():
        print(f"\n{len(late):,} delayed tasks, {len(early)} early; {spread(late)}")
    assert len(late) == len(task_ids)
    assert early == []


def spread(late: list[float]) -> str:
    """How late they were, in seconds."""
    ordered = sorted(late)
    shares = {share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.9, 0.99, 1)}
    return "late by " + ", ".join(f"{seconds:.2f} s ({share:.0%})" for share, seconds in shares.items())


def test_a_task_with_a_time_starts_at_that_time(service: Service, books: Books) -> None:
    run_at = now(books) + timedelta(seconds=2)
    brussels = run_at.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    task_id = service.post("data_processing", {"data": [1]}, run_at=brussels)
    service.succeeded(task_id)

    late = (books.task(task_id).started_at - run_at).total_seconds()
    assert 0 <= late < LATE_SECONDS, f"started {late:.3f} s after its time"


def test_a_failed_attempt_is_followed_after_its_backoff(service: Service, books: Books) -> None:
    task_ids = [service.post("stumble", {"times": 2}) for _ in range(8)]
    books.all_succeeded(task_ids, within=30)

    for task_id in task_ids:
        waits = waits_between_attempts(books, task_id)
        assert len(waits) == 2, waits
        for wait, longest in zip(waits, (1, 2), strict=True):
            assert 0 <= wait < longest + LATE_SECONDS, f"waited {wait:.3f} s where {longest} s is the longest"


def waits_between_attempts(books: Books, task_id: str) -> list[float]:
    retried, claimed = books.events("retried", [task_id]), books.events("claimed", [task_id])
    return [
        (later.at - earlier.at).total_seconds() for earlier, later in zip(retried, claimed[1:], strict=True)
    ]


def test_a_permanent_error_is_not_tried_again(service: Service) -> None:
    task = service.ended(service.post("file_processing", {"filename": "not_there.txt"}))
    assert (task["state"], task["attempt"], task["retries"]) == ("failed", 1, 0)
    assert task["error"]["message"] == "there is no file not_there.txt in the storage folder"


def test_a_stopped_delayed_task_never_starts(service: Service, books: Books) -> None:
    stopped, other = (
        service.post("bulk_insert", {"rows": 10}, delay=1.5),
        service.post("bulk_insert", delay=2),
    )
    assert service.stop(stopped)["verdict"] == "stopped_before_start"
    service.succeeded(other)

    assert books.task(stopped).state == "revoked"
    assert books.events("claimed", [stopped]) == []


def test_a_delay_that_ends_while_the_monitor_is_away_is_made_up_for(
    service: Service, stack: Stack, books: Books
) -> None:
    with away(stack, "monitor"):
        task_id = service.post("bulk_insert", {"rows": 10}, delay=0.5)
        until(lambda: now(books) > due(books.task(task_id)), "its time has come")
        assert books.task(task_id).state == "scheduled"
    service.succeeded(task_id)


def due(row: Row[Any]) -> datetime:
    return row.created_at + timedelta(seconds=0.5)  # type: ignore[no-any-return]


def now(books: Books) -> datetime:
    """The database's time."""
    with books.ledger.connect() as connection:
        found: datetime = connection.execute(text("SELECT UTC_TIMESTAMP(6)")).scalar_one()
    return found
