"""A task's webhook is told what became of it, at least once and under one id, whatever the receiver does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger import db, deliveries, outbox, replay, transitions
from ledger.states import State
from tasks.webhooks import sending, waits
from tests import life, receiver, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.receiver import Receiver
from tests.service.posting import ENDS, broken, deliver, let_pass, only, seconds_until_due, told

# --- what is told ----------------------------------------------------------------------------------------------------


def test_a_success_is_told_signed_and_once(hook: Receiver, secret: str) -> None:
    task_id = told(hook)
    life.work(task_id)
    assert deliver() == 1
    [got] = hook.got
    read = got.verified(secret)
    assert (read["type"], read["data"]["task_id"], read["data"]["state"]) == ("task.succeeded", task_id, "succeeded")
    assert read["data"]["result"] == {"answer": 42}
    assert (got.path, got.headers["content-type"]) == ("/hook", "application/json")
    assert (only(task_id).row.outcome, deliver(), len(hook.got)) == ("delivered", 0, 1)
    assert broken() == []


def failed(hook: Receiver) -> str:
    task_id = told(hook, "test_hopeless")
    life.work(task_id)
    return task_id


def stopped(hook: Receiver) -> str:
    task_id = told(hook)
    transitions.stop(task_id, remark="by a test")
    return task_id


def rolled_back(hook: Receiver) -> str:
    task_id = told(hook, "bulk_insert")
    life.claim(task_id)
    transitions.stop(task_id, remark="by a test")
    transitions.rolled_back(task_id, 1, undone={"rows_undone": 3, "rows_remaining": 0})
    return task_id


def expired(hook: Receiver) -> str:
    task_id = told(hook, expires_in_seconds=0.000001)
    eventually(transitions.expire)
    return task_id


def doomed(hook: Receiver) -> str:
    parent = life.accept("test_hopeless")
    life.work(parent)
    return told(hook, depends_on=(parent,))


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (failed, "task.failed"),
        (stopped, "task.revoked"),
        (rolled_back, "task.revoked"),
        (expired, "task.expired"),
        (doomed, "task.failed"),
    ],
)
def test_every_kind_of_end_is_told(end: Callable[[Receiver], str], kind: str, hook: Receiver, secret: str) -> None:
    task_id = end(hook)
    deliver()
    [got] = hook.got
    read = got.verified(secret)
    assert (read["type"], read["data"]["task_id"]) == (kind, task_id)
    assert (read["data"]["error"] is not None) == (kind == "task.failed")
    assert (read["data"]["undone"] is not None) == (end is rolled_back)
    assert broken() == []


def test_beginnings_and_retries_are_told_to_whom_wants_to_know(hook: Receiver) -> None:
    task_id = told(hook, "test_failing", ["task.running", "task.retrying", "task.failed"], max_retries=1)
    life.work(task_id)
    life.release(task_id)
    life.work(task_id, 2)
    assert deliver() == 4
    kinds = [json.loads(each.body)["type"] for each in hook.got]
    assert sorted(kinds) == ["task.failed", "task.retrying", "task.running", "task.running"]
    assert broken() == []


def test_what_nobody_wants_to_know_is_not_told(hook: Receiver) -> None:
    life.work(told(hook, events=["task.failed"]))
    life.work(life.accept())
    assert (deliver(), hook.got, broken()) == (0, [], [])


def test_a_replayed_task_tells_of_its_second_end_under_another_id(hook: Receiver) -> None:
    task_id = failed(hook)
    replay.replay(task_id, by="a test")
    life.work(task_id, 2)
    assert deliver() == 2
    assert len(set(hook.ids)) == 2
    assert broken() == []


def test_a_move_that_is_rolled_back_tells_nothing(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = told(hook)
    life.claim(task_id)

    def put_and_fail(*arguments: Any) -> None:
        put(*arguments)
        raise db.Unavailable("a test has cut the line")

    put = outbox.put
    with monkeypatch.context() as cut:
        cut.setattr(outbox, "put", put_and_fail)
        with pytest.raises(db.Unavailable):
            transitions.finish(task_id, 1, result=1)
    assert (deliver(), deliveries.of_task(task_id), life.state(task_id)) == (0, [], State.RUNNING)


# --- what the receiver does ------------------------------------------------------------------------------------------


def test_a_receiver_that_fails_is_tried_again_under_the_same_id(hook: Receiver) -> None:
    hook.replies = [500, 503]
    task_id = told(hook)
    life.work(task_id)
    for failures in (1, 2):
        deliver()
        least = waits.WAITS[failures - 1]
        assert least - 1 < seconds_until_due(task_id) <= least * 1.2
        let_pass(least * 1.2)
    deliver()
    assert len(set(hook.ids)) == 1
    assert len({each.body for each in hook.got}) == 1
    one = only(task_id)
    assert (one.row.outcome, [each.status for each in one.tries]) == ("delivered", [500, 503, 204])


def test_after_the_last_try_it_is_given_up_and_said_so(hook: Receiver) -> None:
    hook.usual = 500
    task_id = told(hook)
    life.work(task_id)
    for _ in range(outbox.MOST_TRIES):
        assert deliver() == 1
        let_pass(100_000)
    assert (deliver(), len(hook.got), only(task_id).row.outcome) == (0, outbox.MOST_TRIES, "given_up")
    assert "could not be told of event" in life.remarks(task_id)
    assert broken() == []


def test_a_receiver_that_asks_for_time_gets_it(hook: Receiver) -> None:
    hook.usual = receiver.answer(503, Retry_After="120")
    task_id = told(hook)
    life.work(task_id)
    deliver()
    assert 119 < seconds_until_due(task_id) <= 144


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (receiver.hang, "no whole answer within 0.6 seconds"),
        (receiver.drip, "no whole answer within 0.6 seconds"),
        (lambda to: receiver.headers_without_end, "too long headers"),
        (lambda to: receiver.nonsense, "no HTTP"),
        (lambda to: receiver.silence, "hung up without an answer"),
    ],
)
def test_a_receiver_that_does_not_answer_costs_a_bounded_time(
    act: Callable[[Receiver], receiver.Act], said: str, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TRY_SECONDS", 0.6)
    hook.usual = act(hook)
    task_id = told(hook)
    life.work(task_id)
    deliver()
    [tried] = only(task_id).tries
    assert said in tried.error
    assert (tried.status, tried.milliseconds < 5_000) == (None, True)


def test_an_answer_without_an_end_is_not_read(hook: Receiver) -> None:
    hook.usual = receiver.pour
    task_id = told(hook)
    life.work(task_id)
    deliver()
    assert only(task_id).row.outcome == "delivered"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_not_followed(status: int, hook: Receiver) -> None:
    with receiver.receiving() as elsewhere:
        hook.usual = receiver.answer(status, Location=elsewhere.url)
        task_id = told(hook)
        life.work(task_id)
        deliver()
        assert [each.status for each in only(task_id).tries] == [status]
        assert (only(task_id).row.outcome, elsewhere.got, len(hook.got)) == (None, [], 1)


def test_nobody_there_is_a_failure(hook: Receiver) -> None:
    task_id = life.accept(webhook={"url": "http://127.0.0.1:1/", "events": ENDS})
    life.work(task_id)
    deliver()
    assert [each.error for each in only(task_id).tries] == ["it refuses connections"]


def test_a_receiver_that_is_gone_is_told_nothing_any_more(hook: Receiver) -> None:
    hook.usual = 410
    first, second = told(hook), told(hook)
    for each in (first, second):
        life.work(each)
    deliver()
    assert [only(each).row.outcome for each in (first, second)] == ["gone", "gone"]
    assert len(hook.got) == 1, "the second is not even sent"
    with pytest.raises(deliveries.Gone):
        told(hook)


def test_what_arrives_by_hand_makes_a_receiver_that_was_gone_known_again(hook: Receiver) -> None:
    hook.replies = [410]
    first, second = told(hook), told(hook)
    life.work(first)
    deliver()
    assert deliveries.again(first, only(first).row.seq, by="a test") is deliveries.Again.DUE
    deliver()
    life.work(second)
    deliver()
    assert [only(each).row.outcome for each in (first, second)] == ["delivered", "delivered"]
    assert len(hook.got) == 3
