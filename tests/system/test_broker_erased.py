"""All that RabbitMQ and Redis hold is erased again and again under a working service, which goes on from its ledger."""

from __future__ import annotations

import random
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import redis

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import broker, effects, soak
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.service import CLIENTS, Service


def test_every_result_is_there_though_broker_and_copies_are_erased(
    service: Service,
    stack: Stack,
    books: Books,
    scale: Scale,
    chance: random.Random,
    tell: Tell,
) -> None:
    number, losses, lost = scale.of(300, 5_000), (broker.purge, broker.delete, broker.wipe), 0
    soak.upload(service)
    task_ids: list[str] = []
    for loss in losses:
        task_ids += service.post_all(soak.bodies(number // len(losses), chance))
        until(lambda: not books.without_ticket(), "a ticket for each task", within=60)
        loss(stack)
        flush(stack)
        waiting = books.states(task_ids)["queued"]
        assert waiting, f"nothing was left to be lost by {loss.__name__}"
        lost += waiting
    books.all_succeeded(task_ids, within=scale.of(90, 600))

    flush(stack)
    different = results_that_differ(service, books, task_ids)
    assert not different, f"{len(different)} results are not what the ledger holds, such as {different[:3]}"
    resent = books.total("redispatched")
    tell(f"{len(task_ids)} tasks, {lost} tickets erased, {resent} sent again")
    assert 0 < resent <= lost, f"{resent} tickets were sent again for {lost} that were lost"
    assert {row.attempt for row in books.tasks(task_ids)} == {1}
    books.at_rest()
    effects.are_right(stack, books)


def flush(stack: Stack) -> None:
    with redis.Redis.from_url(stack.environment()["CELERY_RESULT_BACKEND"]) as client:
        client.flushall()


def results_that_differ(service: Service, books: Books, task_ids: Collection[str]) -> list[str]:
    """Every result as a client reads it, beside the ledger's."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        read = dict(
            zip(task_ids, clients.map(lambda each: service.task(each)["result"], task_ids), strict=True)
        )
    return [row.id for row in books.tasks(task_ids) if row.result is None or read[row.id] != row.result]
