"""Running totals of what happens to tasks, added up from the audit trail, which costs neither its writers nor who asks.

    task_events, one after the other ── add_up, by the leading monitor ──> tallies, some hundred rows ──> /metrics

Each event is added once, because how far the adding has come stands in the ledger too and is written with what was
added. So the totals outlive every process, and no other process has to count for itself.

Events get their numbers before they are committed. A number that is missing is waited for as long as a transaction can
last (`db.SILENCE_SECONDS`, and some); then it is that of one which was rolled back.

When things fail: without a monitor the totals stand still, and the next one goes on where the last one ended. Events
that were purged before they were added are missing in the totals: that takes days without a monitor.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, case, func, literal_column, select
from sqlalchemy.dialects.mysql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, moving
from ledger.models import counters, events, tallies, tasks
from ledger.states import ACTIVE, MOVES, State

#: What is added up of events, besides the outcomes, which are the final states.
ACCEPTED, STARTED, RETRIED = "accepted", "claimed", "retried"
#: Times: from when a task was ready until an attempt began it, and from there until the attempt's end.
DELAY, RUN = "delay", "run"

#: The upper bounds of the times that are told apart, in milliseconds, and one for whatever is above.
BOUNDS_MS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000)
ENDLESS_MS = 2_147_483_647

#: Seconds after which a number that is missing will not come any more.
GAP_SECONDS = 10.0
#: Events that are read in one transaction.
CHUNK = 2_000

#: The running total that says which event was added last.
_LAST = "events_added_up"

#: What makes a task ready to start, and what ends an attempt.
_READY = sorted({"accepted"} | {move.name for move in MOVES.values() if move.enters is State.QUEUED})
_ENDS = sorted(move.name for move in MOVES.values() if move.leaves <= ACTIVE and move.enters not in ACTIVE)


@dataclass(frozen=True)
class Key:
    what: str
    subject: str
    priority: str = ""
    upto_ms: int = 0


@dataclass
class Tally:
    number: int = 0
    seconds: float = 0.0


def add_up(limit: int = CHUNK) -> int:
    """Add the next events; how many that were."""

    def work(connection: Connection) -> int:
        last = _locked_last(connection)
        rows = _settled(connection.execute(_after(last, limit)).all(), last)
        if rows:
            _write(connection, tallied(rows))
            moving.count(connection, _LAST, rows[-1].seq - last)
        return len(rows)

    return db.transact(work)


def _locked_last(connection: Connection) -> int:
    """Two who add at once, such as two monitors at a change of leaders, do it one after the other."""
    found = connection.execute(select(counters.c.value).where(counters.c.name == _LAST).with_for_update()).scalar()
    if found is None:
        moving.count(connection, _LAST, 0)
    return found or 0


def _after(last: int, limit: int) -> Select[Any]:
    age = func.timestampdiff(literal_column("MICROSECOND"), events.c.at, db.NOW)
    return (
        select(
            events.c.seq,
            events.c.event,
            events.c.state,
            tasks.c.task_type,
            tasks.c.priority,
            tasks.c.queue,
            age.label("age"),
            _microseconds_since().label("microseconds"),
        )
        # A task may be gone, but not its number.
        .select_from(events)
        .outerjoin(tasks, tasks.c.id == events.c.task_id)
        .where(events.c.seq > last)
        .order_by(events.c.seq)
        .limit(limit)
    )


def _microseconds_since() -> ColumnElement[Any]:
    """At a start since the task was ready, at an attempt's end since its start."""
    before = events.alias("before")

    def latest(*conditions: ColumnElement[bool]) -> ColumnElement[Any]:
        return (
            select(func.timestampdiff(literal_column("MICROSECOND"), func.max(before.c.at), events.c.at))
            .where(before.c.task_id == events.c.task_id, before.c.seq < events.c.seq, *conditions)
            .correlate(events)
            .scalar_subquery()
        )

    ready = latest(before.c.event.in_(_READY), before.c.state == State.QUEUED)
    started = latest(before.c.event == STARTED, before.c.attempt == events.c.attempt)
    return case((events.c.event == STARTED, ready), (events.c.event.in_(_ENDS), started))


def _settled(rows: Sequence[Any], last: int) -> Sequence[Any]:
    """Those before the first number that may still come."""
    for place, row in enumerate(rows):
        if row.seq != last + 1 and row.age < GAP_SECONDS * 1_000_000:
            return rows[:place]
        last = row.seq
    return rows


def tallied(rows: Iterable[Any]) -> Mapping[Key, Tally]:
    """What some events come to."""
    found: defaultdict[Key, Tally] = defaultdict(Tally)
    for row in rows:
        if row.task_type is None:
            continue
        if row.event in (ACCEPTED, STARTED, RETRIED):
            found[Key(row.event, row.task_type, row.priority)].number += 1
        if row.event in MOVES and State(row.state).is_final:
            found[Key(row.state, row.task_type, row.priority)].number += 1
        if row.microseconds is not None:
            what, subject = (DELAY, row.queue) if row.event == STARTED else (RUN, row.task_type)
            seconds = max(0, row.microseconds) / 1_000_000
            tally = found[Key(what, subject, upto_ms=_bound(seconds))]
            tally.number += 1
            tally.seconds += seconds
    return found


def _bound(seconds: float) -> int:
    place = bisect_left(BOUNDS_MS, seconds * 1000)
    return BOUNDS_MS[place] if place < len(BOUNDS_MS) else ENDLESS_MS


def _write(connection: Connection, found: Mapping[Key, Tally]) -> None:
    if not found:
        return
    row = upsert(tallies)
    added = {"number": tallies.c.number + row.inserted.number, "seconds": tallies.c.seconds + row.inserted.seconds}
    connection.execute(
        row.on_duplicate_key_update(added), [vars(key) | vars(tally) for key, tally in found.items()]
    )


def read() -> dict[Key, Tally]:
    """All of them."""
    with db.reading() as connection:
        rows = connection.execute(select(tallies)).all()
    return {Key(row.what, row.subject, row.priority, row.upto_ms): Tally(row.number, row.seconds) for row in rows}
