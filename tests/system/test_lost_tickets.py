"""RabbitMQ loses what it holds: every task is done all the same. It merely has much to do: nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import celery_config
from cli.stack import Stack
from tests.conftest import Tell
from tests.system import broker
from tests.system.books import Books
from tests.system.conftest import Scale, long_only
from tests.system.patience import until
from tests.system.processes import away
from tests.system.service import Service


@pytest.mark.parametrize("lose", [long_only(each) for each in (broker.purge, broker.delete, broker.wipe)])
def test_every_task_ends_though_rabbitmq_lost_its_tickets(
    lose: Callable[[Stack], None], service: Service, stack: Stack, books: Books, scale: Scale
) -> None:
    number = scale.of(150, 300)
    with away(stack, *celery_config.WORKERS):
        task_ids = service.post_all(queued(number))
        until(lambda: books.dispatched(task_ids) == number, f"{number} tickets", within=30)
        lose(stack)
    books.all_succeeded(task_ids, within=90)

    resent = books.total("redispatched")
    assert 0 < resent <= number, f"{resent} tickets were sent again for {number} that were lost"
    assert {row.attempt for row in books.tasks(task_ids)} == {1}
    assert service.metric("sluice_redispatched_total") == resent


def test_only_what_was_lost_is_sent_again(service: Service, stack: Stack, books: Books) -> None:
    with away(stack, "data"):
        lost = service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 10}}] * 30)
        until(lambda: books.dispatched(lost) == len(lost), "the tickets")
        stack.rabbitmqctl("purge_queue", "--vhost", "sluice", "data.normal")
        kept = service.post_all([{"task_type": "bulk_insert", "parameters": {"rows": 10}}] * 30)
        until(lambda: books.total("redispatched"), "the tickets sent again", within=30)
    books.all_succeeded(lost + kept, within=60)
    assert books.total("redispatched") == len(lost)


def test_nothing_is_sent_again_while_a_backlog_merely_waits(
    service: Service, stack: Stack, books: Books, scale: Scale, tell: Tell
) -> None:
    """Counted by the ledger and by RabbitMQ. One message in a hundred would be allowed, and none is needed."""
    number, looks, seconds = scale.of(300, 20_000), celery_config.PRIORITIES[: scale.of(1, 2)], scale.of(0, 60)
    with away(stack, "data", "email"):
        waiting = post_quickly(service, number)
        until(lambda: not books.without_ticket(), f"{number} tickets", within=scale.of(30, 300))
        for priority in looks:
            the_monitor_finds_a_loss_elsewhere(service, stack, books, priority)
        until(lambda: seconds_waited(service, "data.normal") >= seconds, f"{seconds} s", within=120, every=1)
        held = broker.ready(stack, "data.normal")
    books.all_succeeded(waiting, within=scale.of(90, 900))
    sent = books.sent(waiting)
    tell(f"{number} tasks waited, RabbitMQ held {held} tickets, {sent} were sent in all")
    assert (held, sent) == (number, number)
    assert books.total("redispatched") == len(looks), "of the losses elsewhere"
    assert service.metric("sluice_redispatched_total") == len(looks)


def post_quickly(service: Service, number: int) -> list[str]:
    """A thousand at a time."""
    body = {"task_type": "linger_data", "parameters": {"seconds": 0}}
    task_ids: list[str] = []
    while len(task_ids) < number:
        answer = service.ask("POST", "/api/tasks/batch", json={"tasks": [body] * min(1_000, number - len(task_ids))})
        assert answer.status_code == 202, answer.text
        task_ids += answer.json()["task_ids"]
    return task_ids


def seconds_waited(service: Service, queue: str) -> float:
    """By its oldest task."""
    [found] = [each for each in service.get("/api/queues")["items"] if each["name"] == queue]
    return float(found["oldest_seconds"] or 0)


def the_monitor_finds_a_loss_elsewhere(service: Service, stack: Stack, books: Books, priority: str) -> None:
    """Then it has gone over all queues at least twice, some ten seconds after the loss."""
    lost = service.post("linger_email", {"seconds": 0}, priority=priority)
    until(lambda: books.dispatched([lost]), "the ticket")
    stack.rabbitmqctl("purge_queue", "--vhost", "sluice", celery_config.queue_name("email", priority))
    until(lambda: books.task(lost).dispatches == 2, f"{lost} is sent again", within=40)


def queued(number: int) -> list[dict[str, Any]]:
    """Tasks spread evenly over the nine queues."""
    real = {
        "data": ("bulk_insert", {"rows": 10}),
        "email": ("email_sending", {"to": "recipient@example.com"}),
        "file": ("file_processing", {"filename": "your_file.txt"}),
    }
    bodies = []
    for place in range(number):
        worker, _, priority = broker.QUEUES[place % len(broker.QUEUES)].partition(".")
        task_type, parameters = real[worker]
        bodies.append({"task_type": task_type, "parameters": parameters, "priority": priority})
    return bodies
