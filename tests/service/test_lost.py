"""Tickets that the broker lost are sent again, once; tickets that merely wait are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ledger import queries, transitions
from tasks import dispatch
from tasks.dispatch import BrokerUnavailable, Publisher
from tasks.lost import Scan
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

QUEUE = "data.normal"


@pytest.fixture
def publisher(servers: object) -> Iterator[Publisher]:
    broker.declare_empty()
    publisher = Publisher()
    yield publisher
    publisher.close()


def send(publisher: Publisher, number: int) -> list[str]:
    """So many tasks whose tickets the broker has had for a while."""
    tasks = [life.new() for _ in range(number)]
    transitions.accept(tasks)
    dispatch.dispatch(publisher, queries.undispatched(-1, limit=1_000))
    life.let_pass(60)
    eventually(lambda: broker.depth(QUEUE) == number)
    return [task.task_id for task in tasks]


def test_a_purged_queue_is_filled_again_once(publisher: Publisher) -> None:
    task_ids, scan = send(publisher, 20), Scan()
    broker.purge(QUEUE)
    assert [scan.resend(publisher) for _ in range(4)] == [0, 20, 0, 0]
    life.let_pass(60)
    assert [scan.resend(publisher) for _ in range(3)] == [0, 0, 0]
    assert {message.headers["id"] for message in broker.take(QUEUE, 100)} == set(task_ids)
    assert queries.totals()["redispatched"] == 20
    assert f"its ticket was lost from {QUEUE} and sent again" in life.remarks(task_ids[0])


def test_a_long_backlog_is_not_a_loss(publisher: Publisher) -> None:
    send(publisher, 300)
    scan = Scan()
    for _ in range(5):
        life.let_pass(3_600)
        assert scan.resend(publisher) == 0
    assert broker.depth(QUEUE) == 300


def test_just_as_many_are_sent_as_are_missing(publisher: Publisher) -> None:
    send(publisher, 10)
    scan = Scan()
    broker.take(QUEUE, 4)
    assert [scan.resend(publisher) for _ in range(3)] == [0, 4, 0]
    assert broker.depth(QUEUE) == 10


def test_the_smaller_of_two_scans_counts(publisher: Publisher) -> None:
    task_ids, scan = send(publisher, 10), Scan()
    broker.take(QUEUE, 6)
    assert scan.resend(publisher) == 0
    for task_id in task_ids[:4]:
        life.claim(task_id)
    assert scan.resend(publisher) == 2


def test_a_ticket_that_was_in_somebodys_hands_is_not_missing(publisher: Publisher) -> None:
    task_ids, scan = send(publisher, 3), Scan()
    broker.take(QUEUE, 3)
    assert scan.resend(publisher) == 0
    for task_id in task_ids:
        life.claim(task_id)
    assert scan.resend(publisher) == 0


def test_fresh_tickets_are_not_compared(publisher: Publisher) -> None:
    scan = Scan()
    transitions.accept([life.new() for _ in range(5)])
    dispatch.dispatch(publisher, queries.undispatched(-1))
    broker.purge(QUEUE)
    assert [scan.resend(publisher) for _ in range(3)] == [0, 0, 0]


def test_a_deleted_queue_has_lost_its_tickets(publisher: Publisher) -> None:
    send(publisher, 5)
    scan = Scan()
    broker.delete(QUEUE)
    assert scan.resend(publisher) == 0
    publisher.close()
    assert scan.resend(publisher) == 5
    assert broker.depth(QUEUE) == 5


def test_without_the_broker_nothing_counts_as_lost(
    publisher: Publisher, configured: Callable[..., None]
) -> None:
    send(publisher, 2)
    scan, before = Scan(), life.everything()
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    for _ in range(2):
        with pytest.raises(BrokerUnavailable):
            scan.resend(publisher)
    assert life.everything() == before
