"""A mail of which nobody knows whether the server took it: every envelope that the server got is counted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from ledger import db, replay, transitions, verify
from ledger.filters import Filter
from ledger.states import State
from tasks import failure, parent, resolve
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.service.mailbox import WHERE, Mailbox, free_port

#: Places around a mail's last byte.
BEFORE, AFTER = "f21", "f22"


@pytest.fixture
def mailbox(configured: Callable[..., None], tmp_path: Path) -> Iterator[Mailbox]:
    box = Mailbox()
    controller = Controller(box, **WHERE, port=free_port())
    controller.start()
    configured(SMTP_URL=f"smtp://127.0.0.1:{controller.port}", SLUICE_FAILPOINT_DIR=tmp_path)
    yield box
    controller.stop()
    assert [each for rule in verify.rules(db.ledger(), {}) for each in verify.violations(rule)] == []


def mail(**parameters: Any) -> str:
    return life.accept("email_sending", {"to": "ada@example.com", **parameters})


def message_ids(mailbox: Mailbox) -> list[str]:
    contents = [each.content for each in mailbox.envelopes]
    return [str(message_from_bytes(each)["Message-ID"]) for each in contents if isinstance(each, bytes)]


def killed_at(place: str, task_id: str, tmp_path: Path) -> None:
    """Its worker's child dies there, kill -9."""
    (tmp_path / place).write_text("kill")
    with life.child(life.worker_child(task_id)) as pid:
        assert life.end_of(pid) == -signal.SIGKILL
    assert life.state(task_id) is State.COMMITTING


def told_by_the_parent(task_id: str) -> None:
    parent.worker_lost(task_id, 1, "signal 9 (SIGKILL)")


def found_by_the_monitor(task_id: str) -> None:
    life.let_pass(100)
    assert resolve.finish_decided() == 1


def is_held(task_id: str) -> bool:
    row = life.task(task_id)
    error = row.error or {}
    return (row.state, error.get("type"), error.get("permanent")) == ("failed", "Uncertain", True)


# --- the line drops ------------------------------------------------------------------------------------------------


def test_by_default_a_mail_whose_answer_is_lost_is_held(mailbox: Mailbox) -> None:
    mailbox.verdict = "drop"
    task_id = mail()
    life.work(task_id)
    assert is_held(task_id)
    assert len(mailbox.envelopes) == 1
    assert "may have been delivered" in life.remarks(task_id)
    assert "/resolve if it did, or /retry if it did not" in life.remarks(task_id)


def test_a_mail_that_may_be_sent_twice_is_tried_again_under_its_message_id(mailbox: Mailbox) -> None:
    mailbox.verdict = "drop"
    task_id = mail(if_uncertain="retry")
    life.work(task_id)
    assert life.state(task_id) is State.RETRYING
    mailbox.verdict = "250 queued"
    life.work(task_id, life.release(task_id).attempt)
    assert (life.state(task_id), life.task(task_id).result["sent"]) == (State.SUCCEEDED, True)
    assert message_ids(mailbox) == [f"<{task_id}@localhost>"] * 2


def test_a_mail_that_counts_as_sent_says_that_it_may_not_be(mailbox: Mailbox) -> None:
    mailbox.verdict = "drop"
    task_id = mail(if_uncertain="treat_as_done")
    life.work(task_id)
    row = life.task(task_id)
    assert (row.state, row.result["sent"], row.error) == ("succeeded", "uncertain", None)
    assert "answer" not in row.result
    assert "treated as done" in life.remarks(task_id)
    assert len(mailbox.envelopes) == 1


# --- the worker dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [told_by_the_parent, found_by_the_monitor])
@pytest.mark.parametrize(
    ("policy", "state", "sent"),
    [("hold", "failed", None), ("retry", "retrying", None), ("treat_as_done", "succeeded", "uncertain")],
)
def test_a_worker_killed_before_the_answer_leaves_the_task_to_its_policy(
    policy: str, state: str, sent: str | None, told: Callable[[str], None], mailbox: Mailbox, tmp_path: Path
) -> None:
    task_id = mail(if_uncertain=policy)
    killed_at(AFTER, task_id, tmp_path)
    told(task_id)
    row = life.task(task_id)
    assert (row.state, (row.result or {}).get("sent")) == (state, sent)
    assert is_held(task_id) == (policy == "hold")
    assert "a mail may have been sent" in life.remarks(task_id)
    eventually(lambda: len(mailbox.envelopes) == 1)


