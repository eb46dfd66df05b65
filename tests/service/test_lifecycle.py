"""The life of an attempt, in this process or in a child that is killed or frozen at each of its steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger import db, queries, transitions, xa
from ledger.states import State
from tasks import heartbeat, lifecycle, parent, resolve, results, revoke
from tasks.attempt import Attempt, LeaseLost, Stopped
from tasks.parent import Child
from tasks.revoke import Verdict
from tests import life, task_types
from tests.conftest import eventually
from tests.life import AFTER_DECISION, BEFORE_DECISION, STEPS

ROWS = 3_000


@pytest.fixture(autouse=True)
def _brisk(configured: Callable[..., None]) -> Iterator[None]:
    """A tenth of a second of grace; and at the end nothing in doubt."""
    configured(SLUICE_STOP_GRACE_SECONDS=0.1)
    task_types.told.clear()
    yield
    life.clear_up()


def insert(**more: Any) -> str:
    return life.accept("bulk_insert", {"rows": ROWS}, **more)


# --- in one piece --------------------------------------------------------------------------------------------------


def test_a_task_runs_from_its_ticket_to_its_result() -> None:
    task_id = life.accept("test_quick")
    life.work(task_id)
    row = life.task(task_id)
    assert (row.state, row.result, row.worker) == ("succeeded", {"answer": 42}, life.WORKER)
    assert life.names_of_events(task_id) == ["accepted", "claimed", "finished"]
    assert results.fetch(task_id, 1) == (True, {"answer": 42})


def test_a_bulk_insert_decides_before_its_rows_are_there() -> None:
    task_id = insert()
    life.work(task_id)
    assert life.names_of_events(task_id) == ["accepted", "claimed", "decided", "finished"]
    assert life.rows() == ROWS
    assert xa.marked_attempt(task_id, db.DATA) == 1
    assert xa.remaining_rows(task_id, db.DATA) == ROWS
    assert life.in_doubt() == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_ticket_that_comes_twice_changes_nothing(number: int) -> None:
    task_id = insert()
    life.work(task_id)
    before = life.everything()
    life.work(task_id, number)
    assert life.everything() == before


def test_a_permanent_error_is_not_tried_again() -> None:
    task_id = life.accept("test_hopeless")
    life.work(task_id)
    row = life.task(task_id)
    assert (row.state, row.error["message"], row.error["permanent"]) == ("failed", "this will never do", True)
    assert "not retried: this will never do" in life.remarks(task_id)


def test_parameters_that_fit_no_more_are_a_permanent_error() -> None:
    task_id = life.accept("bulk_insert", {"rows": -5})
    life.work(task_id)
    assert life.state(task_id) is State.FAILED
    assert "rows: Input should be greater than or equal to 1" in life.task(task_id).error["message"]


def test_a_type_that_this_worker_lacks_is_retried() -> None:
    task_id = life.accept("test_quick")
    life.put(task_id, task_type="bulk_insertt")
    life.work(task_id)
    assert life.state(task_id) is State.RETRYING
    assert "did you mean 'bulk_insert'?" in life.task(task_id).error["message"]


def test_a_failing_task_is_retried_until_its_retries_are_used_up() -> None:
    task_id = life.accept("test_failing")
    for number in (1, 2, 3):
        life.work(task_id, number)
        if number < 3:
            row = life.task(task_id)
            assert (row.state, row.retries) == ("retrying", number)
            assert 0 <= (row.due_at - row.updated_at).total_seconds() <= 2 ** (number - 1)
            assert life.release(task_id).attempt == number + 1
    assert life.state(task_id) is State.FAILED
    assert life.names_of_events(task_id).count("retried") == 2
    assert "gave up after 2 of 2 retries: the other side hung up" in life.remarks(task_id)


def test_a_timeout_reaches_plain_code_and_counts_as_a_failure() -> None:
    task_id = life.accept("test_busy", timeout_seconds=1)
    began = time.monotonic()
    life.work(task_id)
    assert 1 <= time.monotonic() - began < 3
    assert life.task(task_id).error["message"] == "took longer than 1 s"
    assert life.state(task_id) is State.RETRYING


def test_a_timeout_reaches_into_a_long_statement() -> None:
    task_id = life.accept("test_long_statement", timeout_seconds=1, max_retries=0)
    life.work(task_id)
    assert life.task(task_id).error["message"] == "took longer than 1 s"
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.FAILED, 0, [])


@pytest.mark.parametrize("what", ["set", "nan", "surrogate", "bytes"])
def test_a_result_that_is_no_json_fails_the_task_with_that_reason(what: str) -> None:
    task_id = life.accept("test_odd", {"what": what})
    life.work(task_id)
    assert life.state(task_id) is State.FAILED
    assert "JSON" in life.task(task_id).error["message"]
    assert (life.rows(), life.in_doubt()) == (0, [])


def test_a_result_that_is_too_big_to_keep_fails_the_task_for_good() -> None:
    task_id = life.accept("test_odd", {"what": "big"})
    life.work(task_id)
    row = life.task(task_id)
    assert (row.state, row.retries, row.result) == ("failed", 0, None)
    assert row.error["message"] == "the handler's result has 1,048,578 bytes, more than the 1,048,576 that are kept"
    assert (life.rows(), life.in_doubt()) == (0, [])


@pytest.fixture
def _undoing_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older attempt's connection was ended, and the server is not through with undoing what it did."""
    monkeypatch.setattr(xa, "LOCK_WAIT_SECONDS", 0)
    monkeypatch.setattr(xa, "kill_holder", lambda *_, **named: named["is_over"]())


