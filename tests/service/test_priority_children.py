"""Children that die, hang or are too slow: nothing is reported twice, no slot is lost."""

from __future__ import annotations

import os
import signal

import pytest

from tasks.message import HARD_LIMIT_MARGIN_SECONDS
from tests.conftest import eventually
from tests.service.hands import Hands, at_work, nobody_left, ticket
from tests.system.processes import children, frozen, is_alive, kill, unread

hands = pytest.fixture(at_work)


def test_each_killed_child_is_reported_once_and_soon(hands: Hands) -> None:
    hands.start(concurrency=2)
    waits = []
    for number in range(10):
        hands.send([ticket(f"sleep:60:task-{number}")])
        victim = hands.await_("started", f"task-{number}")[0]
        kill(victim["pid"])
        lost = hands.await_("lost", f"task-{number}", within=5)[0]
        # The ticket goes back and is dropped, because its attempt is over.
        dropped = hands.await_("dropped", f"task-{number}", within=5)[0]
        waits.append(dropped["at"] - lost["at"])
        assert "SIGKILL" in lost["reason"]
    assert len(hands.recorded("lost")) == 10
    assert hands.depth("data.normal") == 0
    assert max(waits) < 3


def test_a_child_that_dies_while_another_is_buried_is_reported_too(hands: Hands) -> None:
    worker = hands.start(concurrency=2)
    hands.send([ticket("sleep:60:first")])
    first = hands.await_("started", "first")[0]["pid"]
    second = next(pid for pid in children(worker.pid) if pid != first)
    with hands.slow_ledger():
        with frozen(second):
            hands.send([ticket("die:0:second")])
            eventually(lambda: unread(second), what="a ticket in its pipe")
            kill(first)
            hands.await_("lost", "first")
        hands.await_("started", "second")
        eventually(lambda: not is_alive(second))
    assert len(hands.await_("lost", "second", within=5)) == 1
    hands.await_("dropped", "second", within=5)


def test_a_child_killed_between_two_tasks_costs_no_slot(hands: Hands) -> None:
    worker = hands.start(concurrency=2)
    for _ in range(6):
        victim = children(worker.pid)[0]
        kill(victim)
        eventually(lambda: not is_alive(victim) and len(children(worker.pid)) == 2)  # noqa: B023
    hands.send([ticket(f"sleep:1:{number}") for number in range(3)])
    hands.await_("done", times=3)
    first, second, third = sorted(line["at"] for line in hands.recorded("started"))
    assert second - first < 0.9, "both slots are there"
    assert third - first >= 0.9, "and no more"


def test_tasks_settle_while_children_are_killed(hands: Hands) -> None:
    names = {f"task-{number}" for number in range(300)}
    hands.send([ticket(f"sleep:0.005:{name}") for name in names])
    worker = hands.start(concurrency=2)
    for number in range(10):
        hands.await_("done", times=1 + 20 * number)
        kill(children(worker.pid)[-1])
    eventually(lambda: {*hands.order("done"), *hands.order("lost")} == names, within=60)
    started = hands.order("started")
    assert len(started) == len(set(started)), "none is started twice"
    assert {*hands.order("done")} <= {*started} <= names, "a child may have died before it could say that it began"


def test_a_hard_limit_ends_the_child_and_then_the_attempt(hands: Hands) -> None:
    hands.start()
    hands.send([ticket("deaf:60:late", timeout_seconds=1 - HARD_LIMIT_MARGIN_SECONDS)])
    victim = hands.await_("started", "late")[0]
    told = hands.await_("timed out", "late", within=5)[0]
    assert told["seconds"] == 1
    assert 0.9 < told["at"] - victim["at"] < 3
    eventually(lambda: not is_alive(victim["pid"]))
    hands.send([ticket("sleep:0:next")])
    hands.await_("done", "next")
    assert not hands.recorded("lost")
    assert hands.depth("data.normal") == 0


def test_children_die_with_their_parent_and_its_ticket_comes_back(hands: Hands) -> None:
    worker = hands.start(concurrency=2)
    hands.send([ticket("sleep:60:orphan")])
    hands.await_("started", "orphan")
    pids = children(worker.pid)
    worker.kill()
    eventually(lambda: nobody_left(pids), within=2)
    eventually(lambda: hands.depth("data.normal") == 1)


def test_children_are_deaf_to_a_signal_that_means_the_parent(hands: Hands) -> None:
    hands.start()
    hands.send([ticket("sleep:1:steady")])
    os.kill(hands.await_("started", "steady")[0]["pid"], signal.SIGTERM)
    hands.await_("done", "steady")
