"""Task types that only tests have. Each succeeds, fails or dawdles in one way of its own."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ledger.xa import StillHeld
from tasks import retry
from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import PermanentError

#: Seconds after which a handler that nobody interrupts ends by itself, so that no test hangs.
LONG = 20


class Nothing(BaseModel):
    model_config = ConfigDict(extra="forbid")


@task_type("test_quick", worker="data", parameters=Nothing, short=True)
def quick(attempt: Attempt, parameters: Nothing) -> dict[str, Any]:
    """Succeed at once."""
    return {"answer": 42}


@task_type("test_failing", worker="data", parameters=Nothing, policy=retry.Policy(max_retries=2))
def failing(attempt: Attempt, parameters: Nothing) -> None:
    """Fail, for a reason that may pass."""
    raise ConnectionError("the other side hung up")


@task_type("test_hopeless", worker="data", parameters=Nothing)
def hopeless(attempt: Attempt, parameters: Nothing) -> None:
    """Fail for good."""
    raise PermanentError("this will never do")


class Oddity(BaseModel):
    what: str


@task_type("test_odd", worker="data", parameters=Oddity, transactional=True)
def odd(attempt: Attempt, parameters: Oddity) -> Any:
    """Write a row, and answer with something that cannot be kept."""
    attempt.database().execute(text("INSERT INTO data (field1) VALUES ('odd')"))
    odd = {"set": {1, 2}, "nan": float("nan"), "surrogate": "\ud800", "bytes": b"x", "big": "x" * (1 << 20)}
    return odd[parameters.what]


@task_type("test_busy", worker="data", parameters=Nothing)
def busy(attempt: Attempt, parameters: Nothing) -> None:
    """Compute, without ever asking whether to go on."""
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        sum(range(1000))


@task_type("test_long_statement", worker="data", parameters=Nothing, transactional=True)
def long_statement(attempt: Attempt, parameters: Nothing) -> None:
    """Write a row, then sit in one statement."""
    connection = attempt.database()
    connection.execute(text("INSERT INTO data (field1) VALUES ('sleeper')"))
    attempt.progress(1, 1)
    connection.execute(text(f"SELECT SLEEP({LONG})"))


@task_type("test_undeclared", worker="data", parameters=Nothing)
def undeclared(attempt: Attempt, parameters: Nothing) -> dict[str, Any]:
    """Write a row without having said that this type writes any."""
    attempt.database().execute(text("INSERT INTO data (field1) VALUES ('undeclared')"))
    attempt.progress(1, 1)
    return {}


@task_type("test_headstrong", worker="data", parameters=Nothing, transactional=True)
def headstrong(attempt: Attempt, parameters: Nothing) -> dict[str, Any]:
    """Write a row, and when the branch does not begin, just try again."""
    for _ in range(2):
        try:
            attempt.database().execute(text("INSERT INTO data (field1) VALUES ('headstrong')"))
        except (StillHeld, DBAPIError):
            continue
    return {}


class Effect(BaseModel):
    fails_at: str = ""


#: What the effects of this process were told, in order.
told: list[str] = []


class _Effect:
    def __init__(self, fails_at: str) -> None:
        self.fails_at = fails_at

    def _do(self, step: str) -> None:
        told.append(step)
        if step == self.fails_at:
            raise ConnectionError(f"could not {step}")

    def prepare(self) -> None:
        self._do("prepare")

    def commit(self) -> None:
        self._do("commit")

    def rollback(self) -> None:
        self._do("rollback")


@task_type("test_effect", worker="file", parameters=Effect)
def effect(attempt: Attempt, parameters: Effect) -> dict[str, Any]:
    """Join one effect outside the databases."""
    attempt.join(_Effect(parameters.fails_at))
    return {"done": True}
