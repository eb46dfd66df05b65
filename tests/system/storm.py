"""What a storm is made of: tasks in empty tables, a reader who looks on, faults, and a judgement of what is left.

    with storm.round():
        task_ids = storm.post("bulk_insert", 4)
        ...                                         # stop, kill, freeze
        storm.judge(task_ids)

The judgement collects everything that is wrong as sentences and fails with all of them, so that a storm over a seeded
defect can be asked for the words.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cli.stack import Stack
from ledger.states import FINAL, MOVES
from tests import invariants
from tests.system import answers, failpoint, processes
from tests.system.answers import Answer
from tests.system.books import Books
from tests.system.patience import until
from tests.system.proof import Line
from tests.system.reader import Reader
from tests.system.service import Service

#: Rows of the smallest task: two chunks, so that it has a middle. The next one writes one more, see `reader`.
ROWS = 1_501
#: Retries enough for whatever is hit again and again.
RETRIES = 30
#: Seconds within which no branch is in doubt any more.
IN_DOUBT_SECONDS = 10.0
#: Seconds in which all tasks of a round come to their end.
END_SECONDS = 90.0


class Storm:
    """One storm's hands and eyes. What it does is written down in its line of the table."""

    def __init__(
        self, stack: Stack, books: Books, service: Service, line: Line, chance: random.Random
    ) -> None:
        self.stack, self.books, self.service = stack, books, service
        self.line, self.chance = line, chance
        self.reader = Reader(books)
        self.answers: list[Answer] = []
        self._is_alone = False

    @property
    def servers(self) -> tuple[str, ...]:
        """Those that keep a database, each once."""
        return tuple(sorted(set(self.stack.databases.values())))

    @contextmanager
    def round(self, *, sample: Collection[int] = ()) -> Iterator[None]:
        """Begin with empty tables, watched until the end. With a `sample` (see `reader`) there is only one task."""
        failpoint.disarm()
        self.books.empty()
        self.answers.clear()
        self._is_alone = bool(sample)
        self.line.rounds += 1
        try:
            with self.reader.watching(sample):
                yield
        except AssertionError:
            self.line.wrong = max(1, self.line.wrong)
            raise
        finally:
            self.line.looks, self.line.looks_per_second = self.reader.looks, self.reader.rate

    def post(self, task_type: str, number: int, **parameters: Any) -> list[str]:
        """Submit so many tasks, each with a number of rows of its own."""
        return self.service.post_all(
            {
                "task_type": task_type,
                "parameters": {"rows": ROWS + place, **parameters},
                "max_retries": RETRIES,
            }
            for place in range(number)
        )

    def stop(self, task_id: str) -> Answer | None:
        answer = answers.stop(self.service, self.books, task_id, is_alone=self._is_alone)
        if answer is not None:
            self.answers.append(answer)
        return answer

    @contextmanager
    def stopping(self, task_ids: Sequence[str], *, within: float) -> Iterator[None]:
        """Stop these tasks from beside, each at a random moment of the next so many seconds."""
        moments = sorted(self.chance.uniform(0, within) for _ in task_ids)

        def stop_all() -> None:
            began = time.monotonic()
            for task_id, moment in zip(task_ids, moments, strict=True):
                time.sleep(max(0.0, began + moment - time.monotonic()))  # not a wait: any moment should be hit
                self.stop(task_id)

        thread = threading.Thread(target=stop_all, name="stops")
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def crash(self, servers: Collection[str], pids: Collection[int]) -> None:
        """Kill servers and other processes in one moment and in any order; this returns when the servers are back."""
        of_servers = {name: self.stack.pid(name) for name in servers}
        victims = [*of_servers.values(), *pids]
        self.chance.shuffle(victims)
        for pid in victims:
            processes.kill(pid)
        for name, pid in of_servers.items():
            self.stack.wait(name, after_pid=pid)

    def see_doubts_settled(self) -> None:
        """No branch that is in doubt now is so for longer than ten seconds. Later attempts prepare other ones."""
        began, doubts = time.monotonic(), set(self.books.in_doubt())
        until(
            lambda: not doubts & set(self.books.in_doubt()),
            "the end of all doubts",
            within=IN_DOUBT_SECONDS,
            seen=lambda: doubts & set(self.books.in_doubt()),
        )
        self.line.seconds.append(time.monotonic() - began)

    def judge(self, task_ids: Collection[str], *, within: float = END_SECONDS) -> None:
        """Wait for the end of all, and fail with every contradiction between ledger, rows, verdicts and reader."""
        wrong = [
            *self._unrest(task_ids, within),
            *invariants.violations(self.books.ledger, self.books.databases),
            *self._ended_badly(task_ids),
            *(sentence for task_id in task_ids for sentence in stale_effects(self.books, task_id)),
            *(sentence for answer in self.answers for sentence in answers.contradictions(answer, self.books)),
            *(f"the reader: {sentence}" for sentence in self.reader.violations),
        ]
        self.line.wrong += len(wrong)
        assert not wrong, "\n".join([*wrong, self.books.told(task_ids)])

    def _unrest(self, task_ids: Collection[str], within: float) -> Iterator[str]:
        yield from _late(lambda: self._are_over(task_ids), f"the end of {len(task_ids)} tasks", within)
        yield from _late(lambda: not self.books.in_doubt(), "the end of all doubts", IN_DOUBT_SECONDS)

    def _are_over(self, task_ids: Collection[str]) -> bool:
        return sum(self.books.states(task_ids)[state] for state in FINAL) == len(task_ids)

    def _ended_badly(self, task_ids: Collection[str]) -> Iterator[str]:
        """Whoever was not stopped succeeds, and nobody else."""
        stops = [*self.books.events("stopped", task_ids), *self.books.events("stopping", task_ids)]
        stopped = {row.task_id for row in stops}
        for row in self.books.tasks(task_ids):
            expected = "revoked" if row.id in stopped else "succeeded"
            if row.state in FINAL and row.state != expected:
                yield f"task {row.id} is {row.state}, and should be {expected}"


def _late(condition: Callable[[], object], what: str, within: float) -> Iterator[str]:
    try:
        until(condition, what, within=within)
    except AssertionError as error:
        yield str(error)


def stale_effects(books: Books, task_id: str) -> Iterator[str]:
    """Whatever an attempt did to a task after it had been taken from it."""
    lost: set[int] = set()
    for row in books.moves(task_id):
        if row.event in MOVES and MOVES[row.event].fenced and row.event != "claimed" and row.attempt in lost:
            yield f"task {task_id}: attempt {row.attempt} was over, and then came '{row.event}'"
        if row.event in ("retried", "given_up", "handed_back", "finished", "rolled_back"):
            lost.add(row.attempt)
