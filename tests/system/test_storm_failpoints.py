"""Children and database servers die at every named place of an attempt: all rows or none, in every database.

Some tasks are stopped meanwhile. Several places are armed at once: each kills whoever comes there first, and a round is
over when all have been hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import failpoint
from tests.system.conftest import SECOND_DATA_WORKER, Scale
from tests.system.patience import until
from tests.system.processes import present
from tests.system.storm import END_SECONDS, Storm

POINTS = ("f5", "f6", "f7", "f8", "f9", "f10", "f11", "f20", "f12", "f13", "f14")
#: Where the short form kills the databases too: on both sides of the decision.
CHOSEN = {"bulk_insert": ("f10", "f11"), "fan_out_insert": ("f20", "f9")}
TASK_TYPES = tuple(CHOSEN)

#: Tasks of a round beyond those that end at a fail-point, some of which are stopped.
MORE_TASKS, STOPS = 4, 2
#: Seconds over which the stops of a round are spread.
STOPS_SECONDS = 3.0
#: Children of one data worker, and of two.
CHILDREN, MORE_CHILDREN = 2, 4


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_a_storm_of_dying_children(task_type: str, storm: Storm, scale: Scale, tell: Tell) -> None:
    for number in range(scale.of(1, 25)):
        kill_at(storm, POINTS, task_type, stops=STOPS if number % 2 == 0 else 0)
    told(storm, tell)
    assert storm.line.hits == len(POINTS) * scale.of(1, 25)


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_a_storm_of_dying_databases(
    task_type: str, storm: Storm, stack: Stack, scale: Scale, tell: Tell
) -> None:
    if not scale.is_long:
        crash_at(storm, CHOSEN[task_type], task_type, stops=1)
    else:
        with present(stack, SECOND_DATA_WORKER):
            for number in range(10):
                for points in in_groups(POINTS, MORE_CHILDREN):
                    crash_at(storm, points, task_type, stops=1 if number % 2 == 0 else 0)
    told(storm, tell)
    assert storm.line.hits == scale.of(len(CHOSEN[task_type]), 10 * len(POINTS))


def kill_at(
    storm: Storm,
    points: Sequence[str],
    task_type: str,
    *,
    stops: int = 0,
    within: float = END_SECONDS,
) -> None:
    """One round: a child dies at each of these places."""
    with storm.round():
        for point in points:
            failpoint.arm(point)
        task_ids = storm.post(task_type, len(points) + MORE_TASKS)
        with storm.stopping(storm.chance.sample(task_ids, stops), within=STOPS_SECONDS):
            hit_all(storm, points)
            storm.see_doubts_settled()
        storm.judge(task_ids, within=within)


def crash_at(storm: Storm, points: Sequence[str], task_type: str, *, stops: int = 0) -> None:
    """One round: children that stand at these places die in the same moment as the database servers."""
    with storm.round():
        for point in points:
            failpoint.arm(point, "freeze")
        task_ids = storm.post(task_type, len(points) + MORE_TASKS)
        frozen = hit_all(storm, points)
        with storm.stopping(storm.chance.sample(task_ids, stops), within=0.1):
            storm.crash(storm.servers, frozen)
        storm.see_doubts_settled()
        storm.judge(task_ids)


def hit_all(storm: Storm, points: Sequence[str]) -> list[int]:
    """Wait until somebody came to each place; their pids."""
    met = until(
        lambda: len(failpoint.hits(*points)) == len(points) and failpoint.hits(*points),
        f"somebody at each of {', '.join(points)}",
        within=60,
        seen=lambda: failpoint.hits(*points),
    )
    assert met
    storm.line.hits += len(met)
    return list(met.values())


def in_groups(points: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Places next to each other come into different groups, so that a group is spread over the whole attempt."""
    groups = -(-len(points) // size)
    for first in range(groups):
        yield tuple(islice(points, first, None, groups))


def told(storm: Storm, tell: Tell) -> None:
    tell(
        f"{storm.line.hits} hits in {storm.line.rounds} rounds, no branch in doubt for longer than "
        f"{max(storm.line.seconds):.1f} s, {storm.reader.looks} looks, {storm.reader.rate:.0f} a second"
    )
