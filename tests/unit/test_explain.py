"""Why a task is where it is: each cause from evidence, and which of several is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ledger.backlog import MOST_COUNTED, Line
from ledger.branches import Sight
from ledger.leadership import Leader
from ledger.limits import Limit, Subject, Use, Whose
from ledger.pauses import Pause
from ledger.places import Standing
from ledger.presence import GONE_SECONDS, Presence, Worker
from ledger.states import State
from tasks.evidence import Broker, Evidence, Facts, told
from tasks.explain import Cause, explain, span
from tests.conftest import CHECKOUT

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ERROR = {"type": "ConnectionError", "message": "the other side hung up"}
LEADER = Leader("monitor@here", 1, 4.0)


def worker(name: str = "data@one", *, silent: float = 1, started: datetime = NOON, **more: Any) -> Worker:
    given: dict[str, Any] = {
        "name": name,
        "kind": "data",
        "queues": ("data.high", "data.normal", "data.low"),
        "concurrency": 2,
        "free": 0,
        "reaches_broker": True,
        "leaving": False,
        "incarnation": "x",
    }
    return Worker(Presence(**given | more), started, NOON, silent)


def evidence(state: State, *, workers: tuple[Worker, ...] = (), **more: Any) -> Evidence:
    """A task in a state; `more` are fields of the evidence or of the task's facts."""
    around = {name: more.pop(name) for name in list(more) if name in Evidence.__dataclass_fields__}
    given: dict[str, Any] = {
        "task_id": "id",
        "task_type": "bulk_insert",
        "queue": "data.normal",
        "state": state,
        "attempt": 1,
        "retries": 0,
        "max_retries": 3,
        "in_state_seconds": 30.0,
    }
    return Evidence(task=Facts(**given | more), workers=workers, **{"leader": LEADER} | around)


def queued(**more: Any) -> Evidence:
    """A task whose ticket waits in a healthy system where every place is taken."""
    given: dict[str, Any] = {
        "workers": (worker(),),
        "broker": Broker(answers=True, ready=3),
        "line": Line(better=0, earlier=2),
        "sent_seconds": 29.0,
        "attempt": 0,
    }
    return evidence(State.QUEUED, **given | more)


def running(**more: Any) -> Evidence:
    given: dict[str, Any] = {
        "workers": (worker(),),
        "worker": "data@one",
        "started_at": NOON + timedelta(seconds=1),
        "started_seconds": 30.0,
        "lease_left_seconds": 12.0,
    }
    return evidence(State.RUNNING, **given | more)


INSERTS, ADAS = Whose(Subject.TYPE, "bulk_insert"), Whose(Subject.OWNER, "ada")


def throttled(*uses: Use, ahead: int = 0, **more: Any) -> Evidence:
    return evidence(State.THROTTLED, standing=Standing(uses, INSERTS, ahead), **more)


FULL, FREE = Use(Limit(INSERTS, 3), running=3, starts=0), Use(Limit(INSERTS, 3), running=2, starts=0)
USED_UP = Use(Limit(ADAS, starts_per_minute=1_000), running=0, starts=1_000)

