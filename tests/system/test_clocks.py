"""Clocks of API, worker and monitor are an hour off, in different directions: only the database's clock counts."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path

import pytest

from cli.stack import Stack
from tests.system import beside, failpoint, processes
from tests.system.books import Books
from tests.system.conftest import LEASE_SECONDS, long_only
from tests.system.patience import until
from tests.system.processes import away, frozen
from tests.system.service import Service

#: Seconds after its time within which a task starts, on a machine that others use too.
LATE_SECONDS = 10.0


@pytest.mark.parametrize(
    ("door", "worker", "monitor"),
    [("3600", "-3600", "3600"), long_only("-3600", "3600", "-3600"), long_only("3600", "3600", "-3600")],
)
def test_delay_retry_lease_and_stop_do_not_care_for(
    door: str, worker: str, monitor: str, stack: Stack, books: Books
) -> None:
    with (
        away(stack, "data", "monitor"),
        beside.monitor(stack, **clock(monitor)),
        beside.api(stack, **clock(door)) as service,
        beside.worker(stack, "data", **clock(worker)) as hands,
    ):
        assert abs(seconds_off(service) - int(door)) < 60, "the door's clock is not off"
        service.succeeded(service.post("data_processing", {"data": [1]}), within=60)
        delayed = service.post("data_processing", {"data": [1]}, delay=2)
        run_at = datetime.now(UTC) + timedelta(seconds=3)
        at_its_time = service.post("data_processing", {"data": [1]}, run_at=run_at.isoformat().replace("+00:00", "Z"))
        retried = service.post("stumble", {"times": 2})
        longer_than_a_lease = service.post("slow_insert", {"rows": 100, "seconds": 1.5 * LEASE_SECONDS})
        books.all_succeeded([delayed, at_its_time, retried, longer_than_a_lease], within=60)

        row = books.task(delayed)
        assert 2 <= (row.started_at - row.created_at).total_seconds() < 2 + LATE_SECONDS
        assert 0 <= (books.task(at_its_time).started_at.replace(tzinfo=UTC) - run_at).total_seconds() < LATE_SECONDS
        assert books.task(longer_than_a_lease).attempt == 1, books.history(longer_than_a_lease)
        is_stopped_at_once(service, books)
        is_taken_from_a_frozen_worker(service, books, hands.pid)


def seconds_off(service: Service) -> float:
    """gunicorn writes its own time into each answer."""
    told = parsedate_to_datetime(service.ask("GET", "/livez").headers["Date"])
    return (told - datetime.now(UTC)).total_seconds()


def is_stopped_at_once(service: Service, books: Books) -> None:
    before = books.count()
    stopped = service.post("slow_insert", {"rows": 1_000, "seconds": 60})
    until(lambda: books.task(stopped).progress_done, "the first rows")
    assert service.stop(stopped)["verdict"] == "rolled_back"
    assert books.count() == before


def is_taken_from_a_frozen_worker(service: Service, books: Books, worker: int) -> None:
    """When its lease is over by the database's clock, not before and not an hour later."""
    silent = service.post("slow_insert", {"rows": 100, "seconds": 2})
    until(lambda: books.task(silent).progress_done, "the first rows")
    with frozen(worker, *processes.children(worker)):
        until(lambda: books.events("retried", [silent]), "the end of its lease", within=LEASE_SECONDS + LATE_SECONDS)
        [claimed], [retried] = books.events("claimed", [silent]), books.events("retried", [silent])
        assert (retried.at - claimed.at).total_seconds() >= LEASE_SECONDS
    service.succeeded(silent, within=60)


def clock(offset: str) -> dict[str, str]:
    """For a process whose wall clock is so many seconds off; how long something takes is not touched."""
    return {"LD_PRELOAD": str(library()), "CLOCK_OFF_SECONDS": offset}


@cache
def library() -> Path:
    """`clock.c`, compiled; `make test` brings the compiler."""
    made = failpoint.STATE / "run" / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["tcc", "-nostdlib", "-shared", "-o", str(made), str(source)], check=True)
    return made
