"""Gathers the evidence that `tasks.explain` judges by, in a bounded time whatever is away or frozen.

The ledger has to answer; RabbitMQ and the business databases are asked beside it, each with a short patience, and only
when the task's state depends on them. What they do not say in time is not known.

The task may move while others are asked about it. So its row is read first and again at the end, and evidence that it
has left behind is gathered anew. An empty queue is looked at twice: a ticket may just be in a worker's hands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from amqp.exceptions import AccessRefused, AMQPError, NotFound
from kombu import Connection
from sqlalchemy import Row, Select, func, literal_column, select

import celery_config
from ledger import backlog, branches, db, firings, leadership, pauses, places, presence, queries
from ledger.backlog import Line
from ledger.branches import Sight
from ledger.callers import EVERYBODY, Caller, owned
from ledger.leadership import Leader
from ledger.models import events, tasks
from ledger.pauses import Pause
from ledger.presence import Worker
from ledger.states import State
from settings import settings
from tasks.broker import has_no_process
from tasks.evidence import Broker, Evidence, Facts

T = TypeVar("T")

#: Seconds that RabbitMQ has for each step of its answer.
BROKER_SECONDS = 0.6
#: Seconds that all others together are waited for.
OTHERS_SECONDS = 1.2
#: Seconds between two looks at a task whose ticket seems to be lost.
SECOND_LOOK_SECONDS = 0.3
#: How often a task that moves is followed before the answer is given by what was seen last.
MOST_LOOKS = 3


@dataclass(frozen=True)
class Surroundings:
    """What many tasks have in common at one moment."""

    workers: tuple[Worker, ...]
    leader: Leader | None
    #: The paused queues.
    pauses: Mapping[str, Pause]

    def better_queues(self, queue: str) -> list[str]:
        """Those that go before a queue; of a paused one nothing starts."""
        return [name for name in celery_config.better_queues(queue) if name not in self.pauses]


def surroundings() -> Surroundings:
    return Surroundings(tuple(presence.known()), leadership.leader(), pauses.paused())


def about(task_id: str, *, caller: Caller = EVERYBODY) -> Evidence | None:
    """Everything about one task; None when there is no such task. Raises `db.Unavailable` without the ledger."""
    row = _row(task_id, caller=caller)
    for _ in range(MOST_LOOKS):
        if row is None:
            return None
        found = _gather(row, caller=caller)
        before, row = row, _look_again(task_id, found, caller=caller)
        if row is not None and _place(row) == _place(before):
            break
    return found


def _look_again(task_id: str, found: Evidence, *, caller: Caller) -> Row[Any] | None:
    if found.broker is not None and found.broker.ready == 0:
        time.sleep(SECOND_LOOK_SECONDS)
    return _row(task_id, caller=caller)


def _place(row: Row[Any]) -> tuple[Any, ...]:
    return (row.state, row.attempt, row.dispatched_at, row.due_at)


def _gather(row: Row[Any], *, caller: Caller) -> Evidence:
    facts = facts_of(row)
    askers = ThreadPoolExecutor(max_workers=1 + len(facts.participants))
    try:
        broker = askers.submit(ask_broker, [facts.queue]) if facts.state is State.QUEUED else None
        databases = _ask_databases(askers, facts)
        until = time.monotonic() + OTHERS_SECONDS
        around = surroundings()
        found = Evidence(
            task=facts,
            workers=around.workers,
            leader=around.leader,
            lease_seconds=settings().lease_seconds,
            firing=firings.of(row.id, caller=caller),
        )
        if broker is not None:
            found = replace(
                found,
                line=backlog.line(row, around.better_queues(facts.queue)),
                pause=around.pauses.get(facts.queue),
                resent_seconds=resent_seconds([row]).get(row.id),
                broker=_in_time(broker, until, _SILENT_BROKER).get(facts.queue, _SILENT),
            )
        if facts.state is State.THROTTLED:
            found = replace(found, standing=places.standing(row))
        if facts.state is State.BLOCKED:
            parents = queries.kin(row.id, caller=caller).parents
            found = replace(found, parents={each.id: _state(each.state) for each in parents})
        sights = {name: _in_time(asked, until, Sight.AWAY) for name, asked in databases.items()}
        return replace(found, databases=sights)
    finally:
        # Whoever is still asked has a deadline of its own and is not waited for.
        askers.shutdown(wait=False)


def about_some(seen: Sequence[Row[Any]]) -> list[Evidence]:
    """Evidence for several tasks at once, whose `rows` were just read: those of a queue from its head, in its order."""
    around, resent = surroundings(), resent_seconds(seen)
    ready = [row for row in seen if row.state == State.QUEUED]
    queues = sorted({row.queue for row in ready})
    broker = ask_broker(queues) if queues else {}
    lines, sights = _lines(ready, around), _Sights()
    return [
        Evidence(
            task=facts_of(row),
            workers=around.workers,
            leader=around.leader,
            lease_seconds=settings().lease_seconds,
            broker=broker.get(row.queue) if row.state == State.QUEUED else None,
            pause=around.pauses.get(row.queue) if row.state == State.QUEUED else None,
            line=lines.get(row.id),
            standing=places.standing(row) if row.state == State.THROTTLED else None,
            resent_seconds=resent.get(row.id),
            databases=sights.of(row),
        )
        for row in seen
    ]


def _lines(ready: Sequence[Row[Any]], around: Surroundings) -> dict[str, Line]:
    """Where tasks stand that stand at the head of their queues."""
    lines: dict[str, Line] = {}
    for queue in {row.queue for row in ready}:
        better = backlog.ticketed(around.better_queues(queue))
        ticketed = [row for row in ready if row.queue == queue and row.dispatched_at is not None]
        lines |= {row.id: Line(better, place) for place, row in enumerate(ticketed)}
        rest = [row for row in ready if row.queue == queue and row.dispatched_at is None]
        if rest:
            behind = Line(better, backlog.ticketed([queue]))
            lines |= {row.id: behind for row in rest}
    return lines


class _Sights:
    """What databases show of several tasks. One that is away is asked once."""

    def __init__(self) -> None:
        self._away: set[str] = set()

    def of(self, row: Row[Any]) -> dict[str, Sight]:
        if row.state not in (State.COMMITTING, State.REVOKING):
            return {}
        return {name: self._look(row.id, name) for name in row.participants or ()}

    def _look(self, task_id: str, name: str) -> Sight:
        sight = Sight.AWAY if name in self._away else branches.look(task_id, name)
        if sight is Sight.AWAY:
            self._away.add(name)
        return sight


def _ask_databases(askers: ThreadPoolExecutor, facts: Facts) -> dict[str, Future[Sight]]:
    if facts.state not in (State.COMMITTING, State.REVOKING):
        return {}
    return {name: askers.submit(branches.look, facts.task_id, name) for name in facts.participants}


def _in_time(asked: Future[T], until: float, otherwise: T) -> T:
    try:
        return asked.result(timeout=max(0.0, until - time.monotonic()))
    except TooSlow:
        return otherwise


# --- the row ---------------------------------------------------------------------------------------------------------


def _since(moment: Any, name: str) -> Any:
    """Microseconds since a moment, negative for one to come."""
    return func.timestampdiff(literal_column("MICROSECOND"), moment, db.NOW).label(name)


_COLUMNS = (
    tasks.c.id,
    tasks.c.owner,
    tasks.c.task_type,
    tasks.c.queue,
    tasks.c.state,
    tasks.c.attempt,
    tasks.c.retries,
    tasks.c.max_retries,
    tasks.c.worker,
    tasks.c.started_at,
    tasks.c.dispatched_at,
    tasks.c.due_at,
    tasks.c.progress_done,
    tasks.c.progress_total,
    tasks.c.error,
    tasks.c.undone,
    tasks.c.participants,
    _since(tasks.c.updated_at, "in_state"),
    _since(tasks.c.due_at, "due"),
    _since(tasks.c.expires_at, "expires"),
    _since(tasks.c.dispatched_at, "sent"),
    _since(tasks.c.started_at, "started"),
    _since(tasks.c.lease_until, "lease_over"),
)


def rows() -> Select[Any]:
    """What `facts_of` reads; which tasks, the caller says."""
    return select(*_COLUMNS)


def _row(task_id: str, *, caller: Caller) -> Row[Any] | None:
    with db.reading() as connection:
        return connection.execute(rows().where(tasks.c.id == task_id, owned(caller))).first()


def facts_of(row: Row[Any]) -> Facts:
    return Facts(
        task_id=row.id,
        task_type=row.task_type,
        queue=row.queue,
        state=State(row.state),
        attempt=row.attempt,
        retries=row.retries,
        max_retries=row.max_retries,
        in_state_seconds=row.in_state / 1_000_000,
        due_in_seconds=_seconds(row.due, -1),
        expires_in_seconds=_seconds(row.expires, -1),
        sent_seconds=_seconds(row.sent),
        started_seconds=_seconds(row.started),
        started_at=row.started_at,
        lease_left_seconds=_seconds(row.lease_over, -1),
        worker=row.worker,
        progress_done=row.progress_done,
        progress_total=row.progress_total,
        error=row.error,
        undone=row.undone,
        participants=tuple(row.participants or ()),
    )


def _state(word: str | None) -> State | None:
    return State(word) if word else None


def _seconds(microseconds: int | None, sign: int = 1) -> float | None:
    return None if microseconds is None else sign * microseconds / 1_000_000


def resent_seconds(waiting: Sequence[Row[Any]]) -> dict[str, float]:
    """For those of these tasks whose lost ticket was sent again while they wait: seconds since."""
    by_id = {row.id: row for row in waiting}
    if not by_id:
        return {}
    with db.reading() as connection:
        found = connection.execute(
            select(events.c.task_id, events.c.attempt, _since(events.c.at, "ago"))
            .where(events.c.task_id.in_(sorted(by_id)), events.c.event == "redispatched")
            .order_by(events.c.seq)
        ).all()
    # An older wait's is of an older attempt, or from before the task entered this state.
    return {
        row.task_id: row.ago / 1_000_000
        for row in found
        if row.attempt == by_id[row.task_id].attempt and row.ago <= by_id[row.task_id].in_state
    }


# --- RabbitMQ --------------------------------------------------------------------------------------------------------

_SILENT = Broker(answers=False, fault="no answer in time")
_SILENT_BROKER: dict[str, Broker] = {}


def ask_broker(queues: Iterable[str]) -> dict[str, Broker]:
    """How many tickets each of these queues holds."""
    found = _depths(queues)
    return {name: _looked_into(name, each) if each.ready == 0 else each for name, each in found.items()}


def _depths(queues: Iterable[str]) -> dict[str, Broker]:
    try:
        connection = _connected()
    except (AMQPError, OSError) as error:
        return {name: Broker(answers=False, fault=type(error).__name__) for name in queues}
    try:
        return {name: _asked(lambda name=name: _ready(connection, name)) for name in queues}  # type: ignore[misc]
    finally:
        connection.collect()


def _looked_into(name: str, seen: Broker) -> Broker:
    """An empty queue may be a dead one; the question costs it a connection of its own."""
    try:
        connection = _connected()
    except (AMQPError, OSError) as error:
        return Broker(answers=False, fault=type(error).__name__)
    try:
        return replace(seen, queue_fault=_DEAD if has_no_process(connection.channel(), name) else "")
    except (NotFound, AccessRefused):
        # There is none, or this process may not look into it: the monitor may.
        return seen
    except (AMQPError, OSError) as error:
        return replace(seen, queue_fault=f"it gives no answer, {type(error).__name__}")
    finally:
        connection.collect()


_DEAD = "no process of it runs"


def _connected() -> Any:
    """To the first node that answers, without kombu's second try, which waits two seconds before it."""
    *others, last = settings().broker_urls
    for url in others:
        with suppress(AMQPError, OSError):
            return _connected_to(url)
    return _connected_to(last)


def _connected_to(url: str) -> Any:
    options = {"read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    client = Connection(url, connect_timeout=BROKER_SECONDS, transport_options=options)
    return client.transport.establish_connection()


def _asked(ready: Callable[[], int]) -> Broker:
    try:
        return Broker(answers=True, ready=ready())
    except (AMQPError, OSError) as error:
        return Broker(answers=False, fault=type(error).__name__)


def _ready(connection: Any, name: str) -> int:
    """0 for a queue that is gone."""
    channel = connection.channel()
    try:
        ready = int(channel.queue_declare(name, passive=True).message_count)
    except NotFound:
        return 0
    channel.close()
    return ready

