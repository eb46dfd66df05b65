"""What a worker's parent makes of many short tickets: packs for one child, each ticket of them still one of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from cli.stack import Stack
from ledger.packs import FIRST
from ledger.tickets import Ticket
from tasks import pack
from tests.conftest import eventually
from tests.service.hands import GRACE_SECONDS, Hands, at_work, ticket
from workers.packs import FEWEST, MOST, PART, REST_SECONDS, SECONDS, Packs, Sizes

NUMBER = 200


@pytest.fixture(name="hands")
def _hands(servers: Stack, tmp_path: Path) -> Iterator[Hands]:
    for hands in at_work(servers, tmp_path):
        hands.environment["PACKS"] = "1"
        yield hands


def short(number: int, priority: str = "normal", verb: str = "sleep:0") -> list[Ticket]:
    return [ticket(f"{verb}:{priority}-{each}", priority) for each in range(number)]


def alone(name: str) -> Ticket:
    """Of a type that is not short."""
    return ticket(f"sleep:0:{name}")._replace(task_type="bulk_insert")


def packs(hands: Hands) -> list[list[str]]:
    return [line["tickets"] for line in hands.recorded("pack")]


def names(tickets: Sequence[Ticket]) -> list[str]:
    return [each.task_id.split(":")[2] for each in tickets]


def gone(hands: Hands, *queues: str) -> bool:
    return not any(hands.depth(queue) for queue in queues or ("data.normal",))


# --- how many --------------------------------------------------------------------------------------------------------


def test_a_pack_is_as_big_as_the_last_one_was_quick() -> None:
    sizes = Sizes()
    for _ in range(8):
        sizes.learn("data.low", sizes.of("data.low", 10_000), SECONDS / 100)
    assert sizes.of("data.low", 10_000) == MOST
    sizes.learn("data.low", MOST, 4 * SECONDS)
    assert sizes.of("data.low", 10_000) == MOST // 4


def test_a_pack_leaves_most_of_a_queue_to_others() -> None:
    assert Sizes().of("data.low", FEWEST * PART) == FEWEST
    assert Sizes().of("data.low", FEWEST * PART - 1) == 1


def test_what_is_not_short_after_all_goes_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("workers.packs.time.monotonic", lambda: now[0])
    sizes = Sizes()
    sizes.learn("data.low", FEWEST, 2 * SECONDS)
    assert (sizes.of("data.low", 10_000), sizes.of("data.high", 10_000)) == (1, 2 * FEWEST)
    now[0] += REST_SECONDS
    assert sizes.of("data.low", 10_000) == FEWEST


def test_each_ticket_of_a_pack_is_counted_until_it_is_over() -> None:
    calls: list[dict[str, Any]] = []
    pool = SimpleNamespace(apply_async=lambda run, **told: calls.append(told))
    packs = Packs(SimpleNamespace(pool=pool, hostname="data@x"))
    for over in ("callback", "error_callback"):
        with packs.gather("data.low"):
            assert packs.takes(request())
            assert packs.takes(request())
            assert not packs.takes(request(attempt=2)), "it goes alone"
        assert packs.tickets == 1
        calls.pop()[over]((["succeeded", pack.UNASKED], 0.001))
        assert packs.tickets == 0
    assert not packs.takes(request()), "nothing is gathered"


def request(attempt: int = FIRST) -> Mock:
    made = Mock(id="1", attempt=attempt, time_limits=(615, None), delivery_info={"routing_key": "data.low"})
    made.name = "test_quick"
    return made


# --- in a worker -----------------------------------------------------------------------------------------------------


def test_many_short_tickets_are_done_in_packs_and_in_their_order(hands: Hands) -> None:
    tickets = short(NUMBER)
    hands.send(tickets)
    hands.start()
    hands.await_("done", times=NUMBER)
    assert hands.order() == names(tickets)
    assert max(map(len, packs(hands))) > FEWEST
    assert len(packs(hands)) < NUMBER / FEWEST
    eventually(lambda: gone(hands))


def test_packs_are_claimed_in_their_order_though_two_children_take_them(hands: Hands) -> None:
    tickets = short(NUMBER, verb="claim:0.1")[:40] + short(NUMBER)[40:]
    hands.send(tickets)
    hands.start(concurrency=2)
    hands.await_("done", times=NUMBER)
    claimed = [task_id for pack in packs(hands) for task_id in pack]
    assert claimed == [each.task_id for each in tickets if each.task_id in claimed]


def test_a_frozen_child_holds_the_others_up_for_a_moment(hands: Hands) -> None:
    hands.send([ticket("claim:60:frozen"), *short(NUMBER)])
    hands.start(concurrency=2)
    hands.await_("done", times=NUMBER // 2)


def test_a_better_ticket_goes_before_the_next_pack(hands: Hands) -> None:
    hands.send(short(2_000, "low", "sleep:0.001"))
    hands.start()
    hands.await_("done", "low", times=100)
    before = len(hands.recorded("started", "low"))
    hands.send([ticket("sleep:0:urgent", "high")])
    hands.await_("started", "urgent")
    # One pack may be in hand while it is on its way, and the next may have been taken just before it came.
    assert hands.order().index("urgent") <= before + 2 * MOST


def test_a_ticket_that_goes_alone_keeps_its_place(hands: Hands) -> None:
    tickets = short(NUMBER)
    tickets[50], tickets[51], tickets[120] = alone("one"), alone("two"), alone("three")
    hands.send(tickets)
    hands.start()
    hands.await_("done", times=NUMBER)
    assert hands.order() == names(tickets)
    assert not [each for each in packs(hands) if {"sleep:0:one", "sleep:0:two", "sleep:0:three"} & set(each)]


def test_a_ticket_for_which_a_pack_had_no_time_comes_back(hands: Hands) -> None:
    tickets = short(40, verb="unasked:0")
    hands.send(tickets)
    hands.start()
    hands.await_("done", times=40)
    eventually(lambda: gone(hands))


def test_the_tickets_of_a_pack_whose_child_died_are_told_one_by_one(hands: Hands) -> None:
    tickets = short(40)
    tickets[1] = ticket("sleep:60:deadly")
    hands.send(tickets)
    hands.start()
    [deadly] = hands.await_("started", "deadly")
    [shared] = [each for each in packs(hands) if "sleep:60:deadly" in each]
    os.kill(deadly["pid"], signal.SIGKILL)
    hands.await_("lost", times=len(shared))
    assert sorted(line["task"] for line in hands.recorded("lost")) == sorted(shared)
    hands.await_("done", times=39)
    eventually(lambda: gone(hands))


def test_a_pack_that_is_over_first_leaves_the_tickets_of_the_others_alone(hands: Hands) -> None:
    tickets = short(80)
    tickets[1] = ticket("sleep:60:long")
    hands.send(tickets)
    worker = hands.start(concurrency=2)
    hands.await_("started", "long")
    [shared] = [each for each in packs(hands) if "sleep:60:long" in each]
    behind = len(shared) - 1 - shared.index("sleep:60:long")
    hands.await_("done", times=79 - behind)
    worker.kill()
    eventually(lambda: hands.depth("data.normal") == len(shared), what="only its tickets, all of them")


def test_a_leaving_worker_gives_back_what_its_pack_has_not_begun(hands: Hands) -> None:
    tickets = short(40)
    tickets[1] = ticket("sleep:60:long")
    hands.send(tickets)
    worker = hands.start()
    hands.await_("started", "long")
    worker.terminate()
    assert worker.wait(GRACE_SECONDS + 5) == 0
    done = len(hands.order("done"))
    assert hands.order("cut short") == ["long"]
    # Those before it were done, but their child could not say so any more: their tickets come back as well.
    eventually(lambda: hands.depth("data.normal") == 40, what=f"all tickets again, {done} of them of done tasks")


def test_a_missing_queue_does_not_end_a_worker_that_packs(hands: Hands) -> None:
    hands.start()
    with hands.channel() as channel:
        channel.queue_delete("data.normal")
    hands.send(short(40))
    hands.await_("done", times=40)
