"""A task that ended is run again, and nothing that an earlier attempt left can do harm then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger import db, dependents, queries, replay, transitions, verify, xa
from ledger.filters import Filter
from ledger.states import FINAL, LIVE, REPLAYABLE, State
from tasks import failure, resolve, revoke
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

FAILED = Filter(states=[State.FAILED])


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    broken = [each for rule in rules() for each in verify.violations(rule)]
    life.clear_up()
    assert broken == []


def rules() -> list[verify.Rule]:
    return verify.rules(db.ledger(), {name: db.data(name) for name in db.data_names()})


def fail(task_id: str, attempt: int = 1, *, kind: str = "ConnectionError") -> str:
    life.claim(task_id, attempt)
    assert transitions.give_up(task_id, attempt, error=failure.silent(kind, "hung up"), remark="gave up")
    return task_id


def again(task_id: str, note: str = "the mail server is back") -> tuple[State, object] | None:
    return replay.replay(task_id, by="a test", note=note)


def test_a_failed_task_is_queued_again_as_if_it_were_new() -> None:
    task_id = life.accept("test_failing")
    for number in (1, 2, 3):
        life.work(task_id, number)
        if number < 3:
            life.release(task_id)
    assert life.state(task_id) is State.FAILED
    before, ticket = again(task_id) or (None, None)
    assert (before, ticket) == (State.FAILED, life.ticket(task_id))
    row = life.task(task_id)
    assert (row.state, row.attempt, row.retries) == ("queued", 3, 0)
    for name in ("finished_at", "error", "dispatched_at", "worker", "lease_until", "due_at", "undone", "participants"):
        assert row._mapping[name] is None, name
    life.work(task_id, 4)
    assert (life.state(task_id), life.task(task_id).retries) == (State.RETRYING, 1)


def test_a_replay_says_who_and_why() -> None:
    task_id = fail(life.accept())
    again(task_id)
    told = queries.history(task_id)[-1]
    assert (told.event, told.state, told.attempt) == ("replayed", "queued", 1)
    assert told.remark == "replayed by a test: the mail server is back"
    assert told.detail == {"by": "a test", "note": "the mail server is back"}


@pytest.mark.parametrize("state", sorted((LIVE | FINAL) - REPLAYABLE))
def test_what_is_not_over_or_succeeded_is_not_replayed(state: State) -> None:
    task_id = life.accept()
    life.work(task_id)
    life.put(task_id, state=state)
    before = life.everything()
    assert again(task_id) == (state, None)
    assert replay.replay_many(Filter(), by="a test").tickets == []
    assert life.everything() == before
    life.put(task_id, state=State.SUCCEEDED)


def test_an_unknown_task_is_not_replayed() -> None:
    assert again("019aa5c0-0000-7000-8000-000000000001") is None


def test_of_many_replays_at_once_one_wins() -> None:
    task_id = fail(life.accept())
    with ThreadPoolExecutor(8) as operators:
        answers = list(operators.map(lambda _: again(task_id), range(8)))
    assert sorted(answer[0] for answer in answers if answer) == ["failed"] + ["queued"] * 7
    assert life.names_of_events(task_id).count("replayed") == 1


def test_a_stopped_task_may_be_replayed_and_stopped_again() -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    revoke.stop(task_id, by="a test")
    again(task_id)
    assert life.task(task_id).undone is None
    assert revoke.stop(task_id, by="a test").verdict == "stopped_before_start"
    again(task_id)
    life.work(task_id)
    assert (life.state(task_id), life.rows()) == (State.SUCCEEDED, 10)


def test_a_ticket_from_before_the_replay_starts_no_second_attempt() -> None:
    task_id = life.accept()
    stale = life.ticket(task_id)
    revoke.stop(task_id, by="a test")
    again(task_id)
    assert life.ticket(task_id) == stale
    life.work(task_id)
    life.work(task_id)
    assert life.names_of_events(task_id).count("claimed") == 1


# --- what an earlier attempt left ----------------------------------------------------------------------------------


def left_prepared(task_id: str) -> None:
    """A branch of attempt 1 with a row, in doubt, whose task has failed."""
    life.claim(task_id)
    transitions.join(task_id, 1, "data")
    branch = xa.Branch(xa.BranchId(task_id, 1, "data"))
    branch.start()
    branch.prepare()
    branch.close()
    eventually(lambda: not life.kill_holder(task_id, "data"))
    transitions.give_up(task_id, 1, error=failure.silent("WorkerLost", "died"), remark="died")


@pytest.mark.parametrize("claimed", [False, True])
def test_a_branch_that_is_still_in_doubt_is_rolled_back_after_the_replay(claimed: bool) -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    left_prepared(task_id)
    again(task_id)
    if claimed:
        life.claim(task_id, 2)
    life.let_pass(10)
    assert resolve.settle_branches() == 1
    assert life.in_doubt() == []
    assert xa.marked_attempt(task_id, "data") is None


def test_the_next_attempt_succeeds_once_the_old_branch_is_gone() -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    left_prepared(task_id)
    again(task_id)
    life.let_pass(10)
    resolve.settle_branches()
    life.work(task_id, 2)
    assert (life.state(task_id), life.rows(), xa.marked_attempt(task_id, "data")) == (State.SUCCEEDED, 10, 2)


@pytest.mark.parametrize("step", ["progress", "prepare"])
def test_an_attempt_that_wakes_after_the_replay_changes_nothing(step: str) -> None:
    task_id = life.accept("bulk_insert", {"rows": 2_000}, max_retries=0)
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        life.rounds_until(lambda: life.state(task_id) is State.FAILED)
        again(task_id)
        life.rounds_until(lambda: xa.is_undone(task_id, "data"))
        life.work(task_id, 2)
        assert life.state(task_id) is State.SUCCEEDED
        before = life.everything()
        os.kill(pid, signal.SIGCONT)
        life.end_of(pid)
    assert life.everything() == before
    assert life.rows() == 2_000


# --- what others must be before it ---------------------------------------------------------------------------------


def test_of_many_a_task_is_replayed_only_after_those_that_it_depends_on() -> None:
    parent = life.accept("test_failing", max_retries=0)
    child = life.accept(depends_on=(parent,))
    life.work(parent)
    dependents.tell(parent)
    assert (life.state(parent), life.state(child)) == (State.FAILED, State.FAILED)
    assert replay.count_replayable(FAILED) == 1
    assert [each.task_id for each in replay.replay_many(FAILED, by="a test").tickets] == [parent]
    life.claim(parent, 2)
    transitions.finish(parent, 2, result=None)
    assert [each.task_id for each in replay.replay_many(FAILED, by="a test").tickets] == [child]
    life.work(child)
    assert life.state(child) is State.SUCCEEDED


# --- many ----------------------------------------------------------------------------------------------------------


def test_many_are_replayed_oldest_first_call_after_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_AT_ONCE", 2)
    task_ids = [fail(life.accept()) for _ in range(3)]
    others = [life.accept(), fail(life.accept(priority="high"))]
    wanted = Filter(states=[State.FAILED], priorities=["normal"])
    assert replay.count_replayable(wanted) == 3
    first = replay.replay_many(wanted, by="a test")
    assert ([each.task_id for each in first.tickets], first.more) == (task_ids[:2], True)
    second = replay.replay_many(wanted, by="a test")
    assert ([each.task_id for each in second.tickets], second.more) == (task_ids[2:], False)
    assert {life.state(each) for each in task_ids} == {State.QUEUED}
    assert [life.state(each) for each in others] == [State.QUEUED, State.FAILED]


def test_two_operators_share_the_tasks_between_them() -> None:
    task_ids = [fail(life.accept()) for _ in range(20)]
    with ThreadPoolExecutor(4) as operators:
        answers = list(operators.map(lambda _: replay.replay_many(FAILED, by="a test"), range(4)))
    assert sorted(each.task_id for answer in answers for each in answer.tickets) == sorted(task_ids)


# --- dealt with ----------------------------------------------------------------------------------------------------


def test_a_resolved_failure_stays_failed_and_says_who_dealt_with_it() -> None:
    task_id = fail(life.accept())
    assert replay.resolve(task_id, by="a test", note="paid by hand") is State.FAILED
    row = life.task(task_id)
    assert (row.state, row.resolved_by, row.resolved_note) == ("failed", "a test", "paid by hand")
    assert row.resolved_at is not None
    assert queries.history(task_id)[-1].remark == "resolved by a test: paid by hand"
    assert replay.count_replayable(Filter(resolved=False)) == 0


def test_a_replay_forgets_that_a_failure_was_dealt_with() -> None:
    task_id = fail(life.accept())
    replay.resolve(task_id, by="a test", note="paid by hand")
    again(task_id)
    assert life.task(task_id).resolved_at is None


@pytest.mark.parametrize("state", sorted(set(State) - {State.FAILED}))
def test_only_a_failure_is_resolved(state: State) -> None:
    task_id = life.accept()
    life.work(task_id)
    life.put(task_id, state=state)
    before = life.everything()
    assert replay.resolve(task_id, by="a test", note="no") is state
    assert life.everything() == before
    life.put(task_id, state=State.SUCCEEDED)


def test_an_unknown_task_is_not_resolved() -> None:
    assert replay.resolve("019aa5c0-0000-7000-8000-000000000001", by="a test", note="no") is None