@pytest.mark.parametrize("told", [told_by_the_parent, found_by_the_monitor])
def test_a_worker_killed_before_the_last_byte_has_sent_nothing(
    told: Callable[[str], None], mailbox: Mailbox, tmp_path: Path
) -> None:
    task_id = mail()
    killed_at(BEFORE, task_id, tmp_path)
    told(task_id)
    assert (life.state(task_id), mailbox.envelopes) == (State.RETRYING, [])
    life.work(task_id, life.release(task_id).attempt)
    assert life.state(task_id) is State.SUCCEEDED
    assert message_ids(mailbox) == [f"<{task_id}@localhost>"]


# --- the lease is lost ---------------------------------------------------------------------------------------------


def frozen_at(place: str, task_id: str, tmp_path: Path) -> Any:
    (tmp_path / place).write_text("freeze")
    return life.child(life.worker_child(task_id))


def test_a_worker_that_wakes_before_the_last_byte_does_not_send_it(mailbox: Mailbox, tmp_path: Path) -> None:
    task_id = mail()
    with frozen_at(BEFORE, task_id, tmp_path) as pid:
        eventually(lambda: life.is_frozen(pid))
        found_by_the_monitor(task_id)
        life.work(task_id, life.release(task_id).attempt)
        os.kill(pid, signal.SIGCONT)
        life.end_of(pid)
    assert (life.state(task_id), life.task(task_id).attempt) == (State.SUCCEEDED, 2)
    assert message_ids(mailbox) == [f"<{task_id}@localhost>"]


def test_a_worker_that_wakes_with_the_answer_says_that_the_held_mail_is_sent(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    task_id = mail()
    with frozen_at(AFTER, task_id, tmp_path) as pid:
        eventually(lambda: life.is_frozen(pid))
        found_by_the_monitor(task_id)
        assert is_held(task_id)
        os.kill(pid, signal.SIGCONT)
        life.end_of(pid)
    assert is_held(task_id)
    assert "attempt 1 has done its last step after all" in life.remarks(task_id)
    assert len(mailbox.envelopes) == 1


def test_a_step_that_began_since_the_look_is_not_taken_for_one_that_did_not() -> None:
    task_id = mail()
    life.claim(task_id)
    transitions.decide(task_id, 1, databases=[], result={"sent": "uncertain"})
    life.let_pass(100)
    looked = life.standing(task_id)
    transitions.begin_last_step(task_id, 1, lease_seconds=5)
    life.let_pass(100)
    assert not failure.settle_for(looked, failure.silent("WorkerLost", "silent"), expired_only=True)
    assert failure.settle_for(life.standing(task_id), failure.silent("WorkerLost", "silent"), expired_only=True)
    assert is_held(task_id)


@pytest.mark.parametrize("state", sorted(set(State) - {State.COMMITTING}))
def test_only_who_has_decided_takes_the_last_step(state: State) -> None:
    task_id = life.accept()
    life.claim(task_id)
    life.put(task_id, state=state)
    assert not transitions.begin_last_step(task_id, 1, lease_seconds=5)
    life.put(task_id, state=State.COMMITTING)
    assert not transitions.begin_last_step(task_id, 2, lease_seconds=5)
    assert transitions.begin_last_step(task_id, 1, lease_seconds=5)


# --- the way out ---------------------------------------------------------------------------------------------------


def test_a_held_mail_is_sent_again_only_when_somebody_says_so(mailbox: Mailbox) -> None:
    mailbox.verdict = "drop"
    task_id = mail()
    life.work(task_id)
    assert replay.replay_many(Filter(states=["failed"], uncertain=False), by="a test").tickets == []
    replay.replay(task_id, by="a test", note="it did not arrive")
    mailbox.verdict = "250 queued"
    life.work(task_id, 2)
    assert (life.state(task_id), life.task(task_id).result["sent"]) == (State.SUCCEEDED, True)
    assert message_ids(mailbox) == [f"<{task_id}@localhost>"] * 2
