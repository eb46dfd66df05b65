"""Tickets to a real RabbitMQ: marked only when a queue has them, whatever happens to broker and queues."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.stack import Stack
from ledger import acceptance, queries
from ledger.tickets import Ticket
from tasks import dispatch, line
from tasks.dispatch import BATCH, BrokerUnavailable, Publisher
from tasks.message import message_of
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually


@pytest.fixture
def publisher(servers: Stack) -> Iterator[Publisher]:
    broker.declare_empty()
    publisher = Publisher()
    yield publisher
    publisher.close()


def accept(number: int, **more: Any) -> list[Ticket]:
    acceptance.accept([life.new(**more) for _ in range(number)])
    return [
        each
        for each in queries.undispatched(-1, limit=10_000)
        if each.queue.endswith(more.get("priority", ""))
    ]


def test_a_ticket_arrives_in_its_queue_and_is_marked(publisher: Publisher) -> None:
    [ticket] = accept(1, priority="high")
    assert dispatch.dispatch(publisher, [ticket]) == 1
    [message] = broker.take("data.high")
    expected = message_of(ticket)
    assert _headers(message) == expected.headers
    assert message.body == expected.body
    assert _shared(message) == _shared(expected)
    row = life.task(ticket.task_id)
    assert row.dispatched_at is not None
    assert row.dispatches == 1


def _headers(message: Any) -> dict[str, Any]:
    """Without the one of RabbitMQ's own."""
    return {name: value for name, value in message.headers.items() if name != "x-delivery-count"}


def _shared(message: Any) -> dict[str, Any]:
    """Properties that a ticket has in common with others."""
    return {
        name: value
        for name, value in message.properties.items()
        if name not in ("message_id", "application_headers", "headers")
    }


def test_tickets_of_many_forms_arrive_as_their_own(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "MOST_FORMS", 2)
    tickets = accept(7)
    tickets = [each._replace(timeout_seconds=each.timeout_seconds + n % 3) for n, each in enumerate(tickets)]
    assert publisher.send(tickets) == tickets
    arrived = broker.take("data.normal", len(tickets))
    assert [_headers(message) for message in arrived] == [message_of(each).headers for each in tickets]
    assert len({message.properties["message_id"] for message in arrived}) == len(tickets), "each is one of its own"


def test_more_tickets_than_a_batch_arrive_all_in_order(publisher: Publisher) -> None:
    tickets = accept(2 * BATCH + 50)
    assert dispatch.dispatch(publisher, tickets) == len(tickets)
    assert queries.undispatched(-1) == []
    arrived = [message.headers["id"] for message in broker.take("data.normal", len(tickets) + 1)]
    assert arrived == [ticket.task_id for ticket in tickets]


def test_tickets_for_several_queues_leave_in_one_write(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = [ticket for priority in ("high", "normal", "low") for ticket in accept(20, priority=priority)]
    publisher.send(tickets[:1] + tickets[20:21] + tickets[-1:])  # opens a channel for each
    transport, written = publisher._connection.connection.transport, list[int]()  # type: ignore[union-attr]
    write = transport._write

    def noted(words: bytes) -> None:
        written.append(len(words))
        write(words)

    monkeypatch.setattr(transport, "_write", noted)
    assert len(publisher.send(tickets)) == 60
    assert len(written) == 1, written


def test_a_ticket_without_a_queue_is_not_marked_and_arrives_later(publisher: Publisher) -> None:
    kept, lost = accept(1, priority="normal") + accept(1, priority="low")
    publisher.send([])
    broker.delete("data.low")
    assert dispatch.dispatch(publisher, [kept, lost]) == 1
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == [lost.task_id]
    assert dispatch.dispatch(publisher, [lost]) == 1, "the queue was declared again"
    assert broker.depth("data.low") == 1


def test_a_broker_that_is_away_is_told_at_once(publisher: Publisher, configured: Callable[..., None]) -> None:
    tickets = accept(3)
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        dispatch.dispatch(publisher, tickets)
    assert time.monotonic() - began < dispatch.CONNECT_SECONDS + 1
    assert queries.undispatched(-1) == tickets


def test_a_wrong_password_is_a_broker_that_is_away(configured: Callable[..., None], servers: Stack) -> None:
    host = servers.environment()["CELERY_BROKER_URL"].rpartition("@")[2]
    configured(CELERY_BROKER_URL=f"amqp://sluice:wrong@{host}")
    with pytest.raises(BrokerUnavailable):
        Publisher().send([])


def test_a_connection_that_died_unnoticed_is_opened_again(publisher: Publisher, servers: Stack) -> None:
    first, second = accept(2)
    dispatch.dispatch(publisher, [first])
    servers.rabbitmqctl("close_all_connections", "a test")
    assert dispatch.dispatch(publisher, [second]) == 1
    assert broker.depth("data.normal") == 2


def test_a_frozen_broker_is_not_waited_for_long(
    publisher: Publisher, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = accept(2)
    assert dispatch.dispatch(publisher, tickets[:1]) == 1
    monkeypatch.setattr(dispatch, "CONFIRM_SECONDS", 1)
    servers.kill("rabbitmq", signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            dispatch.dispatch(publisher, tickets[1:])
        assert time.monotonic() - began < 8
    finally:
        servers.kill("rabbitmq", signal.SIGCONT)
    assert queries.undispatched(-1) == tickets[1:]
    assert eventually(lambda: dispatch.dispatch(publisher, tickets[1:])) == 1
