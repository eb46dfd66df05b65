"""What a limit says of the places under it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

import celery_config
from ledger import limits, places
from ledger.limits import MOST, Limit, Subject, Use, Whose

INSERTS, ADAS = Whose(Subject.TYPE, "bulk_insert"), Whose(Subject.OWNER, "ada")
_NUMBER = some.integers(0, 20)
_USES = some.builds(
    Use,
    some.builds(Limit, some.sampled_from([INSERTS, ADAS]), some.none() | _NUMBER, some.none() | _NUMBER),
    running=_NUMBER,
    starts=_NUMBER,
    kept=_NUMBER,
)


@pytest.mark.parametrize(
    ("bounds", "taken", "room"),
    [
        ({"most_running": 3}, {"running": 1, "starts": 99}, 2),
        ({"most_running": 3}, {"running": 1, "starts": 0, "kept": 2}, 0),
        ({"most_running": 1}, {"running": 5, "starts": 0}, -4),
        ({"starts_per_minute": 9}, {"running": 99, "starts": 4}, 5),
        ({"most_running": 8, "starts_per_minute": 9}, {"running": 1, "starts": 4, "kept": 1}, 4),
        ({}, {"running": 99, "starts": 99}, MOST),
    ],
)
def test_the_room_is_that_of_the_narrower_bound(bounds: Any, taken: Any, room: int) -> None:
    assert Use(Limit(INSERTS, **bounds), **taken).room == room


@given(_USES)
def test_a_limit_is_reached_when_it_has_no_room_but_for_those_who_were_admitted(use: Use) -> None:
    assert bool(use.reached) == (use.room + use.kept <= 0)


def test_a_limit_says_whose_tasks_it_bounds() -> None:
    assert "bulk_insert tasks run" in Use(Limit(INSERTS, 0), running=0, starts=0).reached
    assert "tasks of ada run" in Use(Limit(ADAS, 0), running=0, starts=0).reached


def test_limits_are_locked_in_one_order_whoever_asks() -> None:
    class Task:
        owner, task_type = "ada", "bulk_insert"

    assert list(limits.of(Task)) == sorted(limits.of(Task)) == [ADAS, INSERTS]


def test_a_line_knows_the_priorities_in_their_order() -> None:
    assert places.BEST_FIRST == celery_config.PRIORITIES
