"""A task's life by hand: what the door, a worker and the monitor do, one step at a time and without waiting."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uuid_utils
from sqlalchemy import Engine, func, select, text, update

import celery_config
import failpoints
from ledger import acceptance, db, dispatches, queries, transitions, xa
from ledger.acceptance import NewTask
from ledger.filters import Filter
from ledger.models import events, tasks
from ledger.presence import Presence
from ledger.queries import Standing
from ledger.states import State
from ledger.tickets import Ticket
from ledger.transitions import Claim
from tasks import catalog, heartbeat, lifecycle, resolve
from tasks.types import dataset
from tests.conftest import eventually

WORKER = "data@test"


# --- the door ------------------------------------------------------------------------------------------------------


def new(task_type: str = "test_quick", parameters: dict[str, Any] | None = None, **more: Any) -> NewTask:
    kind = catalog.get(task_type)
    given: dict[str, Any] = {
        "priority": "normal",
        "max_retries": kind.retry.max_retries,
        "timeout_seconds": kind.timeout_seconds,
    } | more
    return NewTask(
        task_id=str(uuid_utils.uuid7()),
        task_type=task_type,
        queue=celery_config.queue_name(kind.worker, given["priority"]),
        parameters=parameters or {},
        **given,
    )


def accept(task_type: str = "test_quick", parameters: dict[str, Any] | None = None, **more: Any) -> str:
    """A task on disk; its id."""
    task = new(task_type, parameters, **more)
    acceptance.accept([task])
    return task.task_id


def ticket(task_id: str) -> Ticket:
    """The ticket for a task's next attempt."""
    row = task(task_id)
    return Ticket(row.id, row.attempt + 1, row.task_type, row.queue, row.timeout_seconds)


# --- what workers say of themselves --------------------------------------------------------------------------------

DATA_QUEUES = ("data.high", "data.normal", "data.low")


def said(**more: Any) -> Presence:
    given: dict[str, Any] = {
        "name": WORKER,
        "kind": "data",
        "queues": DATA_QUEUES,
        "concurrency": 2,
        "free": 2,
        "reaches_broker": True,
        "leaving": False,
        "incarnation": str(uuid_utils.uuid7()),
    }
    return Presence(**given | more)


# --- a worker ------------------------------------------------------------------------------------------------------


def claim(task_id: str, attempt: int = 1, lease_seconds: float = 60) -> Claim:
    won = transitions.claim(task_id, attempt, worker=WORKER, lease_seconds=lease_seconds)
    assert won is not None
    return won


def stopped(task_id: str) -> tuple[State, State, int]:
    """Stop a task; its state before, its state now, its attempt."""
    moved = transitions.stop(task_id, remark="by a test")
    assert moved is not None
    return moved.before, moved.now, moved.attempt


def overtakes(task_id: str, better_queues: Sequence[str]) -> bool:
    """Whether a claim of it would count as an inversion now."""
    return db.transact(lambda connection: transitions.count_inversion(connection, task_id, better_queues))


def work(task_id: str, number: int = 1) -> None:
    """What a worker's child does with a ticket, in this process."""
    before = signal.getsignal(heartbeat.SIGNAL)
    heartbeat.install()
    try:
        lifecycle.run(task_id, number, worker=WORKER)
    finally:
        signal.signal(heartbeat.SIGNAL, before)


#: The exit code of a child that left before it was done, because it was told to.
LEFT = 3


