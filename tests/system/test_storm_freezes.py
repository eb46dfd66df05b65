"""Children freeze for longer than their lease and thaw again: an attempt that was given up changes nothing any more.

They freeze at named places or at random moments, and thaw at the worst times: when everything is over, before the next
attempts begin, while these run, and when the monitor has found the lost lease and has not yet moved the row.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from cli.stack import Stack
from ledger.states import FINAL
from tests.conftest import Tell
from tests.system import failpoint, processes
from tests.system.conftest import SECOND_DATA_WORKER, Scale
from tests.system.patience import until
from tests.system.processes import frozen, present
from tests.system.storm import END_SECONDS, ROWS, Storm
from tests.system.test_storm_failpoints import hit_all

#: Where an attempt has its task and is not through with it.
POINTS = ("f6", "f7", "f8", "f9", "f10", "f11", "f20", "f12")
POINTS_BEFORE = ("f6", "f7", "f8", "f9", "f10")
TASK_TYPES = ("bulk_insert", "fan_out_insert")
#: Seconds of an insert that is to be frozen at a random moment.
SLOW_SECONDS = 1.0
#: What an attempt logs when it finds that its task is not its own any more.
GAVE_UP = {"lease_lost", "attempt_stopped", "task_in_doubt"}


@pytest.mark.timeout(2400)
def test_a_storm_of_freezes(storm: Storm, stack: Stack, scale: Scale, tell: Tell) -> None:
    with present(stack, SECOND_DATA_WORKER):
        for number in range(scale.of(1, 34)):
            task_type = TASK_TYPES[number % 2]
            thaw_after_the_end(storm, task_type)
            thaw_before_the_next(storm, task_type)
            thaw_beside_the_next(storm)
            thaw_before_the_monitor(storm, task_type)
    tell(
        f"{storm.line.hits} attempts were frozen, their tasks taken back after "
        f"{max(storm.line.seconds):.1f} s at most; "
        f"{storm.reader.looks} looks, {storm.reader.rate:.0f} a second"
    )
    assert storm.line.hits >= scale.of(5, 300)


def thaw_after_the_end(storm: Storm, task_type: str) -> None:
    """Two attempts freeze, others do their tasks; when the two thaw, not a letter of the ledger changes."""
    stack, books = storm.stack, storm.books
    with storm.round():
        with frozen(stack.pid(SECOND_DATA_WORKER)):
            victims = freeze(storm, task_type, ("data",), 2)
        with thawing(victims):
            if storm.chance.random() < 0.3:
                storm.stop(victims.task_ids[0])
            victims.until_taken_back(storm)
            until(lambda: sum(books.states()[state] for state in FINAL) == 2, "the end of both", within=60)
            told = rows_and_histories(storm, victims.task_ids)
        victims.until_they_gave_up(storm)
        assert rows_and_histories(storm, victims.task_ids) == told
        storm.judge(victims.task_ids)


def thaw_before_the_next(storm: Storm, task_type: str) -> None:
    """All four children freeze, and thaw as soon as their tasks are given to other attempts, which they run too."""
    with storm.round():
        victims = freeze(storm, task_type, ("data", SECOND_DATA_WORKER), 4)
        with thawing(victims):
            victims.until_taken_back(storm)
        victims.until_they_gave_up(storm)
        storm.judge(victims.task_ids)


def thaw_beside_the_next(storm: Storm) -> None:
    """Two attempts thaw while the next ones are at work: only its number keeps an attempt from the row."""
    stack, books = storm.stack, storm.books
    with storm.round():
        with frozen(stack.pid(SECOND_DATA_WORKER)):
            points = ("f10", storm.chance.choice(POINTS_BEFORE[:-1]))
            victims = freeze(storm, "slow_insert", ("data",), 2, points=points, seconds=2 * SLOW_SECONDS)
        with thawing(victims):
            until(
                lambda: all(row.attempt > 1 and row.state != "retrying" for row in books.tasks(victims.held)),
                "the next attempts are at work",
                within=30,
                seen=lambda: books.told(victims.held),
            )
        victims.until_they_gave_up(storm)
        storm.judge(victims.task_ids)


def thaw_before_the_monitor(storm: Storm, task_type: str, *, within: float = END_SECONDS) -> None:
    """The attempt thaws and succeeds after the monitor found its lease lost, and before it takes the task away."""
    with storm.round():
        failpoint.arm("f15", "freeze")
        victims = freeze(storm, task_type, ("data",), 1, points=POINTS_BEFORE)
        with frozen(failpoint.hit("f15")):
            for pid in victims.pids:
                processes.kill(pid, signal.SIGCONT)
            storm.service.succeeded(victims.task_ids[0])
        # The monitor does one thing after the other: when this one is due, it has had its way with the first.
        later = storm.service.post("bulk_insert", {"rows": ROWS - 1}, delay=0.1)
        storm.service.succeeded(later)
        storm.judge([*victims.task_ids, later], within=within)


@dataclass(frozen=True)
class Victims:
    """Frozen children and their tasks."""

    pids: Sequence[int]
    task_ids: Sequence[str]
    #: Those of the tasks that an attempt was at.
    held: Sequence[str]
    frozen_at: float
    logs: Sequence[Tail]

    def until_taken_back(self, storm: Storm) -> None:
        """None of the frozen attempts has its task any more."""
        until(
            lambda: not any(is_at_it(row) for row in storm.books.tasks(self.held)),
            "the frozen attempts' tasks are others'",
            within=30,
            seen=lambda: storm.books.told(self.held),
        )
        storm.line.seconds.append(time.monotonic() - self.frozen_at)

    def until_they_gave_up(self, storm: Storm) -> None:
        """Each of the thawed attempts has come to its end and found that its task is not its own."""
        until(
            lambda: not self._silent(),
            "the thawed attempts have given up",
            within=30,
            seen=lambda: f"no word of {self._silent()}; {storm.books.told(self.held)}",
        )

    def _silent(self) -> set[str]:
        return set(self.held).difference(*(log.who_gave_up() for log in self.logs))


def freeze(
    storm: Storm,
    task_type: str,
    workers: Sequence[str],
    number: int,
    points: Sequence[str] = (),
    **parameters: Any,
) -> Victims:
    """Freeze so many children: at some of these places, or without any at some of all places, or all children of the
    workers at a random moment."""
    logs = [Tail(storm.stack.layout.log(name)) for name in workers]
    if not points and storm.chance.random() < 0.5:
        task_ids = storm.post("slow_insert", number, seconds=SLOW_SECONDS)
        for task_id in task_ids:
            storm.service.running(task_id)
        pids = [child for name in workers for child in processes.children(storm.stack.pid(name))]
        time.sleep(storm.chance.uniform(0, SLOW_SECONDS))  # not a wait: any moment should be hit
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    else:
        chosen = storm.chance.sample(points or POINTS, number)
        for point in chosen:
            failpoint.arm(point, "freeze")
        task_ids = storm.post(task_type, number, **parameters)
        pids = hit_all(storm, chosen)
        storm.line.hits -= number
    now = time.monotonic()
    held = [row.id for row in storm.books.tasks(task_ids) if is_at_it(row)]
    storm.line.hits += len(held)
    return Victims(pids, task_ids, held, now, logs)


def is_at_it(row: Row[Any]) -> bool:
    """Whether the first attempt has the task."""
    return row.attempt == 1 and row.state in ("running", "committing", "revoking")


@contextmanager
def thawing(victims: Victims) -> Iterator[None]:
    """They go on at the end."""
    try:
        yield
    finally:
        for pid in victims.pids:
            processes.kill(pid, signal.SIGCONT)


def rows_and_histories(storm: Storm, task_ids: Collection[str]) -> list[Any]:
    """All that the ledger says of some tasks."""
    rows = {row.id: row for row in storm.books.tasks(task_ids)}
    return [(rows[task_id], storm.books.history(task_id)) for task_id in sorted(rows)]


class Tail:
    """What is written to a log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size

    def who_gave_up(self) -> set[str]:
        """Tasks whose attempt found out that it may do nothing more for them."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().decode(errors="replace").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return {each["task_id"] for each in told if each.get("action") in GAVE_UP and "task_id" in each}
