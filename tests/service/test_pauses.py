"""A paused queue: nothing of it starts, nothing of it is lost, and the others flow."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import dispatches, pauses, queries, transitions
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.service.hands import Hands, at_work, ticket

hands = pytest.fixture(at_work)


def test_no_claim_wins_in_a_paused_queue() -> None:
    paused, other = life.accept(priority="low"), life.accept()
    pauses.pause(["data.low"], reason=None)
    life.work(paused)
    life.work(other)
    assert (life.state(paused), life.task(paused).attempt) == (State.QUEUED, 0)
    assert life.state(other) is State.SUCCEEDED
    pauses.resume(["data.low"])
    life.work(paused)
    assert life.state(paused) is State.SUCCEEDED


def test_a_ticket_that_was_in_hand_is_sent_again() -> None:
    task_id = life.accept()
    dispatches.mark_dispatched([life.ticket(task_id)])
    pauses.pause(["data.normal"], reason=None)
    life.work(task_id)
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == [task_id]


def test_an_old_ticket_takes_none_from_a_paused_task() -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="leaving")
    dispatches.mark_dispatched([life.ticket(task_id)])
    pauses.pause(["data.normal"], reason=None)
    life.work(task_id, 1)
    assert queries.undispatched(-1) == []


def test_what_runs_goes_on() -> None:
    task_id = life.accept()
    life.claim(task_id)
    pauses.pause(["data.normal"], reason=None)
    assert transitions.renew(task_id, 1, lease_seconds=60)
    assert transitions.finish(task_id, 1)


def test_passing_a_paused_queue_is_no_inversion() -> None:
    better, task_id = life.accept(priority="high"), life.accept(priority="low")
    dispatches.mark_dispatched([life.ticket(better)])
    life.let_pass(1)
    pauses.pause(["data.high"], reason=None)
    assert not life.overtakes(task_id, ["data.high"])
    pauses.resume(["data.high"])
    assert not life.overtakes(task_id, ["data.high"]), "the workers may not have heard yet"
    eventually(lambda: life.overtakes(task_id, ["data.high"]), what="they have heard")


def test_a_pause_is_told_and_taken_back_through_the_door(door: Any) -> None:
    said = door.post("/api/queues/data.low/pause", json={"reason": "the nightly load"})
    assert said.status_code == 200
    [queue] = said.json["items"]
    assert (queue["name"], queue["pause_reason"]) == ("data.low", "the nightly load")
    again = door.post("/api/queues/data.low/pause")
    assert again.json["items"][0]["paused_at"] == queue["paused_at"], "it has been paused since the first time"
    assert again.json["items"][0]["pause_reason"] is None
    assert paused_names(door) == ["data.low"]
    for _ in range(2):
        assert door.post("/api/queues/data.low/resume").status_code == 200
    assert paused_names(door) == []


def paused_names(door: Any) -> list[str]:
    return [queue["name"] for queue in door.get("/api/queues").json["items"] if queue["paused_at"]]


def test_a_kind_of_worker_stands_for_all_of_its_queues(door: Any) -> None:
    door.post("/api/queues/email/pause")
    assert paused_names(door) == ["email.high", "email.normal", "email.low"]
    door.post("/api/queues/email.normal/resume")
    assert paused_names(door) == ["email.high", "email.low"]


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_unknown_queue_is_told_with_what_was_meant(door: Any, verb: str) -> None:
    said = door.post(f"/api/queues/data.lo/{verb}")
    assert said.status_code == 404
    assert "did you mean 'data.low'?" in said.json["detail"]
    assert pauses.paused() == {}


def test_a_pause_takes_a_reason_and_nothing_else(door: Any) -> None:
    said = door.post("/api/queues/data/pause", json={"raison": "no"})
    assert (said.status_code, said.json["errors"][0]["pointer"]) == (422, "#/raison")
    assert pauses.paused() == {}


def test_workers_leave_a_paused_queue_alone_and_take_the_best_of_the_rest(hands: Hands) -> None:
    pauses.pause(["data.high"], reason=None)
    names = [f"{priority}-{number}" for number in range(5) for priority in ("low", "normal", "high")]
    hands.send([ticket(f"sleep:0.01:{name}", name.partition("-")[0]) for name in names])
    hands.start()
    hands.await_("done", times=10)
    assert hands.order() == [f"{priority}-{n}" for priority in ("normal", "low") for n in range(5)]
    assert hands.depth("data.high") == 5
    pauses.resume(["data.high"])
    hands.await_("done", times=15)
    assert hands.order()[10:] == [f"high-{n}" for n in range(5)]


def test_a_worker_at_work_hears_of_a_pause(hands: Hands) -> None:
    hands.send([ticket(f"sleep:0.05:low-{number}", "low") for number in range(1000)])
    hands.start()
    hands.await_("started")
    pauses.pause(["data.low"], reason=None)
    eventually(lambda: _stands_still(hands), every=0, what="a second without a start")
    hands.send([ticket("sleep:0:high", "high")])
    hands.await_("done", "high")
    assert hands.depth("data.low") > 0


def _stands_still(hands: Hands) -> bool:
    """Whether as many have started as a second ago."""
    before = len(hands.recorded("started"))
    try:
        hands.await_("started", times=before + 1, within=1)
    except AssertionError:
        return True
    return False
