"""Stops: each verdict, and that what it says is what the table shows, also when the attempt cannot answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from ledger import db, queries, replay, transitions, xa
from ledger.states import State
from tasks import resolve, revoke
from tasks.revoke import UnknownTask, Verdict
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually

MANY = 200_000


@pytest.fixture(autouse=True)
def _brisk(configured: Callable[..., None]) -> Iterator[None]:
    configured(SLUICE_STOP_GRACE_SECONDS=0.2)
    yield
    life.clear_up()


def stop(task_id: str, wait_seconds: float = 5) -> revoke.Stop:
    return revoke.stop(task_id, by="a test", wait_seconds=wait_seconds)


@pytest.mark.parametrize(
    ("state", "verdict", "after"),
    [
        (State.SCHEDULED, Verdict.STOPPED_BEFORE_START, State.REVOKED),
        (State.QUEUED, Verdict.STOPPED_BEFORE_START, State.REVOKED),
        (State.RETRYING, Verdict.STOPPED_BEFORE_START, State.REVOKED),
        (State.RUNNING, Verdict.ROLLED_BACK, State.REVOKED),
        (State.REVOKING, Verdict.ROLLED_BACK, State.REVOKED),
        (State.COMMITTING, Verdict.TOO_LATE_COMMITTED, State.COMMITTING),
        (State.SUCCEEDED, Verdict.ALREADY_FINISHED, State.SUCCEEDED),
        (State.FAILED, Verdict.ALREADY_FINISHED, State.FAILED),
        (State.REVOKED, Verdict.ALREADY_FINISHED, State.REVOKED),
    ],
)
@pytest.mark.parametrize("task_type", ["bulk_insert", "test_quick"])
def test_each_state_has_its_verdict(state: State, verdict: Verdict, after: State, task_type: str) -> None:
    task_id = life.accept(task_type)
    life.put(task_id, state=state, attempt=1)
    answer = stop(task_id, wait_seconds=1)
    assert (answer.verdict, answer.state, life.state(task_id)) == (verdict, after, after)
    assert answer.took_effect == (verdict in (Verdict.STOPPED_BEFORE_START, Verdict.ROLLED_BACK))
    if task_type == "bulk_insert" and answer.took_effect:
        assert (answer.rows_undone, answer.rows_remaining) == (0, 0)
    else:
        assert (answer.rows_undone, answer.rows_remaining) == (None, None)


def test_a_stop_before_the_start_counts_also_when_the_ledger_dies_right_after(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(task_id: str) -> None:
        raise db.Unavailable("not there")

    monkeypatch.setattr(queries, "task", away)
    stop = revoke.stop(life.accept("bulk_insert"), by="a test")
    assert (stop.verdict, stop.rows_undone, stop.rows_remaining) == (Verdict.STOPPED_BEFORE_START, 0, 0)


def test_an_unknown_task_cannot_be_stopped() -> None:
    with pytest.raises(UnknownTask):
        stop("019aa5c0-0000-7000-8000-000000000001")


def test_a_stopped_task_is_never_claimed() -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    assert stop(task_id).verdict is Verdict.STOPPED_BEFORE_START
    before = life.everything()
    life.work(task_id)
    assert life.everything() == before


@pytest.mark.parametrize("progress", [0, 1_000, 20_000, 60_000])
def test_stopping_a_running_insert_leaves_no_row_behind(progress: int) -> None:
    task_id = life.accept("bulk_insert", {"rows": MANY})
    with life.child(life.worker_child(task_id)) as pid:
        eventually(
            lambda: (
                life.state(task_id) is State.RUNNING and (life.task(task_id).progress_done or 0) >= progress
            )
        )
        began = time.monotonic()
        answer = stop(task_id)
        assert time.monotonic() - began < 2
        assert life.end_of(pid) == 0
    assert (answer.verdict, answer.state, answer.rows_remaining) == (Verdict.ROLLED_BACK, State.REVOKED, 0)
    assert answer.rows_undone is not None
    assert progress <= answer.rows_undone < MANY
    assert (life.rows(), life.in_doubt()) == (0, [])


def race(rows: int) -> Verdict:
    """Stop an insert as soon as it has begun; the verdict, which rows and state must bear out."""
    task_id = life.accept("bulk_insert", {"rows": rows})
    with life.child(life.worker_child(task_id)) as pid:
        eventually(lambda: life.state(task_id) is not State.QUEUED, every=0.001)
        verdict = stop(task_id).verdict
        assert life.end_of(pid) == 0
    undone = verdict is Verdict.ROLLED_BACK
    assert life.marked_rows(task_id) == (0 if undone else rows), verdict
    assert life.state(task_id) is (State.REVOKED if undone else State.SUCCEEDED)
    return verdict


def test_verdict_and_rows_agree_however_close_the_race() -> None:
    verdicts = {race(rows) for rows in range(500, 12_500, 1_000)}
    assert verdicts <= {Verdict.ROLLED_BACK, Verdict.TOO_LATE_COMMITTED, Verdict.ALREADY_FINISHED}
    assert life.in_doubt() == []


@pytest.mark.parametrize("step", life.BEFORE_DECISION)
def test_a_frozen_attempt_is_undone_without_its_help(step: str) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        assert stop(task_id).verdict is Verdict.ROLLED_BACK
        assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.REVOKED, 0, [])
        before = life.everything()
        os.kill(pid, signal.SIGCONT)
        assert life.end_of(pid) == 0
    assert life.everything() == before


@pytest.mark.parametrize("step", ["decide", "commit"])
def test_a_decided_attempt_that_is_frozen_keeps_its_rows(step: str) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        assert stop(task_id, wait_seconds=0.1).verdict is Verdict.TOO_LATE_COMMITTED
        life.rounds_until(lambda: life.state(task_id) is State.SUCCEEDED)
        os.kill(pid, signal.SIGCONT)
        life.end_of(pid)
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.SUCCEEDED, 3_000, [])


def test_a_stop_without_patience_is_finished_by_the_monitor() -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    with life.child(life.hit_after("prepare", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        answer = stop(task_id, wait_seconds=0)
        assert (answer.verdict, answer.state) == (Verdict.STOPPING, State.REVOKING)
        assert resolve.finish_stops() == 0, "its owner has a moment for it"
        life.rounds_until(lambda: life.state(task_id) is State.REVOKED)
    assert (life.rows(), life.in_doubt()) == (0, [])


@pytest.mark.parametrize("step", ["start", "prepare"])
def test_a_stop_is_not_confirmed_while_anything_is_left(step: str) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        transitions.stop(task_id, remark="by a test")
        assert not revoke.confirm(task_id, 1, databases=["data"], rows_undone=0)
        assert life.state(task_id) is State.REVOKING
        eventually(lambda: revoke.undo(task_id, 1))
    assert (life.state(task_id), life.in_doubt()) == (State.REVOKED, [])


@pytest.mark.parametrize(("step", "number"), [("progress", signal.SIGSTOP), ("decide", signal.SIGKILL)])
def test_a_stop_that_thaws_late_leaves_a_later_attempt_alone(
    step: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = life.accept("bulk_insert", {"rows": 3_000})
    life.claim(task_id)
    transitions.join(task_id, 1, "data")
    transitions.stop(task_id, remark="by a test")
    kill_holder = xa.kill_holder
    with ExitStack() as children:

        def freeze(*task: Any, **named: Any) -> bool:
            """What becomes of the task while whoever stops it stands still."""
            monkeypatch.setattr(xa, "kill_holder", kill_holder)
            assert revoke.undo(task_id, 1), "by another"
            replay.replay(task_id, by="a test", note="after all")
            pid = children.enter_context(life.child(life.hit_after(step, number, life.worker_child(task_id, 2))))
            eventually(lambda: life.is_frozen(pid) if number is signal.SIGSTOP else life.end_of(pid))
            frozen.append(pid)
            return kill_holder(*task, **named)

        frozen: list[int] = []
        monkeypatch.setattr(xa, "kill_holder", freeze)
        assert not revoke.undo(task_id, 1)
        if number is signal.SIGSTOP:
            os.kill(frozen[0], signal.SIGCONT)
            assert life.end_of(frozen[0]) == 0
        else:
            life.rounds_until(lambda: life.state(task_id) is not State.COMMITTING)
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.SUCCEEDED, 3_000, [])
    assert life.task(task_id).attempt == 2


def test_two_stops_at_once_agree_and_count_once() -> None:
    task_id = life.accept("bulk_insert", {"rows": MANY})
    with life.child(life.worker_child(task_id)), ThreadPoolExecutor(3) as callers:
        eventually(lambda: life.task(task_id).progress_done)
        verdicts = {answer.verdict for answer in callers.map(stop, [task_id] * 3)}
    assert Verdict.ROLLED_BACK in verdicts
    assert verdicts <= {Verdict.ROLLED_BACK, Verdict.ALREADY_FINISHED}
    assert life.names_of_events(task_id) == ["accepted", "claimed", "stopping", "rolled_back"]


def test_a_stop_leaves_other_tasks_alone() -> None:
    stopped, other = (life.accept("bulk_insert", {"rows": 3_000}) for _ in range(2))
    with (
        life.child(life.hit_after("prepare", signal.SIGSTOP, life.worker_child(stopped))) as first,
        life.child(life.hit_after("prepare", signal.SIGSTOP, life.worker_child(other))) as second,
    ):
        eventually(lambda: life.is_frozen(first) and life.is_frozen(second))
        assert stop(stopped).verdict is Verdict.ROLLED_BACK
        os.kill(second, signal.SIGCONT)
        assert life.end_of(second) == 0
    assert (life.state(other), life.rows()) == (State.SUCCEEDED, 3_000)


def refuse(task_id: str, *, retried: bool) -> None:
    """A decided mail's last step was refused: another attempt follows, or none."""
    error = {"type": "SMTPDataError", "message": "451 not now", "permanent": not retried, "at": None}
    if retried:
        assert transitions.retry(task_id, 1, after_seconds=60, error=error, remark="refused")
    else:
        assert transitions.give_up(task_id, 1, error=error, remark="refused")


