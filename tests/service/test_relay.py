"""The thread that sends fresh tickets: nobody waits for it, and what it misses is left to the monitor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import pytest

from cli.stack import Stack
from ledger import dispatches, queries
from ledger.tickets import Ticket
from tasks import dispatch, relay, submit
from tasks.dispatch import Publisher
from tasks.submit import Submission
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT, eventually

QUEUE = "data.normal"


@pytest.fixture(autouse=True)
def _empty_queues(servers: object) -> None:
    broker.declare_empty()


def test_a_submitted_task_is_soon_in_its_queue() -> None:
    [task] = submit.submit([Submission("test_quick")])
    eventually(lambda: life.task(task.task_id).dispatched_at)
    assert [message.headers["id"] for message in broker.take(QUEUE)] == [task.task_id]


def test_a_task_for_later_has_no_ticket_yet() -> None:
    later, now = submit.submit([Submission("test_quick", delay_seconds=60), Submission("test_quick")])
    eventually(lambda: life.task(now.task_id).dispatched_at)
    assert life.task(later.task_id).dispatched_at is None
    assert broker.depth(QUEUE) == 1


def test_nobody_waits_for_a_broker_that_is_away(
    configured: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    relay._forget()
    began = time.monotonic()
    [task] = submit.submit([Submission("test_quick")])
    assert time.monotonic() - began < 0.5
    eventually(lambda: "left 1 tickets to the monitor" in caplog.text)
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == [task.task_id]


def test_what_it_missed_the_monitor_sends(
    configured: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as away:
        away.setattr(dispatch.Publisher, "_open", lambda self: (_ for _ in ()).throw(OSError("away")))
        relay._forget()
        submit.submit([Submission("test_quick")])
        eventually(lambda: "left 1 tickets to the monitor" in caplog.text)
    publisher = Publisher()
    assert dispatch.dispatch(publisher, queries.undispatched(-1)) == 1
    publisher.close()
    submit.submit([Submission("test_quick")])
    eventually(lambda: broker.depth(QUEUE) == 2, what="the relay lives on")


def test_a_process_that_ends_sends_and_marks_what_it_has(servers: Stack) -> None:
    words = "from tasks import submit; print(submit.submit([submit.Submission('test_quick')])[0].task_id)"
    done = subprocess.run(
        [sys.executable, "-c", f"from tests import task_types\n{words}"],
        env=os.environ | servers.environment(),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert life.task(done.stdout.strip()).dispatched_at is not None
    assert broker.depth(QUEUE) == 1


def test_who_ends_without_the_broker_is_not_kept_for_long(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_start", lambda: None)
    monkeypatch.setattr(relay, "_waiting", relay.Waiting())
    monkeypatch.setattr(relay, "FINISH_SECONDS", 0.1)
    relay.finish()
    submit.submit([Submission("test_quick")])
    began = time.monotonic()
    relay.finish()
    assert 0.1 <= time.monotonic() - began < 5


def test_a_forked_process_has_a_relay_of_its_own() -> None:
    submit.submit([Submission("test_quick")])

    def submit_another() -> None:
        [task] = submit.submit([Submission("test_quick")])
        eventually(lambda: life.task(task.task_id).dispatched_at)

    with life.child(submit_another) as pid:
        assert life.end_of(pid) == 0
    eventually(lambda: broker.depth(QUEUE) == 2)


def test_what_does_not_fit_is_left_to_the_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_start", lambda: None)
    monkeypatch.setattr(relay, "_waiting", relay.Waiting())
    monkeypatch.setattr(relay, "MOST_WAITING", 2)
    tasks = [submit.submit([Submission("test_quick")] * number) for number in (1, 2, 1)]
    assert relay._waiting.number == 2
    assert len(relay._waiting.take(within=0)) == 2
    assert relay._waiting.number == 0
    assert len(queries.undispatched(-1)) == sum(map(len, tasks))


def test_posts_of_a_moment_are_marked_together_and_who_has_begun_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MARK_SECONDS", 3.0)
    marked: list[int] = []
    mark = dispatches.mark_dispatched

    def counted(tickets: Sequence[Ticket]) -> None:
        mark(tickets)
        marked.append(len(tickets))

    monkeypatch.setattr(dispatches, "mark_dispatched", counted)
    tasks = [submit.submit([Submission("test_quick")])[0] for _ in range(3)]
    eventually(lambda: broker.depth(QUEUE) == 3)
    assert not marked
    assert life.claim(tasks[0].task_id)
    eventually(lambda: marked == [3], what="one mark for all")
    rows = [life.task(task.task_id) for task in tasks]
    assert [row.dispatches for row in rows] == [0, 1, 1]


def test_what_has_waited_for_long_is_left_to_the_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago = time.monotonic() - relay.FRESH_SECONDS
    with monkeypatch.context() as busy:
        busy.setattr(relay, "_start", lambda: None)
        busy.setattr(time, "monotonic", lambda: long_ago)
        [late] = submit.submit([Submission("test_quick")])
    [fresh] = submit.submit([Submission("test_quick")])
    eventually(lambda: life.task(fresh.task_id).dispatched_at)
    assert [message.headers["id"] for message in broker.take(QUEUE)] == [fresh.task_id]
    assert [ticket.task_id for ticket in queries.undispatched(-1)] == [late.task_id]


def test_a_wrong_submission_keeps_all_of_them_out() -> None:
    with pytest.raises(submit.BadParameters):
        submit.submit([Submission("test_quick"), Submission("bulk_insert", {"rows": 0})])
    assert life.everything() == ([], [], 0)
