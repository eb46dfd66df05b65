"""Stops at random moments of a big insert, half of them within 30 ms of its commit: every verdict stays true.

The moment of the commit is foreseen by looking at rows that are not committed yet: a reader of uncommitted rows sees an
insert grow, so its speed tells when the last row will be there, and an undisturbed insert tells how long after its last
row the decision comes, and a first stop how long one takes to arrive. Nothing lingers for it anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from statistics import median

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests.conftest import Tell
from tests.system.answers import OF_THE_RUNNING, Answer
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.proof import percentile
from tests.system.storm import Storm

ROWS = 100_000
#: Ids of rows that stand for all, the first and the last among them.
SAMPLE = sorted({1, *range(2_500, ROWS + 1, 2_500)})
#: How far from the commit a stop counts as near.
NEAR_SECONDS = 0.03
#: How far from it they are aimed, since no aim is perfect.
AIM_SECONDS = 0.02
#: Stops that may be tried for each that is to be near.
TRIES = 3
#: Seconds between two looks at the rows that are not committed yet.
LOOK_SECONDS = 0.002


@dataclass
class Pace:
    """How long things take here, as seen so far."""

    #: From the posting of an insert to its end.
    whole: list[float] = field(default_factory=list)
    #: From the last row to the decision.
    tail: list[float] = field(default_factory=list)
    #: From the sending of a stop until the ledger has it.
    lead: list[float] = field(default_factory=list)
    #: By how much aimed stops came too late so far.
    missed_by: list[float] = field(default_factory=lambda: [0.0])


@pytest.mark.timeout(3600)
def test_stops_at_random_moments_and_near_the_commit(storm: Storm, scale: Scale, tell: Tell) -> None:
    number = scale.of(16, 500)
    pace = learned(storm)
    given: list[Answer] = []
    for _ in range(number - number // 2):
        given.append(stopped(storm, pace, near=None))
    distances: list[float] = []
    while storm.line.hits < number // 2:
        assert len(distances) < TRIES * number, f"few stops came near the commit: {distances}"
        offset = storm.chance.uniform(-AIM_SECONDS, AIM_SECONDS)
        given.append(stopped(storm, pace, near=offset, distances=distances))
        storm.line.hits += abs(distances[-1]) <= NEAR_SECONDS

    running = [each.seconds for each in given if each.verdict in OF_THE_RUNNING]
    storm.line.seconds = running
    tell(
        f"{len(given)} stops: {dict(Counter(each.verdict for each in given))}"
        f"\n{storm.line.hits} of {len(distances)} aimed ones came within 30 ms of the decision, before it "
        f"{sum(distance < 0 for distance in distances)}, median distance "
        f"{median(map(abs, distances)) * 1000:.0f} ms"
        f"\n{len(running)} running ones took {percentile(running, 0.5):.2f} s median, "
        f"{percentile(running, 0.99):.2f} s p99"
        f"\nthe reader looked {storm.reader.looks} times, {storm.reader.rate:.0f} a second"
    )
    assert {each.verdict for each in given} >= {"rolled_back", "already_finished"}


def stopped(storm: Storm, pace: Pace, *, near: float | None, distances: list[float] | None = None) -> Answer:
    """One insert, stopped and judged. `near` is a distance from its decision; without it any moment is as good."""
    with storm.round(sample=SAMPLE):
        task_id = insert(storm)
        if near is None:
            time.sleep(storm.chance.uniform(0, median(pace.whole)))  # not a wait: the moment is the point
            decision = None
        else:
            decision = foreseen(storm.books, pace, near)
        answer = storm.stop(task_id)
        assert answer is not None, "a stop was not answered"
        storm.judge([task_id])
        moments = moments_of(storm.books, task_id)
    arrived = moments.get("stopping", answer.sent_at + median(pace.lead))
    if "stopping" in moments:
        pace.lead.append(arrived - answer.sent_at)
    if distances is not None and near is not None and decision is not None:
        distances.append(arrived - moments.get("decided", decision))
        pace.missed_by.append(distances[-1] - near)
    return answer


def insert(storm: Storm) -> str:
    return storm.service.post("bulk_insert", {"rows": ROWS})


def learned(storm: Storm) -> Pace:
    """From two undisturbed inserts, and from one that is stopped half-way."""
    pace = Pace()
    for _ in range(2):
        with storm.round(sample=SAMPLE):
            task_id = insert(storm)
            with dirty_reader(storm.books) as written:
                until(lambda: written() >= ROWS, "the last row", every=LOOK_SECONDS)
                complete = time.time()
            storm.judge([task_id])
            moments = moments_of(storm.books, task_id)
            pace.whole.append(moments["finished"] - moments["accepted"])
            pace.tail.append(moments["decided"] - complete)
    with storm.round(sample=SAMPLE):
        task_id = insert(storm)
        with dirty_reader(storm.books) as written:
            until(lambda: written() >= ROWS / 2, "half of the rows", every=LOOK_SECONDS)
        answer = storm.stop(task_id)
        assert answer is not None
        storm.judge([task_id])
        pace.lead.append(moments_of(storm.books, task_id)["stopping"] - answer.sent_at)
    return pace


def foreseen(books: Books, pace: Pace, near: float) -> float:
    """Wait until a stop that is sent now arrives so long after the decision (before it when negative); the time at
    which the decision comes."""
    with dirty_reader(books) as written:
        insert = Growing()
        until(lambda: insert.seen(written()), "the first rows", every=LOOK_SECONDS)

        def has_come() -> bool:
            insert.seen(written())
            lead = median(pace.lead) + median(pace.missed_by)
            return time.time() >= insert.complete_at + median(pace.tail) + near - lead

        until(has_come, "the moment of the stop", every=LOOK_SECONDS)
        return insert.complete_at + median(pace.tail)


@dataclass
class Growing:
    """An insert as it grows: when its last row will be there, or was."""

    began_at: float = 0.0
    complete_at: float = float("inf")
    is_complete: bool = False

    def seen(self, written: int) -> bool:
        """So many rows are written by now; whether there are any."""
        now = time.time()
        self.began_at = self.began_at or (now if written else 0.0)
        if not self.is_complete and written > ROWS / 4:
            self.complete_at = now + (now - self.began_at) * (ROWS - written) / written
            self.is_complete = written >= ROWS
        return written > 0


@contextmanager
def dirty_reader(books: Books) -> Iterator[Callable[[], int]]:
    """Tells how many rows are written, committed or not: the ids of an emptied table count them."""
    engine = create_engine(books.data.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED"))
        yield lambda: connection.execute(text("SELECT MAX(id) FROM data")).scalar() or 0


def moments_of(books: Books, task_id: str) -> dict[str, float]:
    """When each of a task's moves was made, by the wall clock."""
    return {row.event: row.at.replace(tzinfo=UTC).timestamp() for row in books.moves(task_id)}
