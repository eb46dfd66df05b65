"""The most urgent task is the next to start, in whatever worker of its kind has a hand free."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Row

from cli.stack import Stack
from tests.conftest import Tell
from tests.system.books import Books
from tests.system.conftest import SECOND_DATA_WORKER, Scale
from tests.system.patience import until
from tests.system.processes import away, present
from tests.system.service import Service

#: Tasks that the children of one data worker have in hand.
IN_HAND = 2
TINY: dict[str, Any] = {"task_type": "data_processing", "parameters": {"data": [1, 2, 3]}}


def test_a_high_task_starts_next_in_a_backlog_of_low_ones(
    service: Service, stack: Stack, books: Books, scale: Scale, tell: Tell
) -> None:
    highs = []
    with away(stack, "data"):
        lows = service.post_all([{**TINY, "priority": "low"}] * scale.of(1000, 2000))
        until(lambda: books.dispatched(lows) == len(lows), f"{len(lows)} tickets", within=60)
    for step in range(1, scale.of(3, 10) + 1):
        until(partial(has_begun, books, lows, step * 100), f"{step * 100} lows are done", within=60)
        highs.append(service.post(**TINY, priority="high"))
        service.succeeded(highs[-1])
    assert books.states(lows)["queued"] > 0, f"the backlog was gone before: {books.states(lows)}"

    overtaken = [lows_started_before(books, high, lows) for high in highs]
    waited = [waited_seconds(row) for row in books.tasks(highs)]
    tell(f"highs waited {[f'{1000 * each:.0f} ms' for each in waited]} behind {overtaken} lows")
    assert max(overtaken) <= IN_HAND, f"lows that started before a high that was ready: {overtaken}"
    books.all_succeeded(lows, within=120)
    assert service.metric("sluice_inversions_total") == 0
    assert {row.dispatches for row in books.tasks(lows)} == {1}, "some tickets were sent more than once"


def has_begun(books: Books, lows: list[str], number: int) -> bool:
    return books.states(lows)["succeeded"] >= number


def lows_started_before(books: Books, high: str, lows: list[str]) -> int:
    """How many low tasks started between the broker's word that it has the high ticket and the start of its task."""
    row = books.task(high)
    claims = books.events("claimed", lows)
    return sum(ready_at(row) < claim.at < row.started_at for claim in claims)


def ready_at(row: Row[Any]) -> datetime:
    """When the broker had said that it has the ticket. A worker may be quicker than the note of it, which is then not
    taken any more."""
    ready: datetime = row.dispatched_at or row.started_at
    return ready


def waited_seconds(row: Row[Any]) -> float:
    return float((row.started_at - ready_at(row)).total_seconds())


def test_tasks_of_one_priority_start_in_the_order_of_their_coming(
    service: Service, stack: Stack, books: Books
) -> None:
    came = []
    with away(stack, "data"):
        for number in range(40):
            came.append(service.post("data_processing", {"data": [number]}))
            # The two processes of the door send side by side; one at a time, their order is ours.
            until(lambda: books.dispatched(came) == len(came), "the ticket")
    books.all_succeeded(came, within=60)

    # Two children take tickets in order and claim side by side: whoever starts may have passed what the other has in
    # hand, and nothing else.
    order = books.started(came)
    passed = [set(came[: came.index(task_id)]) - set(order[:place]) for place, task_id in enumerate(order)]
    assert max(map(len, passed)) < IN_HAND, f"passed {passed}"


@pytest.mark.parametrize("kind", ["email", "file"])
def test_the_other_kinds_start_the_urgent_first_too(
    service: Service, stack: Stack, books: Books, kind: str
) -> None:
    with away(stack, kind):
        posted = {
            priority: service.post_all(
                [{"task_type": f"linger_{kind}", "parameters": {"seconds": 0.05}, "priority": priority}] * 6
            )
            for priority in ("low", "normal", "high")
        }
        all_of_them = [task_id for group in posted.values() for task_id in group]
        until(lambda: books.dispatched(all_of_them) == len(all_of_them), "the tickets")
    books.all_succeeded(all_of_them, within=30)

    order = books.started(all_of_them)
    for place, group in ((0, posted["high"]), (6, posted["normal"]), (12, posted["low"])):
        strangers = set(order[place : place + 6]) - set(group)
        # The two children claim side by side: at a border one may overtake another.
        assert len(strangers) < IN_HAND, f"{kind}: {len(strangers)} of others among those from {place}"
    assert service.metric("sluice_inversions_total") == 0


def test_no_high_task_waits_for_a_busy_worker_while_another_is_free(
    service: Service, stack: Stack, books: Books, scale: Scale, tell: Tell
) -> None:
    busy = [service.post("linger_data", {"seconds": 60}, priority="low") for _ in range(IN_HAND)]
    for task_id in busy:
        service.running(task_id)
    with present(stack, SECOND_DATA_WORKER):
        warm_up(service, books)
        highs = service.post_all([{**TINY, "priority": "high"}] * 6)
        books.all_succeeded(highs, within=7)
        rows = books.tasks(highs)
        assert books.states(busy) == {"running": IN_HAND}, "the busy worker was free before the highs had ended"
    waited = [waited_seconds(row) for row in rows]
    tell(f"six highs waited {', '.join(f'{1000 * each:.0f}' for each in sorted(waited))} ms")
    # On a machine with other things to do, a fraction of the time for which the busy one works is proof enough.
    assert max(waited) < (0.2 if scale.is_long else 1), waited
    for task_id in busy:
        service.stop(task_id)
        assert service.ended(task_id)["state"] == "revoked"


def warm_up(service: Service, books: Books) -> None:
    """The free worker is there when it has done its first task."""
    first = service.post("data_processing", {"data": [1]})
    assert SECOND_DATA_WORKER in service.succeeded(first)["worker"]
