"""What RabbitMQ gave up on is told to its task, which is done all the same or fails with the reason; garbage goes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from amqp import Message
from flask.testing import FlaskClient

import celery_config
from ledger import db, dispatches, queries, transitions
from ledger.states import State
from tasks import dead_letters, dispatch
from tasks.dispatch import BrokerUnavailable, Publisher
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

QUEUE, DEAD = "data.normal", "data.dead"
CANARY = "canary-7f3a"


@pytest.fixture
def publisher(servers: object) -> Iterator[Publisher]:
    broker.declare_empty()
    publisher = Publisher()
    yield publisher
    publisher.close()


def send(publisher: Publisher) -> None:
    dispatch.dispatch(publisher, queries.undispatched(-1))


def take_from(channel: Any) -> Any:
    return eventually(lambda: channel.basic_get(QUEUE))


def die() -> None:
    """RabbitMQ gives up on the ticket of a queue, for a reason of its own."""
    with broker.channel() as channel:
        message = take_from(channel)
        channel.basic_reject(message.delivery_tag, requeue=False)
    eventually(lambda: broker.depth(DEAD))


def test_a_task_whose_ticket_died_gets_another_and_a_remark(publisher: Publisher) -> None:
    task_id = life.accept()
    send(publisher)
    die()
    assert dead_letters.read() == 1
    assert broker.depth(DEAD) == 0
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == [task_id]
    send(publisher)
    assert broker.depth(QUEUE) == 1
    words = "the broker gave up on the ticket for attempt 1 in data.normal: rejected"
    assert [row.remark for row in queries.history(task_id) if row.event == "dead_lettered"] == [words]
    assert dead_letters.read() == 0


def test_a_ticket_that_kills_its_workers_dies_and_is_told(publisher: Publisher) -> None:
    task_id = life.accept()
    send(publisher)
    for _ in range(celery_config.DELIVERY_LIMIT + 1):
        with broker.channel() as channel:
            take_from(channel)  # and the connection ends with it in hand
    eventually(lambda: broker.depth(DEAD))
    assert dead_letters.read() == 1
    assert "in data.normal: delivery_limit" in life.remarks(task_id)


def test_a_task_whose_tickets_die_again_and_again_fails_with_the_reason(publisher: Publisher) -> None:
    task_id = life.accept()
    for _ in range(dispatches.MOST_DEAD_TICKETS):
        assert life.state(task_id) == State.QUEUED
        send(publisher)
        die()
        dead_letters.read()
    row = life.task(task_id)
    assert (row.state, row.error["type"]) == ("failed", "Undeliverable")
    assert "gave up after 3 tickets: the broker gave up on the ticket for attempt 1" in life.remarks(task_id)
    assert queries.undispatched(-1) == []


def test_a_letter_that_is_read_again_counts_once(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept()
    send(publisher)
    die()
    with monkeypatch.context() as dying:
        dying.setattr("amqp.Channel.basic_ack", dies)
        with pytest.raises(BrokerUnavailable):
            dead_letters.read()
    send(publisher)
    eventually(lambda: broker.depth(DEAD))
    assert dead_letters.read() == 1
    assert life.names_of_events(task_id).count("dead_lettered") == queries.totals()["dead_lettered"] == 1
    assert life.task(task_id).dispatched_at is not None, "the ticket that was sent for it is kept"


def dies(*arguments: object, **named: object) -> None:
    raise BrokerUnavailable("the monitor is killed here")


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUEUED}))
def test_a_dead_ticket_moves_nobody_who_does_not_wait_for_it(state: State) -> None:
    task_id = life.accept()
    life.put(task_id, state=state)
    for number in range(4):
        assert dispatches.dead_letter(task_id, 1, words="words", ticket=str(number))
    assert life.state(task_id) == state


def test_an_old_ticket_that_died_changes_nothing_for_the_next_attempt(publisher: Publisher) -> None:
    task_id = life.accept()
    send(publisher)
    die()
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="leaving")
    send(publisher)
    dead_letters.read()
    row = life.task(task_id)
    assert (row.state, row.attempt, row.dispatched_at is not None) == ("queued", 1, True)


def test_a_ledger_that_is_away_keeps_the_letters(publisher: Publisher, configured: Any) -> None:
    life.accept()
    send(publisher)
    die()
    configured(LEDGER_DATABASE_URL="mysql+pymysql://nobody@127.0.0.1:1/none")
    with pytest.raises(db.Unavailable):
        dead_letters.read()
    eventually(lambda: broker.depth(DEAD) == 1)


GARBAGE = [
    Message(CANARY),
    Message(b"\x00\xff" + CANARY.encode(), content_type=f"x\nERROR forged {'y' * 200}"),
    Message("[[1], {}, {}]", application_headers={"id": "not-an-id"}),
    Message("[[1], {}, {}]", application_headers={"id": 7, "x-death": "often"}),
    Message(json.dumps([[0]]), application_headers={"id": "019aa5c0-0000-7000-8000-000000000001"}),
    Message(json.dumps([["1; DROP"]]), application_headers={"id": "019aa5c0-0000-7000-8000-000000000001"}),
    Message("[" * 10_000, application_headers={"id": "019aa5c0-0000-7000-8000-000000000001"}),
    Message("{}", application_headers={"id": "019aa5c0-0000-7000-8000-000000000001"}),
]


def test_garbage_is_counted_told_in_short_and_dropped(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, door: FlaskClient
) -> None:
    put(DEAD, GARBAGE)
    with caplog.at_level(logging.WARNING, "tasks.dead_letters"):
        assert dead_letters.read() == len(GARBAGE)
    assert broker.depth(DEAD) == 0
    assert queries.totals()["strange_messages"] == len(GARBAGE)
    assert f"sluice_strange_messages_total {float(len(GARBAGE))}" in door.get("/metrics").text
    assert len(caplog.messages) == dead_letters.MOST_TOLD + 1
    assert CANARY not in caplog.text
    assert all("\n" not in line and len(line) < 300 for line in caplog.messages)


def test_a_ticket_of_a_task_that_is_gone_is_dropped(publisher: Publisher) -> None:
    put(DEAD, [Message("[[1]]", application_headers={"id": "019aa5c0-0000-7000-8000-000000000001"})])
    assert dead_letters.read() == 1
    assert broker.depth(DEAD) == 0


def test_a_round_reads_no_more_than_so_many(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "MOST_AT_ONCE", 3)
    put(DEAD, [Message("x")] * 4)
    assert [dead_letters.read() for _ in range(3)] == [3, 1, 0]


def test_queues_that_are_gone_hold_no_letters(publisher: Publisher) -> None:
    broker.delete(DEAD)
    assert dead_letters.read() == 0


def put(queue: str, messages: list[Message]) -> None:
    with broker.channel() as channel:
        channel.confirm_select()
        for message in messages:
            channel.basic_publish_confirm(message, routing_key=queue)
    # A busy RabbitMQ tells a depth of none when a queue does not answer it within a quarter of a second.
    eventually(lambda: broker.depth(queue) == len(messages), within=30)
