"""A stop gives a verdict, and what it says is what the table shows."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tests.conftest import Tell
from tests.system import failpoint
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.service import Service, brief

ROWS = 100_000
#: Seconds a stop may take on a machine that has other things to do; on a quiet one it takes less than 2.
LONGEST_STOP_SECONDS = 5

#: Moments by the clock, as shares of the time that an undisturbed insert takes.
SHARES = (0.0, 0.1, 0.4, 0.7, 0.9)
MORE_SHARES = tuple(0.8 + step / 100 for step in range(40))
#: Moments around the commit, by the place where the attempt lingers: ended, prepared, decided, committed, finished.
PLACES = ("f9", "f10", "f11", "f12", "f13")
#: Seconds it lingers there: long enough to be met, or too long to be waited for.
LINGERS, LINGERS_LONG = 0.4, 3.0


def test_verdict_state_and_count_agree_at_every_moment_of_an_insert(
    service: Service, books: Books, scale: Scale, tell: Tell
) -> None:
    whole = seconds_of_an_insert(service, books)
    moments: list[Moment] = [partial(insert_for, service, share * whole) for share in SHARES]
    moments += [partial(insert_up_to, service, place, LINGERS) for place in PLACES]
    moments += [
        partial(insert_up_to, service, "f10", LINGERS_LONG),
        partial(insert_most, service, books, LINGERS_LONG),
    ]
    if scale.is_long:
        moments += [partial(insert_for, service, share * whole) for share in MORE_SHARES]
        moments += [partial(insert_up_to, service, place, LINGERS_LONG) for place in PLACES]
    with looking_at_the_count(books) as seen:
        stops = [stopped_insert(service, books, moment) for moment in moments]

    verdicts = Counter(stop.verdict for stop in stops)
    took = sorted(stop.seconds for stop in stops)
    tell(f"stops took {took[-1]:.2f} s at most, {took[len(took) // 2]:.2f} s median: {dict(verdicts)}")
    assert books.in_doubt() == []
    assert {count % ROWS for count in seen} == {0}, f"a reader saw a part of an insert: {sorted(seen)}"
    assert verdicts.keys() >= {"rolled_back", "too_late_committed", "already_finished"}, verdicts
    assert took[-1] < LONGEST_STOP_SECONDS, took


#: Posts an insert, and returns its id when the moment to stop it has come.
Moment = Callable[[], str]


@dataclass(frozen=True)
class Stopped:
    verdict: str
    seconds: float


def stopped_insert(service: Service, books: Books, moment: Moment) -> Stopped:
    """Insert, stop at a moment, and compare what the stop said with what is there."""
    before = books.count()
    task_id = moment()
    began = time.monotonic()
    answer = service.stop(task_id)
    seconds = time.monotonic() - began
    is_over = not books.is_being_written(task_id)
    counted = service.count()
    task = service.ended(task_id)

    grown = {counted - before, service.count() - before}
    expected = {"revoked": {0}, "succeeded": {ROWS}}[task["state"]]
    assert task["state"] == STATES[answer["verdict"]], f"{answer}, but it ended {brief(task)}"
    assert grown == expected, f"{answer}, but {grown} rows more are there"
    assert is_over or answer["verdict"] != "rolled_back", f"{answer}, but its branch was still there"
    assert answer.get("rows_remaining", 0) == 0, answer
    return Stopped(answer["verdict"], seconds)


#: What each verdict says of the state in which the task ends.
STATES = {
    "stopped_before_start": "revoked",
    "rolled_back": "revoked",
    "stopping": "revoked",
    "too_late_committed": "succeeded",
    "already_finished": "succeeded",
}


def insert_for(service: Service, seconds: float) -> str:
    """An insert that has run for so long. Nothing is waited for by that: the moment is the point."""
    task_id = insert(service)
    if seconds:
        service.running(task_id)
        time.sleep(seconds)
    return task_id


def insert_up_to(service: Service, point: str, seconds: float) -> str:
    """An insert that now lingers at a place of the code for so long."""
    failpoint.arm(point, f"sleep {seconds}")
    task_id = insert(service)
    failpoint.hit(point)
    return task_id


def insert_most(service: Service, books: Books, seconds: float) -> str:
    """An insert with many rows to undo, which now listens to nobody for so long."""
    task_id = insert(service)
    until(lambda: (books.task(task_id).progress_done or 0) > ROWS / 2, f"half of {task_id}")
    failpoint.arm("f8", f"sleep {seconds}")
    failpoint.hit("f8")
    return task_id


def insert(service: Service) -> str:
    return str(service.ask("GET", f"/insert/{ROWS}").json()["task_id"])


def seconds_of_an_insert(service: Service, books: Books) -> float:
    task_id = insert(service)
    service.succeeded(task_id)
    row = books.task(task_id)
    return float((row.finished_at - row.started_at).total_seconds())


@contextmanager
def looking_at_the_count(books: Books) -> Iterator[set[int]]:
    """Every number of rows that a reader of the table sees in the meantime."""
    seen: set[int] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(books.count())
            over.wait(0.1)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()


def test_a_stopped_long_statement_is_cut_off(service: Service, books: Books) -> None:
    task_id = service.post("deaf_insert", {"seconds": 60})
    until(lambda: books.task(task_id).progress_done, f"the first row of {task_id}")

    began = time.monotonic()
    answer = service.stop(task_id)
    assert (answer["verdict"], answer["rows_remaining"]) == ("rolled_back", 0), answer
    assert time.monotonic() - began < LONGEST_STOP_SECONDS
    assert books.count() == 0


def test_a_second_stop_changes_nothing(service: Service) -> None:
    task_id = service.post("slow_insert", {"seconds": 30})
    service.running(task_id)
    first, second = service.stop(task_id), service.stop(task_id)

    assert (first["verdict"], second["verdict"]) == ("rolled_back", "already_finished")
    assert second["state"] == "revoked"


def test_a_canceled_task_is_revoked_by_patch_too(service: Service) -> None:
    task_id = service.post("slow_insert", {"seconds": 30})
    service.running(task_id)
    answer = service.ask("PATCH", f"/api/tasks/{task_id}", json={"status": "canceled"})

    assert answer.status_code == 200, answer.text
    assert (answer.json()["status"], answer.json()["verdict"]) == ("canceled", "rolled_back")


def test_a_stop_of_a_finished_task_says_so_and_keeps_its_rows(service: Service) -> None:
    task_id = service.post("bulk_insert", {"rows": 1000})
    service.succeeded(task_id)
    answer = service.ask("POST", f"/stop/{task_id}")

    assert (answer.status_code, answer.json()["verdict"]) == (409, "already_finished"), answer.text
    assert service.count() == 1000


def test_the_child_takes_the_next_task_after_a_stop(service: Service, books: Books) -> None:
    first = [service.post("slow_insert", {"seconds": 30}) for _ in range(2)]
    for task_id in first:
        service.running(task_id)
    for task_id in first:
        service.stop(task_id)

    after = [service.post("bulk_insert", {"rows": 100}) for _ in range(4)]
    books.all_succeeded(after, within=15)
    assert {row.attempt for row in books.tasks(after)} == {1}
