"""Strict priority by pull: real workers on a real RabbitMQ."""

from __future__ import annotations

import json
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from amqp import Message

import celery_config
from cli.stack import Stack
from ledger.states import State
from tasks.message import message_of
from tests import life
from tests.conftest import eventually
from tests.service.hands import Hands, at_work, ticket

QUEUES = [queue.name for queue in celery_config.queues_of("data")]


hands = pytest.fixture(at_work)


def test_a_backlog_starts_best_first_and_in_its_order(hands: Hands) -> None:
    names = [f"{priority}-{number}" for number in range(40) for priority in ("low", "normal", "high")]
    hands.send([ticket(f"sleep:0.01:{name}", name.partition("-")[0]) for name in names])
    hands.start()
    hands.await_("done", times=len(names))
    assert hands.order() == [f"{priority}-{n}" for priority in ("high", "normal", "low") for n in range(40)]


def test_a_high_ticket_starts_next_in_a_long_backlog(hands: Hands) -> None:
    hands.send([ticket(f"sleep:0.05:low-{number}", "low") for number in range(2000)])
    hands.start()
    for number in range(5):
        hands.await_("done", "low", times=1 + 3 * number)
        before = len(hands.recorded("started", "low"))
        hands.send([ticket(f"sleep:0:high-{number}", "high")])
        hands.await_("started", f"high-{number}")
        # One may be in hand while the ticket is on its way, and the next may have been taken just before it came.
        lows = hands.order().index(f"high-{number}") - number
        assert lows <= before + 2


def test_no_high_ticket_waits_for_a_busy_replica(hands: Hands) -> None:
    busy, _ = hands.start("one"), hands.start("two")
    hands.send([ticket("sleep:8:low", "low")])
    occupied = hands.await_("started", "low")[0]["worker"]
    hands.send([ticket(f"sleep:0.001:high-{number}", "high") for number in range(6)])
    highs = hands.await_("started", "high", times=6, within=4)
    assert occupied not in {line["worker"] for line in highs}
    assert busy.poll() is None


def test_a_free_child_takes_no_more_than_one_ticket(hands: Hands) -> None:
    hands.send([ticket(f"sleep:5:{number}") for number in range(5)])
    hands.start(concurrency=2)
    hands.await_("started", times=2)
    eventually(lambda: hands.depth("data.normal") == 3, within=2)


def test_the_doorbell_wakes_an_idle_worker(hands: Hands) -> None:
    hands.start(LOOK_SECONDS="60")
    hands.send([ticket("sleep:0:unheard")])
    assert not hands.recorded("started")
    hands.ring()
    hands.await_("started", "unheard", within=5)


def test_a_bell_for_another_queue_wakes_it_too(hands: Hands) -> None:
    hands.start(LOOK_SECONDS="60")
    hands.send([ticket("sleep:0:elsewhere", "low")])
    assert not hands.recorded("started")
    hands.ring("data.normal")
    hands.await_("started", "elsewhere", within=5)


def test_without_the_doorbell_a_ticket_is_found_too(hands: Hands) -> None:
    hands.start()
    hands.send([ticket("sleep:0:quiet")])
    hands.await_("started", "quiet", within=5)


def test_queues_that_were_deleted_are_declared_again(hands: Hands) -> None:
    worker = hands.start()
    with hands.channel() as channel:
        for name in QUEUES:
            channel.queue_delete(name)
    eventually(lambda: [hands.depth(name) for name in QUEUES] == [0, 0, 0])
    hands.send([ticket("sleep:0:after", "high")])
    hands.await_("done", "after")
    assert worker.poll() is None


def test_a_queue_deleted_in_a_backlog_does_not_end_the_worker(hands: Hands) -> None:
    hands.send([ticket(f"sleep:0.05:{number}", "low") for number in range(200)])
    worker = hands.start()
    hands.await_("done", times=3)
    with hands.channel() as channel:
        channel.queue_delete("data.low")
    eventually(lambda: hands.depth("data.low") == 0)
    hands.send([ticket("sleep:0:after", "low")])
    hands.await_("done", "after")
    assert worker.poll() is None


def test_a_purge_is_harmless(hands: Hands) -> None:
    hands.send([ticket(f"sleep:0.05:{number}", "low") for number in range(200)])
    hands.start()
    hands.await_("done", times=3)
    hands.empty_queues()
    hands.send([ticket("sleep:0:after", "low")])
    hands.await_("done", "after")
    assert hands.depth("data.low") == 0


