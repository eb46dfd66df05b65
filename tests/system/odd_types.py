"""Task types that only these tests know: they take their time, fail, die or do not listen, as they are told."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from celery_config import WORKERS
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import Policy

#: Seconds between two looks of a task that only takes its time.
LOOK_SECONDS = 0.02
#: A retry that comes soon, for tests that want to see many.
SOON = Policy(max_retries=3, initial_seconds=0.1, cap_seconds=0.5)


class Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Linger(Parameters):
    seconds: float = Field(1, ge=0, le=120)


def linger(attempt: Attempt, parameters: Linger) -> dict[str, Any]:
    """Keep a child busy for some seconds, and listen meanwhile."""
    _spend(attempt, parameters.seconds)
    return {"lingered": parameters.seconds}


for _worker in WORKERS:
    task_type(f"linger_{_worker}", worker=_worker, parameters=Linger)(linger)
#: One whose next attempt comes without a wait that would hide how long its loss took to be noticed.
task_type("linger_again", worker="data", parameters=Linger, policy=SOON)(linger)


class SlowInsert(Parameters):
    rows: int = Field(10_000, ge=1)
    seconds: float = Field(5, ge=0, le=120)
    steps: int = Field(50, ge=1)


@task_type("slow_insert", worker="data", parameters=SlowInsert, transactional=True)
def slow_insert(attempt: Attempt, parameters: SlowInsert) -> dict[str, Any]:
    """An insert that takes at least so many seconds, its rows written evenly over them."""
    connection, done = attempt.database(), 0
    for step in range(1, parameters.steps + 1):
        rows = parameters.rows * step // parameters.steps - done
        if rows:
            values = ", ".join(["('slow', 'insert')"] * rows)
            connection.exec_driver_sql(f"INSERT INTO data (field1, field2) VALUES {values}")
        done += rows
        attempt.progress(done, parameters.rows)
        time.sleep(parameters.seconds / parameters.steps)
    return {"inserted": done, "table": "data"}


class SignedInsert(Parameters):
    rows: int = Field(100, ge=1, le=10_000)
    seconds: float = Field(0, ge=0, le=120)
    databases: list[str] = ["data"]


@task_type("signed_insert", worker="data", parameters=SignedInsert, transactional=True)
def signed_insert(attempt: Attempt, parameters: SignedInsert) -> dict[str, Any]:
    """Rows that bear the task's id and a number each, half of them before some seconds have passed and half after:
    whatever is missing or there twice can be told."""
    half = (parameters.rows + 1) // 2
    for numbers in (range(half), range(half, parameters.rows)):
        for name in parameters.databases:
            values = ", ".join(f"('{attempt.task_id}', '{number}')" for number in numbers)
            if values:
                attempt.database(name).exec_driver_sql(f"INSERT INTO data (field1, field2) VALUES {values}")
        attempt.progress(numbers.stop, parameters.rows)
        _spend(attempt, parameters.seconds / 2)
    return {"inserted": parameters.rows, "table": "data", "databases": parameters.databases}


@task_type("deaf_insert", worker="data", parameters=Linger, transactional=True)
def deaf_insert(attempt: Attempt, parameters: Linger) -> dict[str, Any]:
    """Write a row, then sit in one long statement and listen to nobody."""
    connection = attempt.database()
    connection.exec_driver_sql("INSERT INTO data (field1, field2) VALUES ('deaf', 'insert')")
    attempt.progress(1, 1)
    connection.execute(text("SELECT SLEEP(:seconds)"), {"seconds": parameters.seconds})
    return {"inserted": 1, "table": "data"}


@task_type("poison", worker="data", parameters=Parameters, policy=SOON)
def poison(attempt: Attempt, parameters: Parameters) -> None:
    """Take the worker's process down with it."""
    os.kill(os.getpid(), signal.SIGKILL)


class Stumble(Parameters):
    times: int = Field(1, ge=0)


@task_type("stumble", worker="data", parameters=Stumble)
def stumble(attempt: Attempt, parameters: Stumble) -> dict[str, Any]:
    """Fail so many times, then succeed."""
    if attempt.number <= parameters.times:
        raise ConnectionError("stumbled")
    return {"stumbled": parameters.times}


def _spend(attempt: Attempt, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        attempt.progress(0)
        time.sleep(min(LOOK_SECONDS, left))