@pytest.mark.parametrize(
    ("last_step", "verdict", "after"),
    [
        (partial(refuse, retried=True), Verdict.STOPPED_BEFORE_START, State.REVOKED),
        (partial(refuse, retried=False), Verdict.ALREADY_FINISHED, State.FAILED),
        (lambda task_id: transitions.finish(task_id, 1), Verdict.TOO_LATE_COMMITTED, State.SUCCEEDED),
        (lambda task_id: None, Verdict.TOO_LATE_COMMITTED, State.COMMITTING),
    ],
    ids=["refused for now", "refused for good", "taken", "not yet taken"],
)
def test_a_stop_after_the_decision_heeds_how_the_last_step_went(
    last_step: Callable[[str], object], verdict: Verdict, after: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = life.accept("test_effect")
    life.put(task_id, state=State.COMMITTING, attempt=1, participants=[])
    look = transitions.stop

    def look_before_it(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(transitions, "stop", look)
        found = look(*arguments, **named)
        last_step(task_id)
        return found

    monkeypatch.setattr(transitions, "stop", look_before_it)
    assert stop(task_id, wait_seconds=0.2).verdict is verdict
    assert life.state(task_id) is after


@pytest.mark.usefixtures("database_away")
@pytest.mark.parametrize("task_type", ["bulk_insert", "test_undeclared"])
def test_a_stop_looks_only_where_the_attempt_was(task_type: str) -> None:
    task_id = life.accept(task_type)
    with life.child(life.hit_after("prepare", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        assert life.in_doubt("data"), "there is something to undo"
        answer = stop(task_id)
    assert (answer.verdict, answer.rows_remaining, life.in_doubt("data")) == (Verdict.ROLLED_BACK, 0, [])
    assert answer.rows_undone == life.task(task_id).progress_done


def test_a_stop_is_decided_although_the_attempts_database_is_away(database_away: str) -> None:
    task_id = life.accept("bulk_insert")
    life.put(task_id, state=State.RUNNING, attempt=1, participants=[database_away])
    answer = stop(task_id, wait_seconds=1)
    assert (answer.verdict, answer.state) == (Verdict.STOPPING, State.REVOKING)


def test_a_database_that_is_away_keeps_no_locks_on_the_others(database_away: str) -> None:
    task_id = life.accept("bulk_insert")
    with life.child(life.hit_after("start", signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        life.put(task_id, participants=[database_away, "data"])
        assert not xa.is_undone(task_id, "data")
        assert stop(task_id, wait_seconds=1).verdict is Verdict.STOPPING
        eventually(lambda: xa.is_undone(task_id, "data"), what="the locks are gone")


def test_a_stop_needs_neither_broker_nor_redis(configured: Callable[..., None]) -> None:
    configured(CELERY_BROKER_URL="amqp://127.0.0.1:1//", CELERY_RESULT_BACKEND="redis://127.0.0.1:1/0")
    task_id = life.accept("bulk_insert", {"rows": MANY})
    with life.child(life.worker_child(task_id)):
        eventually(lambda: life.task(task_id).progress_done)
        assert stop(task_id).verdict is Verdict.ROLLED_BACK
    assert life.rows() == 0


def test_without_the_ledger_a_stop_decides_nothing(configured: Callable[..., None]) -> None:
    task_id = life.accept()
    configured(LEDGER_DATABASE_URL="mysql+pymysql://nobody@127.0.0.1:1/none")
    with pytest.raises(db.Unavailable):
        stop(task_id)
