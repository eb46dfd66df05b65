"""An attempt without a ledger, for driving handlers: it records what they tell and join."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from ledger import xa
from settings import settings
from tasks.attempt import Attempt, Participant

TASK_ID = "019aa5c0-0000-7000-8000-000000000001"

_REQUIRED = {
    "LEDGER_DATABASE_URL": "mysql+pymysql://nobody@127.0.0.1:1/none",
    "DATA_DATABASE_URL": "mysql+pymysql://nobody@127.0.0.1:1/none",
    "CELERY_BROKER_URL": "amqp://nobody@127.0.0.1:1//",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0",
}


class RecordingAttempt(Attempt):
    """What a handler gets, less lease and stop. `succeed` and `undo` do to the participants what a worker does."""

    def __init__(self, number: int = 1, connection: Connection | None = None) -> None:
        self.task_id = TASK_ID
        self.number = number
        self.told: list[tuple[int, int | None]] = []
        self.joined: list[Participant] = []
        self._connection = connection

    def progress(self, done: int, total: int | None = None) -> None:
        self.told.append((done, total))

    def database(self, name: str = "data") -> Connection:
        assert self._connection is not None
        return self._connection

    def join(self, participant: Participant) -> None:
        self.joined.append(participant)

    def begin_last_step(self) -> None:
        pass

    def prepare(self) -> None:
        for participant in self.joined:
            participant.prepare()

    def succeed(self) -> None:
        self.prepare()
        for participant in self.joined:
            participant.commit()

    def undo(self) -> None:
        for participant in self.joined:
            participant.rollback()


@contextmanager
def committed() -> Iterator[RecordingAttempt]:
    """An attempt inside a real branch, committed at the end of the block, or rolled back when it raises."""
    branch = xa.Branch(xa.BranchId(TASK_ID, 1, "data"))
    try:
        yield RecordingAttempt(connection=branch.start())
        branch.prepare()
        branch.commit()
    except BaseException:
        branch.rollback()
        raise
    finally:
        branch.close()


def configure(monkeypatch: pytest.MonkeyPatch, **variables: Any) -> None:
    """Settings for one test: what is not given stays as the environment has it, or points nowhere."""
    for name, value in _REQUIRED.items():
        monkeypatch.setenv(name, str(variables.pop(name, os.environ.get(name, value))))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    settings.cache_clear()
