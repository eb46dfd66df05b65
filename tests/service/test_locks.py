"""Others hold the locks that a transaction of the ledger needs: it is tried again, or its client told to come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, select, update

from ledger import db
from ledger.models import tasks
from tests import life, task_types  # noqa: F401  registers the types


def lock(connection: Connection, task_id: str) -> None:
    connection.execute(select(tasks.c.id).where(tasks.c.id == task_id).with_for_update())


class Crossing:
    """Two transactions that each lock a task and then the other's, so that one of them is the victim of a deadlock."""

    def __init__(self) -> None:
        self.task_ids = life.accept(), life.accept()
        self.meeting = threading.Barrier(2)
        self.tries = [0, 0]
        self.outcomes: list[Any] = [None, None]

    def happen(self, *, meetings: int) -> None:
        both = [threading.Thread(target=self._cross, args=(place, meetings)) for place in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join(30)

    def _cross(self, place: int, meetings: int) -> None:
        mine, others = self.task_ids[place], self.task_ids[1 - place]

        def work(connection: Connection) -> str:
            self.tries[place] += 1
            lock(connection, mine)
            if self.tries[place] <= meetings:
                self.meeting.wait(10)
            lock(connection, others)
            connection.execute(update(tasks).where(tasks.c.id == others).values(progress_done=place))
            return "written"

        try:
            self.outcomes[place] = db.transact(work)
        except db.Unavailable as error:
            self.outcomes[place] = error


def test_the_victim_of_a_deadlock_is_tried_again(servers: object) -> None:
    crossing = Crossing()
    crossing.happen(meetings=1)
    assert crossing.outcomes == ["written", "written"]
    assert sorted(crossing.tries) == [1, 2]


def test_a_victim_that_has_no_try_left_says_that_it_wrote_nothing(
    servers: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "MOST_TRIES", 1)
    crossing = Crossing()
    crossing.happen(meetings=1)
    [victim] = [place for place, outcome in enumerate(crossing.outcomes) if isinstance(outcome, db.Unavailable)]
    assert "(1213)" in str(crossing.outcomes[victim])
    assert crossing.outcomes[1 - victim] == "written"
    written = [life.task(task_id).progress_done for task_id in crossing.task_ids]
    assert (written[victim], written[1 - victim]) == (1 - victim, None)


def test_a_client_whose_task_is_locked_is_told_to_come_back(
    door: FlaskClient, configured: Callable[..., None]
) -> None:
    db.be_patient(1)
    task_id, before = life.accept(), life.everything()
    with db.ledger().connect() as rival, rival.begin():
        lock(rival, task_id)
        began = time.monotonic()
        answer = door.post(f"/api/tasks/{task_id}/stop")
        assert time.monotonic() - began < 10
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.mimetype == "application/problem+json"
    assert life.everything()[1:] == before[1:]
    assert door.post(f"/api/tasks/{task_id}/stop").status_code == 200