CASES: list[tuple[Evidence, Cause, str]] = [
    (queued(), Cause.IN_LINE, "2 tasks go before it, 0 of better priority and 2 earlier in data.normal; 2 of 2 places"),
    (queued(line=Line(1, 0)), Cause.IN_LINE, "1 task goes before it, 1 of better priority"),
    (queued(line=Line(MOST_COUNTED, 0)), Cause.IN_LINE, "More than 100,000 tasks go before it"),
    (queued(line=Line(0, 0)), Cause.IN_LINE, "It is the next of data.normal; 2 of 2 places are taken."),
    (queued(line=Line(0, 0), workers=(worker(free=1),)), Cause.STARTING, "a worker is about to take it"),
    (queued(pause=Pause(NOON, None)), Cause.QUEUE_PAUSED, "has been paused since 2026-01-01 12:00:00 UTC."),
    (queued(pause=Pause(NOON, "the archive is full.")), Cause.QUEUE_PAUSED, "12:00:00 UTC: the archive is full."),
    (queued(broker=Broker(False, fault="ConnectionRefusedError")), Cause.BROKER_UNREACHABLE, "ConnectionRefusedError"),
    (queued(broker=Broker(True, 0, queue_fault="no process")), Cause.QUEUE_SILENT, "data.normal takes and gives no"),
    (queued(workers=()), Cause.NO_WORKER, "No worker takes tickets from data.normal: none has been heard of for a day"),
    (queued(workers=(worker(silent=12),)), Cause.NO_WORKER, "data@one was last heard of 12 s ago"),
    (queued(workers=(worker(leaving=True),)), Cause.NO_WORKER, "data@one is leaving"),
    (queued(workers=(worker(queues=("data.high",)),)), Cause.NO_WORKER, "data@one takes tickets only from data.high"),
    (queued(workers=(worker(reaches_broker=False),)), Cause.WORKERS_CUT_OFF, "No worker of data.normal reaches"),
    (queued(sent_seconds=None, in_state_seconds=1.0), Cause.TICKET_NOT_SENT, "not been sent to RabbitMQ yet, 1.0 s"),
    (queued(broker=Broker(True, ready=0)), Cause.TICKET_LOST, "does not hold its ticket any more, which it"),
    (queued(resent_seconds=3.0), Cause.TICKET_RESENT, "has been sent again 3.0 s ago; 2 tasks go before it"),
    (evidence(State.SCHEDULED, due_in_seconds=90.0), Cause.WAITS_FOR_TIME, "which comes in 90 s"),
    (evidence(State.SCHEDULED, due_in_seconds=-0.1), Cause.WAITS_FOR_TIME, "it is about to be queued"),
    (
        evidence(State.RETRYING, due_in_seconds=2.0, retries=1, error=ERROR),
        Cause.WAITS_FOR_RETRY,
        "It waits for retry 1 of 3 after ConnectionError (the other side hung up), which comes in 2.0 s.",
    ),
    (evidence(State.RETRYING, due_in_seconds=-9.0, error=ERROR, leader=None), Cause.MONITOR_MISSING, "to queue it"),
    (throttled(FULL, ahead=1), Cause.LIMIT_REACHED, "3 of at most 3 bulk_insert tasks run; 1 task waits before it."),
    (throttled(USED_UP), Cause.LIMIT_REACHED, "1,000 of at most 1,000 tasks of ada have started within a minute;"),
    (throttled(FULL, USED_UP, ahead=7), Cause.LIMIT_REACHED, "run, and 1,000 of at most 1,000 tasks of ada have"),
    (throttled(FREE), Cause.LIMIT_REACHED, "There is a place again under its limits: it is about to be queued."),
    (throttled(FREE, ahead=2), Cause.LIMIT_REACHED, "about to be queued, with 2 tasks before it."),
    (throttled(FREE, leader=None), Cause.MONITOR_MISSING, "No monitor is at work to let it in, which was due 30 s"),
    (
        evidence(State.BLOCKED, parents={"x": State.RUNNING, "y": State.SUCCEEDED}),
        Cause.WAITS_FOR_TASKS,
        "It waits for 1 task to end: x (running).",
    ),
    (
        evidence(State.BLOCKED, parents=dict.fromkeys("abcde", State.QUEUED)),
        Cause.WAITS_FOR_TASKS,
        "It waits for 5 tasks to end: a (queued), b (queued), c (queued), 2 more.",
    ),
    (evidence(State.BLOCKED, parents={"x": State.SUCCEEDED}), Cause.WAITS_FOR_TASKS, "it is about to be told"),
    (evidence(State.BLOCKED, parents={"x": State.FAILED}, leader=None), Cause.MONITOR_MISSING, "to tell it that"),
    (evidence(State.EXPIRED), Cause.EXPIRED, "It expired 30 s ago"),
    (running(), Cause.RUNNING, "Attempt 1 has been running on data@one for 30 s."),
    (running(progress_done=500, progress_total=2_000), Cause.RUNNING, "500 of 2,000 done (25 %)"),
    (running(workers=(worker(silent=20),)), Cause.RUNNING, "not been heard of for 20 s, but the attempt goes on"),
    (running(workers=(worker(silent=20),), lease_left_seconds=3.0), Cause.WORKER_LOST, "heard of for 20 s: it died"),
    (running(workers=(worker(started=NOON + timedelta(seconds=9)),)), Cause.WORKER_LOST, "started anew"),
    (running(workers=(), lease_left_seconds=3.0), Cause.WORKER_LOST, "Worker data@one, which had attempt 1, is gone."),
    (running(lease_left_seconds=-4.0), Cause.LEASE_EXPIRED, "its lease ended 4.0 s ago; its worker is there"),
    (evidence(State.COMMITTING, in_state_seconds=0.1, worker="w"), Cause.COMMITTING, "attempt 1 on w carries that out"),
    (
        evidence(State.COMMITTING, databases={"data": Sight.PREPARED, "archive": Sight.AWAY}),
        Cause.IN_DOUBT,
        "its branch on database data is prepared and not committed; database archive does not answer",
    ),
    (
        evidence(State.REVOKING, databases={"data": Sight.HELD, "archive": Sight.CLEAR}),
        Cause.BEING_STOPPED,
        "is being undone: a connection still holds its lock on database data.",
    ),
    (evidence(State.SUCCEEDED), Cause.FINISHED, "It succeeded 30 s ago in attempt 1."),
    (evidence(State.FAILED, attempt=4, error=ERROR), Cause.FINISHED, "after 4 attempts: ConnectionError (the other"),
    (evidence(State.FAILED, attempt=0, error=ERROR), Cause.FINISHED, "before any attempt began: ConnectionError"),
    (evidence(State.REVOKED, undone={"rows_remaining": 0}), Cause.FINISHED, "0 rows of it remain"),
    (evidence(State.REVOKED, attempt=0), Cause.FINISHED, "before any attempt began"),
]