@pytest.mark.usefixtures("_undoing_much")
def test_a_branch_that_did_not_begin_never_takes_rows() -> None:
    task_id = life.accept("test_headstrong", max_retries=0)
    with db.data().connect() as older:
        older.exec_driver_sql("SELECT GET_LOCK(%s, 0)", (xa.lock_name(task_id, db.DATA),))
        life.work(task_id)
        older.invalidate()
    assert life.rows() == 0


@pytest.mark.usefixtures("_undoing_much")
def test_a_task_whose_older_attempt_is_still_being_undone_is_put_off() -> None:
    task_id = insert(max_retries=0)
    with db.data().connect() as older:
        older.exec_driver_sql("SELECT GET_LOCK(%s, 0)", (xa.lock_name(task_id, db.DATA),))
        life.work(task_id)
        older.invalidate()
    row = life.task(task_id)
    assert (row.state, row.retries, row.error, life.rows()) == ("queued", 0, None, 0)
    assert "an earlier attempt's work is still being undone" in life.remarks(task_id)
    eventually(lambda: xa.is_undone(task_id, db.DATA))
    life.work(task_id, 2)
    assert (life.state(task_id), life.rows()) == (State.SUCCEEDED, ROWS)


# --- effects outside databases -------------------------------------------------------------------------------------


def test_an_effect_comes_true_after_the_decision() -> None:
    task_id = life.accept("test_effect")
    life.work(task_id)
    assert task_types.told == ["prepare", "commit"]
    assert life.names_of_events(task_id) == ["accepted", "claimed", "decided", "finished"]


@pytest.mark.parametrize(
    ("step", "told"), [("prepare", ["prepare", "rollback"]), ("commit", ["prepare", "commit"])]
)
def test_an_effect_that_fails_is_tried_again(step: str, told: list[str]) -> None:
    task_id = life.accept("test_effect", {"fails_at": step})
    life.work(task_id)
    assert task_types.told == told
    assert life.state(task_id) is State.RETRYING
    assert life.task(task_id).error["message"] == f"could not {step}"


def test_an_effect_is_undone_when_a_stop_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept("test_effect")
    decide = transitions.decide
    monkeypatch.setattr(
        transitions, "decide", lambda *a, **k: transitions.stop(task_id, remark="") and decide(*a, **k)
    )
    life.work(task_id)
    assert task_types.told == ["prepare", "rollback"]
    assert life.state(task_id) is State.REVOKED


# --- a ledger that does not answer ---------------------------------------------------------------------------------


