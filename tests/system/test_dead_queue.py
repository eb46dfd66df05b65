"""RabbitMQ crashes and cannot bring one of its queues back: the others go on at once, and so does that one soon."""

from __future__ import annotations

from cli.stack import Stack
from tests.conftest import Tell
from tests.system import broker
from tests.system.books import Books
from tests.system.patience import until
from tests.system.processes import away
from tests.system.service import Service

LOST, OTHERS = 5, 20


def test_a_queue_that_a_crash_took_comes_back_with_all_its_tasks(
    service: Service, stack: Stack, books: Books, tell: Tell
) -> None:
    quick = {"task_type": "linger_data", "parameters": {"seconds": 0}}
    with away(stack, "data"):
        before = service.post_all([quick | {"priority": "low"}] * LOST)
        until(lambda: books.dispatched(before) == LOST, "the tickets")
        broker.take_by_crash(stack, "data.low")
    low = service.post_all([quick | {"priority": "low"}] * LOST)
    others = service.post_all([quick] * OTHERS)
    books.all_succeeded(others, within=30)
    assert {row.dispatches for row in books.tasks(others)} == {1}, "sent again because of a queue that is not theirs"
    assert books.states(low) == {"queued": LOST}, "the queue was not dead"
    told = service.get(f"/api/tasks/{low[0]}/explain")
    assert told["cause"] == "ticket_not_sent", told

    books.all_succeeded([*before, *low], within=90)
    rows = books.tasks([*before, *low])
    assert {row.attempt for row in rows} == {1}
    waited = max((row.started_at - row.created_at).total_seconds() for row in rows if row.id in low)
    tell(f"the tasks of a queue that RabbitMQ could not bring back began after {waited:.0f} s")