@contextmanager
def child(act: Callable[[], None]) -> Iterator[int]:
    """A forked process that does something; its pid. It does not outlive the block."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except SystemExit:
            code = LEFT
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def worker_child(task_id: str, number: int = 1) -> Callable[[], None]:
    """For `child`: do the ticket's work as a worker's child does, signals included."""
    return worker_child_of([(task_id, number)])


def worker_child_of(tickets: Sequence[tuple[str, int]]) -> Callable[[], None]:
    """For `child`: do the work of some tickets, one after the other."""

    def act() -> None:
        lifecycle.install()
        for task_id, number in tickets:
            lifecycle.run(task_id, number, worker=WORKER)

    return act


def losing_the_ledger(while_there: Path, act: Callable[[], None]) -> Callable[[], None]:
    """For `child`: the same, but it cannot reach the ledger while a file is there; `has_missed_it` tells of a try."""

    def acting() -> None:
        reach = db.ledger

        def reach_unless_cut_off() -> Engine:
            if while_there.exists():
                _missed(while_there).touch()
                raise db.Unavailable("a test has cut the line")
            return reach()

        db.ledger = reach_unless_cut_off
        act()

    return acting


def has_missed_it(while_there: Path) -> bool:
    return _missed(while_there).exists()


def _missed(while_there: Path) -> Path:
    return while_there.with_suffix(".missed")


def obliging_worker() -> None:
    """For `child`: do every queued task as soon as it is there, without tickets."""
    lifecycle.install()
    pause = threading.Event()
    while True:
        for row in queries.page(Filter(states=[State.QUEUED])).rows:
            lifecycle.run(row.id, row.attempt + 1, worker=WORKER)
        pause.wait(0.02)


#: The steps of a transactional attempt in their order, each with the function that ends it.
STEPS: dict[str, tuple[Any, str]] = {
    "claim": (transitions, "claim"),
    "start": (xa.Branch, "start"),
    "progress": (transitions, "renew"),
    "prepare": (xa.Branch, "prepare"),
    "decide": (transitions, "decide"),
    "commit": (xa.Branch, "commit"),
    "finish": (transitions, "finish"),
}
#: What comes before them: a ticket is here, its task is not claimed.
TICKET = "ticket"
PLACES: dict[str, tuple[Any, str]] = {TICKET: (failpoints, "reach")} | STEPS
BEFORE_DECISION = ("claim", "start", "progress", "prepare")
AFTER_DECISION = ("decide", "commit", "finish")


def hit_after(step: str, number: signal.Signals, act: Callable[[], None]) -> Callable[[], None]:
    """For `child`: the same, but it gets a signal (SIGKILL, SIGSTOP, SIGQUIT) right after a step."""
    where, name = PLACES[step]

    def acting() -> None:
        original = getattr(where, name)

        def hit(*arguments: Any, **named: Any) -> Any:
            answer = original(*arguments, **named)
            setattr(where, name, original)
            os.kill(os.getpid(), number)
            return answer

        setattr(where, name, hit)
        act()

    return acting


def end_of(pid: int) -> int:
    """Wait until a child has ended; its exit code, or the negative number of the signal that killed it."""

    codes: list[int] = []

    def ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            codes.append(os.waitstatus_to_exitcode(status))
        return bool(found)

    eventually(ended, what=f"the end of child {pid}")
    return codes[0]


def is_frozen(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


# --- time, and the monitor -----------------------------------------------------------------------------------------


def let_pass(seconds: float) -> None:
    """Make every task of the ledger that much older, as if so much time had gone by."""
    columns = (tasks.c.due_at, tasks.c.dispatched_at, tasks.c.lease_until, tasks.c.updated_at)
    shift = text(f"INTERVAL {round(seconds * 1_000_000)} MICROSECOND")
    with db.transaction() as connection:
        connection.execute(update(tasks).values({column: column.op("-")(shift) for column in columns}))


def go_round() -> None:
    """One round of the monitor, without its broker."""
    resolve.expire_leases()
    resolve.finish_stops()
    resolve.settle_branches()
    resolve.finish_decided()


def rounds_until(condition: Callable[[], Any], *, what: str = "") -> None:
    """Let time pass and the monitor go round, until a condition holds."""

    def round_and_look() -> Any:
        let_pass(10)
        go_round()
        return condition()

    eventually(round_and_look, what=what)


def release(task_id: str) -> Ticket:
    """Let a waiting task's time come; its ticket."""
    let_pass(100_000)
    [found] = [each for each in dispatches.release_due() if each.task_id == task_id]
    return found


# --- what is to be seen --------------------------------------------------------------------------------------------


def task(task_id: str) -> Any:
    row = queries.task(task_id)
    assert row is not None
    return row


def standing(task_id: str) -> Standing:
    row = queries.standing(task_id)
    assert row is not None
    return row


def state(task_id: str) -> State | None:
    return queries.state(task_id)


def names_of_events(task_id: str) -> list[str]:
    return [row.event for row in queries.history(task_id)]


def remarks(task_id: str) -> str:
    return "\n".join(row.remark or "" for row in queries.history(task_id))


def rows(database: str = db.DATA) -> int:
    """Rows of the table `data` that everybody sees."""
    with db.reading(db.data(database)) as connection:
        return connection.execute(select(func.count()).select_from(dataset.data)).scalar_one()


def marked_rows(task_id: str) -> int:
    """Rows that a task says it has there."""
    return xa.remaining_rows(task_id, db.DATA)


def in_doubt(*databases: str) -> list[xa.BranchId]:
    """Our prepared branches, on all databases unless some are named."""
    return [branch for name in databases or db.data_names() for branch in xa.recover(name)]


def everything() -> tuple[Sequence[Any], Sequence[Any], int]:
    """All that the ledger and the table hold, for comparing before and after."""
    with db.reading() as connection:
        return (
            connection.execute(select(tasks).order_by(tasks.c.id)).all(),
            connection.execute(select(events).order_by(events.c.seq)).all(),
            rows(),
        )


def clear_up() -> None:
    """Roll back whatever branch a test left."""
    for branch in in_doubt():

        def gone(branch: xa.BranchId = branch) -> bool:
            kill_holder(branch.task_id, branch.database)
            return xa.settle(branch, commit=False)

        eventually(gone)


def kill_holder(task_id: str, database: str = db.DATA) -> bool:
    """End whatever connection holds the task's lock."""
    return xa.kill_holder(task_id, database, is_over=lambda: True)


def put(task_id: str, **columns: Any) -> None:
    """Force a task's row into a shape, past every guard."""
    with db.transaction() as connection:
        connection.execute(update(tasks).where(tasks.c.id == task_id).values(**columns))


def aware(moment: datetime) -> datetime:
    """A time of the ledger with the zone that it does not name."""
    return moment.replace(tzinfo=UTC)