def lose_answers(monkeypatch: pytest.MonkeyPatch, *, times: int, applied: bool) -> None:
    """The decision's answer is lost so many times; `applied` says whether the ledger had taken it in."""
    original, left = transitions.decide, [times]

    def decide(*arguments: Any, **named: Any) -> bool:
        if left[0] == 0:
            return original(*arguments, **named)
        left[0] -= 1
        if applied:
            original(*arguments, **named)
        raise db.Unavailable("the answer was lost")

    monkeypatch.setattr(transitions, "decide", decide)


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_answer_to_the_decision_is_read_back(applied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_answers(monkeypatch, times=2, applied=applied)
    task_id = insert()
    life.work(task_id)
    assert (life.state(task_id), life.rows()) == (State.SUCCEEDED, ROWS)
    assert life.names_of_events(task_id).count("decided") == 1


def test_a_lost_answer_does_not_hide_that_a_stop_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = insert()
    lose_answers(monkeypatch, times=1, applied=False)
    decide = transitions.decide
    monkeypatch.setattr(
        transitions, "decide", lambda *a, **k: transitions.stop(task_id, remark="") and decide(*a, **k)
    )
    life.work(task_id)
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.REVOKED, 0, [])


@pytest.mark.parametrize("applied", [True, False])
def test_an_unknown_decision_is_left_to_the_monitor(applied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "INSIST_SECONDS", 0)
    lose_answers(monkeypatch, times=1_000, applied=applied)
    task_id = insert()
    life.work(task_id)
    assert [branch.task_id for branch in life.in_doubt()] == [task_id], "neither committed nor rolled back"
    expected: tuple[State, int, list[Any]] = (
        (State.SUCCEEDED, ROWS, []) if applied else (State.RETRYING, 0, [])
    )
    life.rounds_until(lambda: (life.state(task_id), life.rows(), life.in_doubt()) == expected)


def test_a_timeout_is_kept_without_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: Any, **__: Any) -> Any:
        raise db.Unavailable("a test has cut the line")

    monkeypatch.setattr(queries, "standing", cut_off)
    monkeypatch.setattr(transitions, "renew", cut_off)
    task_id = life.accept("test_busy", timeout_seconds=1)
    began = time.monotonic()
    life.work(task_id)
    assert time.monotonic() - began < task_types.LONG / 2
    assert life.task(task_id).error["message"] == "took longer than 1 s"


@pytest.fixture
def _short_lease(configured: Callable[..., None]) -> None:
    configured(SLUICE_LEASE_SECONDS=1)


@pytest.mark.usefixtures("_short_lease")
def test_an_attempt_that_nobody_took_over_outlives_its_lease(tmp_path: Path) -> None:
    task_id, cut = life.accept("test_busy"), tmp_path / "cut"
    with life.child(life.losing_the_ledger(cut, life.worker_child(task_id))):
        eventually(lambda: life.state(task_id) is State.RUNNING)
        cut.touch()
        eventually(queries.expired_leases, what="its lease has run out")
        cut.unlink()
        eventually(lambda: not queries.expired_leases(), what="it has renewed its lease")
    assert life.names_of_events(task_id) == ["accepted", "claimed"]


@pytest.mark.usefixtures("_short_lease")
@pytest.mark.parametrize("task_type", ["test_busy", "test_long_statement"])
def test_an_attempt_that_was_taken_over_meanwhile_changes_nothing(task_type: str, tmp_path: Path) -> None:
    task_id, cut = life.accept(task_type), tmp_path / "cut"
    with life.child(life.losing_the_ledger(cut, life.worker_child(task_id))) as pid:
        eventually(lambda: life.state(task_id) is State.RUNNING)
        cut.touch()
        eventually(resolve.expire_leases, what="its lease has run out")
        before = life.everything()
        cut.unlink()
        assert life.end_of(pid) == 0
    assert life.everything() == before
    assert (life.state(task_id), life.in_doubt()) == (State.RETRYING, [])


# --- a child that dies ---------------------------------------------------------------------------------------------


def kill_after(step: str, task_id: str) -> None:
    with life.child(life.hit_after(step, signal.SIGKILL, life.worker_child(task_id))) as pid:
        assert life.end_of(pid) == -signal.SIGKILL


def bring_to_its_end(task_id: str) -> None:
    """The monitor goes round until the task is over; a second attempt is made when it asks for one."""
    life.rounds_until(
        lambda: life.state(task_id) in (State.RETRYING, State.SUCCEEDED), what="an attempt settled"
    )
    if life.state(task_id) is State.RETRYING:
        life.work(task_id, life.release(task_id).attempt)


