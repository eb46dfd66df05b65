"""A queue that RabbitMQ could not bring back after a crash keeps only its own tasks waiting, and is declared anew; one
that is merely slow is left as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient

from cli.stack import Stack
from ledger import acceptance, leadership, queries
from ledger.leadership import Deposed, Term
from tasks import dispatch, mending
from tasks.broker import is_dead
from tasks.dispatch import BrokerUnavailable, Publisher
from tasks.lost import Scan
from tasks.mending import Mending
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

LOW, NORMAL = "data.low", "data.normal"


@pytest.fixture
def publisher(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(dispatch, "CONFIRM_SECONDS", 3)
    monkeypatch.setattr(dispatch, "SILENT_SECONDS", 1)
    monkeypatch.setattr(mending, "PATIENCE_SECONDS", 0.0)
    broker.declare_empty()
    publisher = Publisher()
    yield publisher
    publisher.close()


def send(publisher: Publisher, **tasks_of: int) -> int:
    """Accept so many tasks of each priority and send whatever has no ticket; how many tickets arrived."""
    for priority, number in tasks_of.items():
        acceptance.accept([life.new(priority=priority) for _ in range(number)])
    return dispatch.dispatch(publisher, queries.undispatched(-1))


@contextmanager
def dead(servers: Stack, queue: str) -> Iterator[None]:
    """The process of a queue is gone in here, and started again after it unless the queue was declared anew."""
    server = f"{{'sluice_{queue}', node()}}"
    servers.rabbitmqctl("eval", f"ra:stop_server(quorum_queues, {server}).")
    yield
    servers.rabbitmqctl("eval", f"ra:restart_server(quorum_queues, {server}).")
    eventually(lambda: not is_dead(queue))


@contextmanager
def slow(servers: Stack, queue: str) -> Iterator[None]:
    """The process of a queue is there in here and does nothing, like one without a majority."""
    servers.rabbitmqctl("eval", f"sys:suspend(whereis('sluice_{queue}')).")
    try:
        yield
    finally:
        servers.rabbitmqctl("eval", f"sys:resume(whereis('sluice_{queue}')).")


def test_a_queue_that_a_crash_took_is_declared_anew_and_its_tickets_sent_again(
    publisher: Publisher, servers: Stack
) -> None:
    assert send(publisher, low=3) == 3
    broker.take_by_crash(servers, LOW)
    assert broker.depth(LOW) == 0, "it looks empty"
    assert send(publisher, low=1, normal=2) == 2
    assert broker.depth(NORMAL) == 2

    care = Mending()
    assert [care.mend(tuple(publisher.silence)) for _ in range(3)] == [[], [LOW], []]
    publisher.silence.ends(LOW)
    assert send(publisher) == 1
    life.let_pass(60)
    scan = Scan()
    assert [scan.resend(publisher) for _ in range(3)] == [0, 3, 0]
    assert eventually(lambda: broker.depth(LOW) == 4)

    with dead(servers, LOW):
        assert is_dead(LOW)
    assert broker.depth(LOW) == 4, "RabbitMQ finds the new one when it starts again"


@pytest.mark.parametrize("ill", [dead, slow])
def test_a_queue_that_takes_nothing_keeps_no_other_waiting(ill: Any, publisher: Publisher, servers: Stack) -> None:
    send(publisher, low=1, normal=1)
    with ill(servers, LOW):
        publisher.close()  # as a crash does
        assert send(publisher, low=30, normal=5) == 5, "in one batch"
        began = time.monotonic()
        assert send(publisher, normal=5) == 5, "the other rests"
        assert time.monotonic() - began < 0.9 * dispatch.CONFIRM_SECONDS
    assert {ticket.queue for ticket in queries.undispatched(-1)} == {LOW}
    publisher.silence.ends(LOW)
    assert eventually(lambda: send(publisher)) == 30
    assert LOW not in publisher.silence


def test_a_queue_that_takes_nothing_is_no_absent_broker(publisher: Publisher, servers: Stack) -> None:
    with slow(servers, LOW):
        assert send(publisher, low=3) == 0


def test_a_slow_queue_keeps_its_tickets(publisher: Publisher, servers: Stack) -> None:
    assert send(publisher, low=3) == 3
    care = Mending()
    with slow(servers, LOW):
        assert [care.mend([LOW]) for _ in range(4)] == [[]] * 4
    assert eventually(lambda: broker.depth(LOW) == 3)


def test_a_queue_that_was_dead_for_a_moment_keeps_its_tickets(publisher: Publisher, servers: Stack) -> None:
    assert send(publisher, low=3) == 3
    care = Mending()
    with dead(servers, LOW):
        assert care.mend([LOW]) == []
    assert [care.mend([LOW]) for _ in range(2)] == [[], []]
    with dead(servers, LOW):
        assert care.mend([LOW]) == [], "the first look counts no more"
    assert eventually(lambda: broker.depth(LOW) == 3)


def test_a_dead_queue_has_its_time_to_come_back(
    publisher: Publisher, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mending, "PATIENCE_SECONDS", 0.5)
    care = Mending()
    with dead(servers, LOW):
        began = time.monotonic()
        assert eventually(lambda: care.mend([])) == [LOW], "it is looked for, though nobody misses it"
        assert time.monotonic() - began > 0.5
        assert not is_dead(LOW)


def test_an_outage_between_two_looks_makes_the_first_one_void(
    publisher: Publisher, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    care = Mending()
    with dead(servers, LOW):
        assert care.mend([LOW]) == []
        with monkeypatch.context() as away:
            away.setattr("tasks.broker.reach", lambda connection: (_ for _ in ()).throw(OSError("away")))
            with pytest.raises(BrokerUnavailable):
                care.mend([LOW])
        assert care.mend([LOW]) == []
        assert care.mend([LOW]) == [LOW]


def test_a_monitor_that_leads_no_more_deletes_nothing(publisher: Publisher, servers: Stack) -> None:
    assert send(publisher, low=1) == 1
    care = Mending()
    with dead(servers, LOW):
        care.mend([LOW])
        with leadership.acting(Term(0, "nobody")), pytest.raises(Deposed):
            care.mend([LOW])
    assert eventually(lambda: broker.depth(LOW) == 1)


def test_the_tasks_of_a_dead_queue_are_told_so(publisher: Publisher, servers: Stack, door: FlaskClient) -> None:
    send(publisher, low=1, normal=1)
    low, normal = (life.task(row.id) for row in sorted(life.everything()[0], key=lambda row: row.queue))
    with dead(servers, LOW):
        told = door.get(f"/api/tasks/{low.id}/explain").get_json()
        assert (told["cause"], told["evidence"]["broker"]["answers"]) == ("queue_silent", True)
        assert "its queue data.low takes and gives no tickets: no process of it runs." in told["sentence"]
        assert door.get(f"/api/tasks/{normal.id}/explain").get_json()["cause"] == "no_worker"
    assert door.get(f"/api/tasks/{low.id}/explain").get_json()["cause"] == "no_worker"
    with slow(servers, LOW):
        assert "it gives no answer" in door.get(f"/api/tasks/{low.id}/explain").get_json()["sentence"]
