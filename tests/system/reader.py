"""A reader who looks at the tables a hundred times a second, and must never see a part of anything.

What he may see follows from what the ledger says before and after he counted. The rows of every task that had succeeded
before are there; those of a task that was decided in between may be; of nobody else there is one row. He compares
numbers of rows only, so the tasks of one round should write different ones, and not round ones: then no part of one
task looks like the whole of others.

    reader = Reader(books)
    with reader.watching():
        ...                             # empty tables before, any faults in here
    assert not reader.violations

Counting 100,000 rows takes longer than a look may. For a single big insert he can be told to count a sample by the
rows' ids, which begin at 1 in an emptied table, and all rows only every so often.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError

from ledger.models import tasks
from ledger.states import State
from tests.system.books import Books

HZ = 100
#: With a sample, every so many looks all rows are counted too.
WHOLE_EVERY = 20
#: Sentences that are kept; beyond them they are only counted.
MOST_SENTENCES = 5

_STATES = select(tasks.c.id, tasks.c.state, tasks.c.attempt)
_SIZES = select(tasks.c.id, tasks.c.task_type, tasks.c.parameters)
_ALL_ROWS = "SELECT COUNT(*) FROM data"

#: Rows that each task writes, by database.
Sizes = Mapping[str, Mapping[str, int]]


@dataclass
class Ledger:
    """One answer of the ledger: each task's state, and whether all are at their first attempt."""

    states: dict[str, str] = field(default_factory=dict)
    is_first: bool = True

    def those(self, *states: State) -> set[str]:
        return {task_id for task_id, state in self.states.items() if state in states}


class Reader:
    """Counts, compares, and keeps what was wrong, over as many rounds as it is told to watch."""

    def __init__(self, books: Books) -> None:
        self.looks = self.wrong = 0
        #: Time of watching, without that in which a database did not answer.
        self.seconds = 0.0
        self.violations: list[str] = []
        self._ledger = books.ledger
        self._databases = books.databases

    @property
    def rate(self) -> float:
        return self.looks / self.seconds if self.seconds else 0.0

    @contextmanager
    def watching(self, sample: Collection[int] = ()) -> Iterator[None]:
        """He looks while the block runs, on connections of his own. `sample` are ids of rows; see above."""
        over = threading.Event()
        watch = _Watch(self._ledger, self._databases, tuple(sample))
        thread = threading.Thread(target=self._go_on, args=(watch, over), name="reader")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            watch.close()

    def _go_on(self, watch: _Watch, over: threading.Event) -> None:
        due = time.monotonic()
        looked: float | None = due
        while not over.is_set():
            try:
                self._note(watch.look())
            except DBAPIError:
                # A server that is away shows nothing to anybody.
                watch.close()
                looked = None
            else:
                before, looked = looked, time.monotonic()
                self.seconds += looked - (before or looked)
            due = max(due + 1 / HZ, time.monotonic() - 1 / HZ)
            over.wait(max(0.0, due - time.monotonic()))

    def _note(self, found: list[str]) -> None:
        self.looks += 1
        self.wrong += len(found)
        self.violations += found[: MOST_SENTENCES - len(self.violations)]


class _Watch:
    """One round of looks."""

    def __init__(self, ledger: Engine, databases: Mapping[str, Engine], sample: tuple[int, ...]) -> None:
        self._engines = {**databases, "": ledger}
        self._names = tuple(databases)
        self._sample = sample
        self._open: dict[str, Connection] = {}
        self._sizes: dict[str, Mapping[str, int]] = {}
        self._before = Ledger()
        self._number = 0

    def close(self) -> None:
        for connection in self._open.values():
            connection.invalidate()
            connection.close()
        self._open.clear()

    def look(self) -> list[str]:
        """Count, ask the ledger, and compare with what it said at the look before; what was wrong, as sentences."""
        self._number += 1
        samples = self._sample if self._before.is_first and self._number % WHOLE_EVERY else ()
        counts = {name: self._count(name, samples) for name in self._names}
        before, after = self._before, self._ask()
        if samples and not after.is_first:
            # Another attempt's rows have other ids than the sample.
            self._before = after
            return []
        self._before = after
        scale: Callable[[int], int] = (lambda rows: sum(id <= rows for id in samples)) if samples else int
        return list(_contradictions(counts, before, after, self._sizes, scale))

    def _count(self, name: str, samples: tuple[int, ...]) -> int:
        where = f" WHERE id IN ({', '.join(map(str, samples))})" if samples else ""
        return int(self._on(name).exec_driver_sql(_ALL_ROWS + where).scalar_one())

    def _ask(self) -> Ledger:
        rows = self._on("").execute(_STATES).all()
        if unknown := [row.id for row in rows if row.id not in self._sizes]:
            self._learn(unknown)
        return Ledger({row.id: row.state for row in rows}, all(row.attempt <= 1 for row in rows))

    def _learn(self, task_ids: Collection[str]) -> None:
        for row in self._on("").execute(_SIZES.where(tasks.c.id.in_(task_ids))):
            self._sizes[row.id] = sizes_of(row, self._names)

    def _on(self, name: str) -> Connection:
        if name not in self._open:
            self._open[name] = connection = self._engines[name].connect()
            # Each look is to see what is there now, also were autocommit off.
            connection.execute(text("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"))
        return self._open[name]


def sizes_of(row: Any, names: Collection[str]) -> dict[str, int]:
    """The rows that a task means to write into each database, by its type and parameters."""
    rows = int(row.parameters.get("rows", 0))
    written = names if row.task_type == "fan_out_insert" else ("data",)
    return {name: rows if name in (row.parameters.get("databases") or written) else 0 for name in names}


def _contradictions(
    counts: Mapping[str, int], before: Ledger, after: Ledger, sizes: Sizes, scale: Callable[[int], int]
) -> Iterator[str]:
    succeeded = before.those(State.SUCCEEDED)
    decided = after.those(State.COMMITTING, State.SUCCEEDED) - succeeded
    for name, count in counts.items():
        told = sum(scale(sizes[each][name]) for each in succeeded)
        may_follow = [scale(sizes[each][name]) for each in decided]
        if count < told:
            yield f"{name} showed {count} rows when succeeded tasks had told of {told}: success came before the rows"
        elif count - told not in sums(may_follow):
            yield (
                f"{name} showed {count} rows: beyond the {told} of succeeded tasks a part of a task, or rows that "
                f"nobody had decided; decided were {sorted(may_follow)}"
            )


def sums(sizes: Iterable[int]) -> set[int]:
    """Every number that some of these add up to."""
    reached = {0}
    for size in sizes:
        reached |= {each + size for each in reached}
    return reached