@pytest.mark.parametrize("told", [True, False], ids=["its parent tells", "nobody tells"])
@pytest.mark.parametrize("step", STEPS)
def test_a_child_that_dies_at_any_step_leaves_all_rows_once(step: str, told: bool) -> None:
    task_id = insert()
    kill_after(step, task_id)
    if told:
        parent.worker_lost(task_id, 1, "signal 9")
    bring_to_its_end(task_id)
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.SUCCEEDED, ROWS, [])
    assert life.task(task_id).attempt == (1 if step in AFTER_DECISION else 2)
    assert life.task(task_id).result == {"inserted": ROWS, "table": "data"}
    assert life.names_of_events(task_id).count("decided") == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_stop_after_a_childs_death_tells_the_truth(step: str) -> None:
    task_id = insert()
    kill_after(step, task_id)
    verdict = revoke.stop(task_id, by="a test", wait_seconds=3 if step in BEFORE_DECISION else 0.1).verdict
    life.rounds_until(lambda: life.task(task_id).finished_at)
    if step in BEFORE_DECISION:
        assert verdict is Verdict.ROLLED_BACK
        assert (life.state(task_id), life.rows()) == (State.REVOKED, 0)
    else:
        assert verdict is (Verdict.ALREADY_FINISHED if step == "finish" else Verdict.TOO_LATE_COMMITTED)
        assert (life.state(task_id), life.rows()) == (State.SUCCEEDED, ROWS)
    assert life.in_doubt() == []


@pytest.mark.parametrize("told", [True, False], ids=["its parent tells", "nobody tells"])
@pytest.mark.parametrize("step", STEPS)
def test_a_death_between_two_databases_leaves_both_alike(step: str, told: bool) -> None:
    task_id = life.accept("fan_out_insert", {"rows": ROWS})
    kill_after(step, task_id)
    assert len(life.in_doubt()) == {"prepare": 1, "decide": 2, "commit": 1}.get(step, 0)
    if told:
        parent.worker_lost(task_id, 1, "signal 9")
    bring_to_its_end(task_id)
    assert (life.state(task_id), life.rows("data"), life.rows("archive")) == (State.SUCCEEDED, ROWS, ROWS)
    assert life.task(task_id).attempt == (1 if step in AFTER_DECISION else 2)
    assert life.in_doubt() == []


@pytest.mark.parametrize("step", BEFORE_DECISION)
def test_a_stop_between_two_databases_empties_both(step: str) -> None:
    task_id = life.accept("fan_out_insert", {"rows": ROWS})
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        answer = revoke.stop(task_id, by="a test")
    assert (answer.verdict, answer.rows_remaining) == (Verdict.ROLLED_BACK, 0)
    assert (life.rows("data"), life.rows("archive"), life.in_doubt()) == (0, 0, [])


def test_a_task_that_kills_its_workers_fails_with_the_reason() -> None:
    task_id = insert(max_retries=1)
    for number in (1, 2):
        with life.child(life.hit_after("claim", signal.SIGKILL, life.worker_child(task_id, number))) as pid:
            life.end_of(pid)
        parent.worker_lost(task_id, number, "signal 9 (SIGKILL)")
        if number == 1:
            life.release(task_id)
    row = life.task(task_id)
    assert (row.state, row.error["type"], life.rows()) == ("failed", "WorkerLost", 0)
    assert "gave up after 1 of 1 retries: the worker process died: signal 9" in life.remarks(task_id)


def test_a_hard_limit_counts_as_a_failed_attempt() -> None:
    task_id = life.accept("test_quick")
    life.claim(task_id)
    parent.timed_out(task_id, 1, 615)
    assert life.task(task_id).error["message"] == "was ended after 615 s"
    assert life.state(task_id) is State.RETRYING


def test_a_late_word_of_a_death_touches_no_other_attempt() -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.hand_back(task_id, 1, remark="")
    life.claim(task_id, 2)
    before = life.everything()
    parent.worker_lost(task_id, 1, "signal 9")
    parent.worker_lost("019aa5c0-0000-7000-8000-000000000001", 1, "signal 9")
    assert life.everything() == before


@pytest.mark.parametrize(
    "child",
    [Child(life.WORKER, -1), Child("data@elsewhere", os.getpid()), Child("data@elsewhere", None)],
    ids=["a sibling", "of another worker", "nobody knows which"],
)
def test_the_death_of_a_child_that_has_not_claimed_touches_nobody_elses_attempt(child: Child) -> None:
    """It froze with its ticket, and another child got a second one."""
    task_id = life.accept(max_retries=0)
    life.claim(task_id)
    before = life.everything()
    parent.worker_lost(task_id, 1, "signal 9", child=child)
    parent.timed_out(task_id, 1, 615, child=child)
    assert life.everything() == before