@pytest.mark.parametrize(("found", "cause", "words"), CASES, ids=[cause for _, cause, _ in CASES])
def test_the_evidence_names_the_cause(found: Evidence, cause: Cause, words: str) -> None:
    told = explain(found)
    assert (told.cause, words in told.sentence) == (cause, True), told
    assert told.sentence.endswith(".") and told.next.endswith((".", "worker", "monitor")), told


def test_every_cause_is_told_by_some_evidence() -> None:
    assert {cause for _, cause, _ in CASES} == set(Cause)


#: Evidence for everything that can keep a queued task waiting at once, and what takes each away again.
CURES: list[tuple[Cause, dict[str, Any]]] = [
    (Cause.QUEUE_PAUSED, {"pause": None}),
    (Cause.BROKER_UNREACHABLE, {"broker": Broker(True, ready=0)}),
    (Cause.NO_WORKER, {"workers": (worker(reaches_broker=False),)}),
    (Cause.WORKERS_CUT_OFF, {"workers": (worker(),)}),
    (Cause.TICKET_LOST, {"broker": Broker(True, ready=1)}),
    (Cause.TICKET_RESENT, {"resent_seconds": None}),
    (Cause.IN_LINE, {"line": Line(0, 0), "workers": (worker(free=1),)}),
]


def test_of_several_causes_the_one_to_be_cured_first_is_told() -> None:
    pause = Pause(NOON, None)
    found = queued(pause=pause, workers=(), broker=Broker(False, fault="TimeoutError"), resent_seconds=5.0)
    for cause, cure in CURES:
        assert explain(found).cause is cause
        found = replace(found, **cure)
    assert explain(found).cause is Cause.STARTING


def test_the_other_causes_are_named_beside_it() -> None:
    told = explain(queued(workers=(), broker=Broker(True, ready=0)))
    assert (told.cause, told.also) == (Cause.NO_WORKER, (Cause.TICKET_LOST, Cause.IN_LINE))
    told = explain(running(workers=(), lease_left_seconds=-9.0, leader=None))
    assert (told.cause, told.also) == (Cause.WORKER_LOST, (Cause.LEASE_EXPIRED, Cause.MONITOR_MISSING))


def test_a_worker_that_is_not_heard_of_is_not_dead_while_its_attempt_renews_the_lease() -> None:
    silent = (worker(silent=GONE_SECONDS + 1),)
    assert explain(running(workers=silent, lease_left_seconds=11.0, lease_seconds=15)).cause is Cause.RUNNING
    assert explain(running(workers=silent, lease_left_seconds=7.0, lease_seconds=15)).cause is Cause.WORKER_LOST


def test_a_ticket_that_may_be_in_somebodys_hands_is_not_called_lost() -> None:
    assert explain(queued(broker=Broker(True, ready=0), sent_seconds=1.0)).cause is Cause.IN_LINE


_SPAN = some.floats(-100, 100) | some.none()
_WORKER = some.builds(
    worker, silent=some.floats(0, 30), leaving=some.booleans(), reaches_broker=some.booleans()
)
_EVIDENCE = some.builds(
    evidence,
    some.sampled_from(State),
    workers=some.lists(_WORKER, max_size=2).map(tuple),
    broker=some.none() | some.builds(Broker, some.booleans(), some.integers(0, 2)),
    pause=some.none() | some.just(Pause(NOON, "why")),
    line=some.none() | some.builds(Line, some.integers(0, 2), some.integers(0, 2)),
    leader=some.none() | some.just(LEADER),
    standing=some.none() | some.sampled_from([Standing((), None, 0), Standing((FULL, USED_UP), ADAS, 3)]),
    parents=some.dictionaries(some.sampled_from("ab"), some.none() | some.sampled_from(State)),
    databases=some.dictionaries(some.sampled_from(["data", "archive"]), some.sampled_from(Sight)),
    in_state_seconds=some.floats(0, 100),
    due_in_seconds=_SPAN,
    sent_seconds=_SPAN,
    lease_left_seconds=_SPAN,
    resent_seconds=_SPAN,
    worker=some.sampled_from(["data@one", "data@two", None]),
    error=some.none() | some.just(ERROR),
)


@given(_EVIDENCE)
def test_there_is_always_a_cause_and_they_stand_in_the_order_of_importance(found: Evidence) -> None:
    reason = explain(found)
    causes = [reason.cause, *reason.also]
    assert causes == sorted(set(causes), key=list(Cause).index)
    assert "None" not in reason.sentence or found.task.worker is None
    assert told(found)["queue"] == "data.normal"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0.0 s"), (1.24, "1.2 s"), (59.6, "60 s"), (600, "10 min"), (7_200, "2 h"), (864_000, "10 days")],
)
def test_spans_are_told_as_one_says_them(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_the_documentation_has_every_cause_in_its_order() -> None:
    lines = (CHECKOUT / "docs" / "reference" / "causes.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("`")[1] for line in lines if line.startswith("| `")][1:] == [cause.value for cause in Cause]
