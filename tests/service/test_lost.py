"""Tickets that the broker lost are sent again, once; tickets that merely wait are not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from ledger import acceptance, dispatches, leadership, queries
from ledger.leadership import Deposed, Term
from tasks import dispatch, lost
from tasks.dispatch import BrokerUnavailable, Publisher
from tasks.lost import PATIENCE_SECONDS, Scan
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
    acceptance.accept(tasks)
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
    acceptance.accept([life.new() for _ in range(5)])
    dispatch.dispatch(publisher, queries.undispatched(-1))
    broker.purge(QUEUE)
    assert [scan.resend(publisher) for _ in range(3)] == [0, 0, 0]


def test_tickets_that_get_lost_again_and_again_are_sent_ever_more_seldom(publisher: Publisher) -> None:
    [task_id], scan = send(publisher, 1), Scan()
    waits = []
    for _ in range(4):
        waited = 0
        while not scan.resend(publisher):
            broker.purge(QUEUE)
            life.let_pass(PATIENCE_SECONDS)
            waited += 1
        waits.append(waited)
    assert waits == sorted(waits)
    assert waits[-1] >= 6, waits
    assert queries.totals()["redispatched"] == 4
    assert life.task(task_id).dispatches == 5


def test_many_lost_tickets_are_sent_in_rounds_without_a_pause(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost, "MOST_AT_ONCE", 8)
    send(publisher, 20)
    scan = Scan()
    broker.purge(QUEUE)
    assert [scan.resend(publisher) for _ in range(6)] == [0, 8, 8, 4, 0, 0]


def test_who_dies_before_the_broker_has_them_again_has_lost_nothing(
    publisher: Publisher, configured: Callable[..., None]
) -> None:
    task_ids, url = send(publisher, 3), os.environ["CELERY_BROKER_URL"]
    scan = Scan()
    broker.purge(QUEUE)
    scan.resend(publisher)
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    with pytest.raises(BrokerUnavailable):
        scan.resend(publisher)
    up_to = queries.place_in_queue(QUEUE, 3)
    assert up_to is not None
    assert len(dispatches.redispatch(QUEUE, 3, up_to=up_to, patience_seconds=3)) == 3
    configured(CELERY_BROKER_URL=url)
    assert [ticket.task_id for ticket in queries.undispatched(2)] == task_ids
    assert scan.resend(publisher) == 0, "they are no loss any more, they were not sent"


def test_a_monitor_that_leads_no_more_sends_nothing_again(publisher: Publisher) -> None:
    send(publisher, 3)
    scan, before = Scan(), life.everything()
    broker.purge(QUEUE)
    scan.resend(publisher)
    with leadership.acting(Term(0, "nobody")), pytest.raises(Deposed):
        scan.resend(publisher)
    assert life.everything() == before
    assert broker.depth(QUEUE) == 0


def test_a_ticket_in_frozen_hands_is_sent_again_once_for_each(publisher: Publisher) -> None:
    """Whoever holds it may thaw in an hour; a second ticket costs a lost claim."""
    [task_id], scan = send(publisher, 1), Scan()
    with broker.channel() as frozen_worker:
        assert frozen_worker.basic_get(QUEUE) is not None
        assert [scan.resend(publisher) for _ in range(4)] == [0, 1, 0, 0]
        assert broker.depth(QUEUE) == 1
    assert life.task(task_id).dispatches == 2
    assert eventually(lambda: broker.depth(QUEUE) == 2), "it came back when its worker was gone"
    life.let_pass(60)
    assert [scan.resend(publisher) for _ in range(3)] == [0, 0, 0]


def test_tickets_that_are_being_taken_all_the_time_are_not_missing(publisher: Publisher) -> None:
    task_ids, scan = send(publisher, 8), Scan()
    for first, second in zip(task_ids[::2], task_ids[1::2], strict=True):
        broker.take(QUEUE, 2)
        assert scan.resend(publisher) == 0
        life.claim(first)
        life.claim(second)


def test_fresh_tickets_hide_no_loss(publisher: Publisher) -> None:
    task_ids, scan = send(publisher, 2), Scan()
    broker.take(QUEUE, 2)
    acceptance.accept([life.new() for _ in range(5)])
    dispatch.dispatch(publisher, queries.undispatched(-1))
    assert [scan.resend(publisher) for _ in range(3)] == [0, 2, 0]
    assert [life.task(task_id).dispatches for task_id in task_ids] == [2, 2]


def test_tickets_of_running_tasks_hide_no_loss(publisher: Publisher) -> None:
    """They stay with their workers, unacknowledged, until the tasks have ended."""
    task_ids, scan = send(publisher, 4), Scan()
    with broker.channel() as worker:
        for task_id in task_ids[:2]:
            assert worker.basic_get(QUEUE).headers["id"] == task_id
            life.claim(task_id)
        broker.purge(QUEUE)
        assert [scan.resend(publisher) for _ in range(3)] == [0, 2, 0]


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
