"""How a worker ends: bounded, nothing lost, nobody left behind."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cli.stack import Stack
from tests.conftest import eventually
from tests.service.hands import GRACE_SECONDS, Hands, at_work, nobody_left, ticket
from tests.system.processes import away, children

#: What a worker may take beyond its grace.
MARGIN_SECONDS = 5
#: A grace that nobody waits for, and what counts as at once beside it, also on a busy machine.
LONG_GRACE = "60"
AT_ONCE_SECONDS = 20


hands = pytest.fixture(at_work)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_short_tasks_finish_and_long_ones_are_cut_short(hands: Hands, number: signal.Signals) -> None:
    worker = hands.start(concurrency=2)
    pids = children(worker.pid)
    hands.send([ticket("sleep:1:short"), ticket("sleep:60:long"), ticket("sleep:0:later", "low")])
    hands.await_("started", times=2)
    began = time.monotonic()
    worker.send_signal(number)
    assert worker.wait(GRACE_SECONDS + MARGIN_SECONDS) == 0
    assert time.monotonic() - began >= GRACE_SECONDS
    assert (hands.order("done"), hands.order("cut short")) == (["short"], ["long"])
    assert sorted(hands.order()) == ["long", "short"]
    assert nobody_left(pids)
    # The one that was cut short has not told this ledger anything, and its ticket waits for the next worker.
    assert (hands.depth("data.normal"), hands.depth("data.low"), hands.depth("data.dead")) == (1, 1, 0)
    assert not hands.recorded("lost")


def test_an_idle_worker_leaves_at_once(hands: Hands) -> None:
    worker = hands.start(concurrency=2, SLUICE_SHUTDOWN_GRACE_SECONDS=LONG_GRACE)
    worker.terminate()
    assert worker.wait(AT_ONCE_SECONDS) == 0


def test_what_the_interpreter_tidies_up_holds_nobody_up(hands: Hands) -> None:
    worker = hands.start(HANG_AT_EXIT="1", SLUICE_SHUTDOWN_GRACE_SECONDS=LONG_GRACE)
    worker.terminate()
    assert worker.wait(AT_ONCE_SECONDS) == 0


def test_a_second_signal_ends_the_grace(hands: Hands) -> None:
    worker = hands.start(SLUICE_SHUTDOWN_GRACE_SECONDS=LONG_GRACE)
    hands.send([ticket("sleep:60:long")])
    hands.await_("started")
    worker.terminate()
    log = next(hands.folder.glob("data-*.log"))
    eventually(lambda: b"worker leaves" in log.read_bytes())
    worker.terminate()
    assert worker.wait(MARGIN_SECONDS) == 0
    assert hands.order("cut short") == ["long"]


def test_a_signal_to_the_whole_group_spares_the_children(hands: Hands) -> None:
    worker = hands.start()
    hands.send([ticket("sleep:1:short")])
    hands.await_("started")
    os.killpg(worker.pid, signal.SIGTERM)
    assert worker.wait(GRACE_SECONDS + MARGIN_SECONDS) == 0
    assert hands.order("done") == ["short"]


def test_a_task_that_does_not_listen_is_killed_in_time(hands: Hands) -> None:
    worker = hands.start()
    pids = children(worker.pid)
    hands.send([ticket("deaf:60:deaf")])
    hands.await_("started")
    worker.terminate()
    assert worker.wait(GRACE_SECONDS + MARGIN_SECONDS) == 0
    assert nobody_left(pids)
    assert hands.order("lost") == ["deaf"]
    assert hands.depth("data.normal") == 1


def test_a_worker_leaves_while_the_broker_is_away(hands: Hands, servers: Stack) -> None:
    worker = hands.start(concurrency=2)
    hands.send([ticket("sleep:1:short"), ticket("sleep:60:long")])
    hands.await_("started", times=2)
    with away(servers, "rabbitmq"):
        worker.terminate()
        assert worker.wait(GRACE_SECONDS + MARGIN_SECONDS) == 0
    assert (hands.order("done"), hands.order("cut short")) == (["short"], ["long"])


def test_a_worker_leaves_while_the_broker_is_frozen(hands: Hands, servers: Stack) -> None:
    worker = hands.start()
    hands.send([ticket("sleep:60:long")])
    hands.await_("started")
    servers.kill("rabbitmq", signal.SIGSTOP)
    try:
        worker.terminate()
        assert worker.wait(GRACE_SECONDS + MARGIN_SECONDS) == 0
    finally:
        servers.kill("rabbitmq", signal.SIGCONT)
    assert hands.order("cut short") == ["long"], hands.story()


def test_a_child_is_told_to_leave_once(hands: Hands) -> None:
    worker = hands.start()
    hands.send([ticket("deaf:60:deaf")])
    hands.await_("started")
    # The alarm has to tell it in the place of the loop, which then goes on before the child has left.
    hands.hang(GRACE_SECONDS + 1.5)
    worker.terminate()
    worker.wait(GRACE_SECONDS + MARGIN_SECONDS)
    assert len(hands.recorded("told")) == 1, "the next signal would cut its way out short"


def test_a_worker_leaves_although_its_event_loop_hangs(hands: Hands) -> None:
    worker = hands.start()
    pids = children(worker.pid)
    hands.send([ticket("sleep:60:long")])
    hands.await_("started")
    hands.hang()
    worker.terminate()
    worker.wait(GRACE_SECONDS + MARGIN_SECONDS)
    eventually(lambda: nobody_left(pids))
    assert hands.order("cut short") == ["long"], "its child could hand the task back"
    eventually(lambda: hands.depth("data.normal") == 1)