@pytest.mark.parametrize("pid", [os.getpid(), None], ids=["known", "unknown"])
def test_the_death_of_the_child_that_has_claimed_is_told(pid: int | None) -> None:
    task_id = life.accept()
    life.claim(task_id)
    parent.worker_lost(task_id, 1, "signal 9", child=Child(life.WORKER, pid))
    assert life.state(task_id) is State.RETRYING


def test_a_claim_of_which_nobody_heard_uses_up_no_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept(max_retries=0)
    claim = transitions.claim

    def unheard(*task: Any, **named: Any) -> None:
        monkeypatch.setattr(transitions, "claim", claim)
        assert claim(*task, **named)
        raise db.Unavailable("its answer was lost")

    monkeypatch.setattr(transitions, "claim", unheard)
    life.work(task_id)
    assert life.names_of_events(task_id) == ["accepted", "claimed", "handed_back"]
    life.work(task_id, 2)
    assert (life.state(task_id), life.task(task_id).retries) == (State.SUCCEEDED, 0)


def test_a_claim_that_others_won_meanwhile_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = life.accept()
    claim = transitions.claim

    def late(*task: Any, **named: Any) -> None:
        monkeypatch.setattr(transitions, "claim", claim)
        assert claim(*task, **named | {"worker": "data@elsewhere"})
        raise db.Unavailable("it was asked too late")

    monkeypatch.setattr(transitions, "claim", late)
    life.work(task_id)
    assert life.names_of_events(task_id) == ["accepted", "claimed"]


# --- a child that is frozen, and comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_an_attempt_that_comes_back_late_changes_nothing(step: str) -> None:
    task_id = insert()
    with life.child(life.hit_after(step, signal.SIGSTOP, life.worker_child(task_id))) as pid:
        eventually(lambda: life.is_frozen(pid))
        bring_to_its_end(task_id)
        before = life.everything()
        os.kill(pid, signal.SIGCONT)
        assert life.end_of(pid) == 0
    assert life.everything() == before
    assert (life.state(task_id), life.rows(), life.in_doubt()) == (State.SUCCEEDED, ROWS, [])
    assert life.task(task_id).attempt == (1 if step in AFTER_DECISION else 2)


def test_a_lease_is_kept_while_the_handler_is_busy(configured: Callable[..., None]) -> None:
    configured(SLUICE_LEASE_SECONDS=1)
    task_id = life.accept("test_busy")
    with life.child(life.worker_child(task_id)):
        eventually(lambda: life.state(task_id) is State.RUNNING)
        first = life.task(task_id).lease_until
        eventually(lambda: life.task(task_id).lease_until > first)
        assert resolve.expire_leases() == 0


@pytest.mark.parametrize("lost", [{"attempt": 2}, {"state": State.RETRYING}], ids=["taken", "taken back"])
def test_a_lost_lease_ends_the_handler(lost: dict[str, Any], configured: Callable[..., None]) -> None:
    configured(SLUICE_LEASE_SECONDS=60)
    task_id = life.accept("test_busy")
    with life.child(life.worker_child(task_id)) as pid:
        eventually(lambda: life.state(task_id) is State.RUNNING)
        life.put(task_id, **lost)
        before = life.everything()
        assert life.end_of(pid) == 0
    assert life.everything() == before, "the row is the other attempt's"
    assert life.names_of_events(task_id) == ["accepted", "claimed"]


# --- a stop, and a worker that leaves ------------------------------------------------------------------------------


@pytest.mark.parametrize(("task_type", "rows"), [("bulk_insert", 3_000), ("fan_out_insert", 6_000)])
def test_a_finished_task_has_all_of_its_progress(task_type: str, rows: int) -> None:
    task_id = life.accept(task_type, {"rows": 3_000})
    life.work(task_id)
    row = life.task(task_id)
    assert (row.progress_done, row.progress_total) == (rows, rows)