def test_a_worker_outlives_a_killed_broker_and_its_order_holds(hands: Hands, servers: Stack) -> None:
    names = [f"{priority}-{number}" for priority in ("high", "normal", "low") for number in range(30)]
    hands.send([ticket(f"sleep:0.05:{name}", name.partition("-")[0]) for name in names])
    worker = hands.start()
    hands.await_("done", times=20)
    killed = servers.kill("rabbitmq")
    servers.wait("rabbitmq", after_pid=killed)
    hands.await_("done", times=len(names), within=60)
    assert hands.order() == names
    assert worker.poll() is None


def test_a_frozen_broker_is_left_and_found_again(hands: Hands, servers: Stack) -> None:
    worker = hands.start()
    servers.kill("rabbitmq", signal.SIGSTOP)
    try:
        log = next(hands.folder.glob("data-*.log"))
        eventually(lambda: b"cannot reach RabbitMQ" in log.read_bytes(), within=30)
    finally:
        servers.kill("rabbitmq", signal.SIGCONT)
    hands.send([ticket("sleep:0:after")])
    hands.await_("done", "after", within=60)
    assert worker.poll() is None


def test_the_queues_of_native_delayed_delivery_are_not_there(hands: Hands) -> None:
    hands.start()
    assert [hands.depth(f"celery_delayed_{number}") for number in (0, 27)] == [-1, -1]


def garbage() -> Iterator[tuple[str, Message]]:
    """Messages that are no tickets, each with its fault."""
    good = message_of(ticket("sleep:0:never"))

    def message(body: Any = None, content_type: str = "application/json", **headers: Any) -> Message:
        return Message(
            good.body if body is None else body,
            content_type=content_type,
            content_encoding="utf-8",
            application_headers={**(good.headers or {}), **headers},
        )

    yield "not JSON", message("no json")
    yield "empty", message("")
    yield "bytes", message(b"\xff\xfe")
    yield "pickle", message(pickle.dumps([[1], {}, {}]), "application/x-python-serialize")
    yield "yaml", message("!!python/object/apply:os.abort []", "application/x-yaml")
    yield "oversize", message("[[1], {}, {}]" + " " * (4 << 20) + "x")
    yield "unknown type", message(task="no_such_type")
    yield "a task of Celery's own", message(task="celery.chain")
    yield "no arguments", message(json.dumps([[], {}, {}]))
    yield "wrong argument", message(json.dumps([["x"], {}, {}]))
    yield "attempt 0", message(json.dumps([[0], {}, {}]))
    yield "attempt true", message(json.dumps([[True], {}, {}]))
    yield "keywords", message(json.dumps([[1], {"k": 1}, {}]))
    yield "callbacks", message(json.dumps([[1], {}, {"callbacks": [{"task": "x"}]}]))
    yield "a number", message("1")
    yield "an object", message(json.dumps({"a": 1}))
    yield "no headers", Message("hello")
    yield "id is a number", message(id=5)
    yield "id too long", message(id="x" * 300)
    yield "has a time", message(eta="2030-01-01T00:00:00")
    yield "odd limits", message(timelimit=["a", "b"])
    yield "negative limit", message(timelimit=[-5, None])
    yield "not compressed", message(compression="zlib")


def test_what_is_no_ticket_is_dead_lettered(hands: Hands) -> None:
    worker = hands.start()
    messages = dict(garbage())
    hands.send([("data.normal", message) for message in messages.values()])
    hands.send([ticket("sleep:0:after", "low")])
    hands.await_("done", "after")
    eventually(lambda: hands.depth("data.dead") == len(messages), what="each is a dead letter")
    assert hands.order() == ["after"]
    assert worker.poll() is None


def test_a_task_of_an_unknown_type_fails_and_says_why(hands: Hands) -> None:
    hands.start()
    retried, hopeless = (life.accept("data_processing", max_retries=retries) for retries in (3, 0))
    for task_id in (retried, hopeless):
        life.put(task_id, task_type="of_tomorrow")
    hands.send([life.ticket(task_id) for task_id in (retried, hopeless)])
    eventually(lambda: (life.state(retried), life.state(hopeless)) == (State.RETRYING, State.FAILED))
    assert life.task(retried).retries == 1
    assert life.task(retried).error["type"] == "UnknownTaskType"
    assert "knows no task type 'of_tomorrow'" in life.remarks(hopeless)
    eventually(lambda: (hands.depth("data.normal"), hands.depth("data.dead")) == (0, 0))


def test_a_ticket_of_an_unknown_type_that_no_task_waits_for_is_dead_lettered(hands: Hands) -> None:
    hands.start()
    task_id = life.accept("data_processing")
    life.put(task_id, task_type="of_tomorrow", state=State.REVOKED)
    hands.send([life.ticket(task_id)])
    eventually(lambda: hands.depth("data.dead") == 1)
    assert (life.state(task_id), life.names_of_events(task_id)) == (State.REVOKED, ["accepted"])
