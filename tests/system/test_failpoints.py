"""A process dies at each named place of the code: what was accepted ends, and ends once, with all its rows or none."""

from __future__ import annotations

import pytest
import requests

from tests.system import failpoint
from tests.system.books import Books
from tests.system.conftest import long_only
from tests.system.patience import until
from tests.system.processes import frozen
from tests.system.service import Service

ROWS = 3_000

#: Where the decision has been taken: the attempt that died counts, and there is no second one.
DECIDED = ("f11", "f12", "f13", "f14")
#: The places where the short form freezes a child too.
FROZEN = ("f5", "f8", "f10", "f11")
WORKER = ("f5", "f6", "f7", "f8", "f9", "f10", *DECIDED)
DOOR = ("f1", "f2", "f3", "f4")


@pytest.mark.parametrize("point", WORKER)
def test_a_child_that_dies_leaves_all_rows_or_none(point: str, service: Service, books: Books) -> None:
    failpoint.arm(point)
    task_id = service.post("bulk_insert", {"rows": ROWS})
    service.succeeded(task_id, within=40)

    failpoint.hit(point, within=5)
    attempts = 1 if point in (*DECIDED, "f5") else 2
    assert books.task(task_id).attempt == attempts, books.history(task_id)
    assert books.count() == ROWS


@pytest.mark.parametrize("point", ["f7", "f9", "f10", "f11", "f20", "f12"])
def test_a_child_that_dies_leaves_the_same_in_every_database(
    point: str, service: Service, books: Books
) -> None:
    failpoint.arm(point)
    task_id = service.post("fan_out_insert", {"rows": ROWS})
    service.succeeded(task_id, within=40)

    failpoint.hit(point, within=5)
    assert len(books.databases) > 1
    assert {name: books.count(name) for name in books.databases} == dict.fromkeys(books.databases, ROWS)


def test_a_stop_leaves_nothing_in_any_database(service: Service, books: Books) -> None:
    failpoint.arm("f10", "sleep 3")
    task_id = service.post("fan_out_insert", {"rows": ROWS})
    failpoint.hit("f10")

    answer = service.stop(task_id)
    assert (answer["verdict"], answer["rows_remaining"]) == ("rolled_back", 0), answer
    assert not books.is_being_written(task_id)
    assert {name: books.count(name) for name in books.databases} == dict.fromkeys(books.databases, 0)


@pytest.mark.parametrize("point", [point if point in FROZEN else long_only(point) for point in WORKER])
def test_a_child_that_freezes_beyond_its_lease_leaves_all_rows_or_none(
    point: str, service: Service, books: Books
) -> None:
    failpoint.arm(point, "freeze")
    task_id = service.post("bulk_insert", {"rows": ROWS})
    with frozen(failpoint.hit(point)):
        service.succeeded(task_id, within=40)
        told = books.history(task_id)
    books.all_succeeded(
        service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 1}}] * 10), within=40
    )
    assert books.history(task_id) == told
    assert books.count() == ROWS + 10


@pytest.mark.parametrize("point", DOOR)
def test_a_door_that_dies_accepts_a_task_or_does_not(point: str, service: Service, books: Books) -> None:
    failpoint.arm(point)
    with pytest.raises(requests.ConnectionError):
        service.post("bulk_insert", {"rows": ROWS})
    failpoint.hit(point, within=5)

    books.at_rest()
    assert sum(books.states().values()) == (0 if point in ("f1", "f2") else 1)
    assert books.count() == (0 if point in ("f1", "f2") else ROWS)
    service.succeeded(service.post("bulk_insert", {"rows": 10}))


def test_a_monitor_that_dies_forgets_no_delayed_task(service: Service, books: Books) -> None:
    failpoint.arm("f16")
    task_id = service.post("bulk_insert", {"rows": ROWS}, delay=0.5)
    service.succeeded(task_id, within=40)

    failpoint.hit("f16", within=5)
    assert books.task(task_id).attempt == 1


def test_a_monitor_that_dies_forgets_no_silent_attempt(service: Service, books: Books) -> None:
    failpoint.arm("f8", "freeze")
    failpoint.arm("f15")
    task_id = service.post("bulk_insert", {"rows": ROWS})
    with frozen(failpoint.hit("f8")):
        service.succeeded(task_id, within=40)

    failpoint.hit("f15", within=5)
    assert (books.task(task_id).attempt, books.count()) == (2, ROWS)


def test_a_monitor_that_dies_leaves_no_branch_in_doubt(service: Service, books: Books) -> None:
    failpoint.arm("f11")
    failpoint.arm("f17")
    task_id = service.post("bulk_insert", {"rows": ROWS})
    service.succeeded(task_id, within=40)

    failpoint.hit("f11", within=5)
    failpoint.hit("f17", within=5)
    assert (books.task(task_id).attempt, books.count()) == (1, ROWS)


def test_a_door_that_dies_in_a_stop_leaves_the_task_stopped(service: Service, books: Books) -> None:
    task_id = service.post("slow_insert", {"rows": ROWS, "seconds": 20})
    until(lambda: books.task(task_id).progress_done, "the first rows")
    failpoint.arm("f19")
    with pytest.raises(requests.ConnectionError):
        service.stop(task_id)

    assert service.ended(task_id)["state"] == "revoked"
    failpoint.hit("f19", within=5)
    assert books.count() == 0