def test_a_stop_is_not_confirmed_while_an_earlier_attempt_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt is stopped before it has been on any database itself."""
    monkeypatch.setattr(lifecycle, "CONFIRM_SECONDS", 0.2)
    task_id = life.accept("bulk_insert", {"rows": 10})
    with life.child(life.hit_after("prepare", signal.SIGKILL, life.worker_child(task_id))) as pid:
        life.end_of(pid)
    parent.worker_lost(task_id, 1, "signal 9")
    life.release(task_id)
    claim = life.claim(task_id, 2)
    transitions.stop(task_id, remark="by a test")
    lifecycle.confirm_stop(Attempt(claim))
    assert life.state(task_id) is State.REVOKING
    life.rounds_until(lambda: life.state(task_id) is State.REVOKED)
    assert life.in_doubt() == []


def test_progress_learns_of_a_stop_and_of_a_lost_lease() -> None:
    stopped, lost = (Attempt(life.claim(life.accept())) for _ in range(2))
    stopped.progress(1, 2)
    lost.progress(1, 2)
    transitions.stop(stopped.task_id, remark="by a test")
    life.put(lost.task_id, attempt=2)
    for attempt, reason in ((stopped, Stopped), (lost, LeaseLost)):
        attempt.renew()
        with pytest.raises(reason):
            attempt.progress(2, 2)


@pytest.mark.parametrize("task_type", ["test_busy", "test_long_statement"])
def test_a_stop_reaches_a_handler_that_never_asks(task_type: str) -> None:
    task_id = life.accept(task_type)
    with life.child(life.worker_child(task_id)) as pid:
        eventually(lambda: life.state(task_id) is State.RUNNING)
        began = time.monotonic()
        assert revoke.stop(task_id, by="a test").verdict is Verdict.ROLLED_BACK
        assert time.monotonic() - began < 2
        assert life.end_of(pid) == 0
    assert (life.rows(), life.in_doubt()) == (0, [])


@pytest.mark.parametrize("task_type", ["test_busy", "test_long_statement", "bulk_insert"])
def test_a_leaving_worker_hands_its_task_back_undone(task_type: str) -> None:
    task_id = life.accept(task_type, {"rows": 500_000} if task_type == "bulk_insert" else {})
    with life.child(life.worker_child(task_id)) as pid:
        eventually(lambda: "claimed" in life.names_of_events(task_id))
        if task_type != "test_busy":
            eventually(lambda: life.task(task_id).progress_done)
        os.kill(pid, signal.SIGQUIT)
        assert life.end_of(pid) == life.LEFT
    row = life.task(task_id)
    assert (row.state, row.retries, life.rows(), life.in_doubt()) == ("queued", 0, 0, [])
    assert "its worker is leaving" in life.remarks(task_id)


@pytest.mark.parametrize(
    ("place", "told"),
    [(life.TICKET, ["accepted"]), ("claim", ["accepted", "claimed", "handed_back"])],
)
def test_a_child_told_to_leave_with_a_ticket_in_hand_begins_nothing(place: str, told: list[str]) -> None:
    in_hand, next_one = life.accept("test_quick"), life.accept("test_quick")
    both = life.worker_child_of([(in_hand, 1), (next_one, 1)])
    with life.child(life.hit_after(place, signal.SIGQUIT, both)) as pid:
        assert life.end_of(pid) == life.LEFT
    row = life.task(in_hand)
    assert (row.state, row.retries, row.lease_until) == ("queued", 0, None)
    assert (life.names_of_events(in_hand), life.names_of_events(next_one)) == (told, ["accepted"])


def test_an_idle_child_leaves_as_soon_as_it_is_told() -> None:
    def idle() -> None:
        lifecycle.install()
        os.kill(os.getpid(), signal.SIGQUIT)

    with life.child(idle) as pid:
        assert life.end_of(pid) == life.LEFT


def test_a_leaving_child_does_not_wait_for_an_absent_ledger(tmp_path: Path) -> None:
    task_id, cut = life.accept("test_quick"), tmp_path / "cut"
    cut.touch()
    with life.child(life.losing_the_ledger(cut, life.worker_child(task_id))) as pid:
        eventually(lambda: life.has_missed_it(cut))
        os.kill(pid, signal.SIGQUIT)
        assert life.end_of(pid) == life.LEFT
    assert life.names_of_events(task_id) == ["accepted"]


def test_signals_wait_until_the_settling_is_over() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with heartbeat.shielded():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
