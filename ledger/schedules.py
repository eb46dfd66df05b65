"""Schedules: submissions that are made again at every tick of a cron expression, once for each tick.

    due: a row whose `due_at` has come ── its tick makes a task ───> fire       one transaction: the row goes on to the
              │                                                                 next tick, and the task is accepted
              │                          ── it makes none ───────> pass_over   the row goes on, with a remark
              └────────────────────────── the quota is used up ──> postpone    the same tick is looked at later

Any number of monitors may do this at once, and each may die or freeze anywhere:

- Each of the three is one guarded UPDATE that names the tick and the revision which its caller read. Whoever comes
  second, or with what was read before a change, changes nothing.
- The task is written in the transaction that moves the row on. Who dies before the commit leaves the tick as it was,
  and who dies after it leaves a task whose ticket is sent as any other that was missed.
- No two tasks can have the same tick of the same schedule: `firings` has a unique key.

Ticks are counted from the database's time, which the statement that finds the due rows reads with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from ledger import acceptance, cron, db, deliveries, firings, moving
from ledger.acceptance import NewTask
from ledger.callers import EVERYBODY, Caller
from ledger.cron import BadCron, UnknownZone
from ledger.misfires import Misfire, Overlap
from ledger.models import api_keys, schedules, tasks
from ledger.states import State

NOW = db.NOW
_NOW: ColumnElement[Any] = literal_column("UTC_TIMESTAMP(6)").label("now")

#: Schedules of one owner.
MOST_SCHEDULES = 1_000
#: Schedules that are looked at with one read.
DUE_AT_ONCE = 100


class UnknownSchedule(Exception):
    """There is no such schedule for this caller."""


class NameTaken(Exception):
    """The owner has another schedule of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a schedule {name!r} already")


class TooMany(Exception):
    """The owner has as many schedules as there may be."""

    def __init__(self) -> None:
        super().__init__(f"at most {MOST_SCHEDULES:,} schedules may be there")


# --- set by people -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """What people say of one. The task is a submission in the words of `tasks.submit`."""

    name: str
    cron: str
    timezone: str
    task: dict[str, Any]
    misfire_policy: Misfire = Misfire.RUN_ONCE
    overlap_policy: Overlap = Overlap.ALLOW
    enabled: bool = True


def create(schedule_id: str, new: Schedule, *, caller: Caller = EVERYBODY) -> None:
    """Raises BadCron for an expression that never comes, NameTaken, TooMany and what `deliveries.check` raises."""

    def work(connection: Connection) -> None:
        _check_webhook(connection, new.task, caller)
        mine = select(func.count()).where(schedules.c.owner == caller.owner)
        if connection.execute(mine).scalar_one() >= MOST_SCHEDULES:
            raise TooMany
        _write(
            connection,
            insert(schedules).values(
                id=schedule_id,
                owner=caller.owner,
                key_id=caller.key_id,
                created_at=NOW,
                changed_at=NOW,
                **vars(new),
                **_waiting(connection, new),
            ),
            new.name,
        )

    db.transact(work)


def change(
    schedule_id: str, changes: Mapping[str, Any], *, revision: int, caller: Caller = EVERYBODY
) -> bool:
    """Change some of what `Schedule` has; False when the row has been changed since that revision, or is gone.

    With another expression, zone or `enabled` it goes on with the next tick from now: what came meanwhile was not
    missed. Raises BadCron, NameTaken and what `deliveries.check` raises.
    """

    def work(connection: Connection) -> bool:
        guard = [schedules.c.id == schedule_id, schedules.c.revision == revision, mine(caller)]
        row = connection.execute(select(schedules).where(*guard).with_for_update()).first()
        if row is None:
            return False
        values = dict(changes)
        _check_webhook(connection, values.get("task", {}), caller)
        if {"cron", "timezone", "enabled"} & set(values):
            values |= _waiting(connection, _schedule_of(row, values))
        if row.owner == caller.owner:
            values["key_id"] = caller.key_id
        statement = update(schedules).where(*guard).values(revision=revision + 1, changed_at=NOW, **values)
        _write(connection, statement, values.get("name", row.name))
        return True

    return db.transact(work)


def _check_webhook(connection: Connection, task: Mapping[str, Any], caller: Caller) -> None:
    if webhook := task.get("webhook"):
        deliveries.check(connection, [webhook["url"]], caller=caller)


def _schedule_of(row: Row[Any], changes: Mapping[str, Any]) -> Schedule:
    return Schedule(**{name: changes.get(name, row._mapping[name]) for name in Schedule.__dataclass_fields__})


def _waiting(connection: Connection, told: Schedule) -> dict[str, Any]:
    """What it waits for from now on: nothing while it is not enabled."""
    now = connection.execute(select(_NOW)).scalar_one().replace(tzinfo=UTC)
    try:
        tick = cron.parsed(told.cron, told.timezone).following(now)
    except UnknownZone:
        if told.enabled:
            raise
        return {"next_tick": None, "due_at": None}
    if tick is None:
        raise BadCron(f"{told.cron!r} does not come within the next 50 years")
    waits_for = tick.replace(tzinfo=None) if told.enabled else None
    return {"next_tick": waits_for, "due_at": waits_for}


def _write(connection: Connection, statement: Any, name: str) -> None:
    try:
        connection.execute(statement)
    except IntegrityError as error:
        if db.error_code(error) == db.DUPLICATE:
            raise NameTaken(name) from error
        raise


def drop(schedule_id: str, *, caller: Caller = EVERYBODY) -> bool:
    """Let it make no task any more. Those that it has made stay."""
    with db.transaction() as connection:
        done = connection.execute(delete(schedules).where(schedules.c.id == schedule_id, mine(caller)))
    return done.rowcount == 1


# --- looked at -----------------------------------------------------------------------------------------------------


def mine(caller: Caller) -> ColumnElement[bool]:
    """The rows of `schedules` that are there for this caller."""
    return true() if caller.sees_all else schedules.c.owner == caller.owner


def get(schedule_id: str, *, caller: Caller = EVERYBODY) -> Row[Any]:
    """All of one, with the database's time and the state of its last task. Raises UnknownSchedule."""
    with db.reading() as connection:
        row = connection.execute(_shown(caller).where(schedules.c.id == schedule_id)).first()
    if row is None:
        raise UnknownSchedule(schedule_id)
    return row


def listed(*, after: str = "", limit: int, caller: Caller = EVERYBODY) -> Sequence[Row[Any]]:
    """Those behind an id, the oldest first."""
    statement = _shown(caller).where(schedules.c.id > after).order_by(schedules.c.id).limit(limit)
    with db.reading() as connection:
        return connection.execute(statement).all()


def next_ticks(row: Row[Any], number: int) -> list[datetime]:
    """The ticks that one which was shown waits for, in the ledger's form."""
    if row.next_tick is None:
        return []
    first = row.next_tick.replace(tzinfo=UTC)
    try:
        further = cron.parsed(row.cron, row.timezone).next(number - 1, first)
    except (BadCron, UnknownZone):  # it was known when the schedule was made, and is not any more
        further = []
    return [tick.replace(tzinfo=None) for tick in (first, *further)]


def _shown(caller: Caller) -> Select[Any]:
    last_state = tasks.c.state.label("last_state")
    whole = schedules.outerjoin(tasks, tasks.c.id == schedules.c.last_task_id)
    return select(schedules, last_state, _NOW).select_from(whole).where(mine(caller))


# --- at its ticks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    """A schedule whose tick has come, as it was read, at the database's time `now`."""

    schedule_id: str
    owner: str
    name: str
    cron: str
    timezone: str
    task: dict[str, Any]
    misfire_policy: Misfire
    overlap_policy: Overlap
    revision: int
    tick: datetime
    now: datetime
    key_id: str | None
    most_open_tasks: int | None
    mails_per_day: int | None


def due(limit: int = DUE_AT_ONCE) -> list[Due]:
    """Those to look at now, the longest due first, with the bounds of the key that set each."""
    with db.reading() as connection:
        rows = connection.execute(
            select(
                schedules,
                api_keys.c.most_open_tasks,
                api_keys.c.mails_per_day,
                _NOW,
            )
            .outerjoin(api_keys, api_keys.c.id == schedules.c.key_id)
            .where(schedules.c.due_at <= NOW)
            .order_by(schedules.c.due_at)
            .limit(limit)
        ).all()
    return [_due_of(row) for row in rows]


def _due_of(row: Row[Any]) -> Due:
    return Due(
        schedule_id=row.id,
        owner=row.owner,
        name=row.name,
        cron=row.cron,
        timezone=row.timezone,
        task=row.task,
        misfire_policy=Misfire(row.misfire_policy),
        overlap_policy=Overlap(row.overlap_policy),
        revision=row.revision,
        tick=row.next_tick.replace(tzinfo=UTC),
        now=row.now.replace(tzinfo=UTC),
        key_id=row.key_id,
        most_open_tasks=row.most_open_tasks,
        mails_per_day=row.mails_per_day,
    )


@dataclass(frozen=True)
class Fired:
    """What became of a tick: a task in this state, or none because a task of an earlier one has not ended."""

    state: State | None


def fire(
    seen: Due, task: NewTask, *, then: datetime | None, remark: str | None = None, caller: Caller
) -> Fired | None:
    """Let a tick become a task, and wait for the next one; None when somebody else was first. A `remark` says that
    ticks before it were passed over.

    Raises quotas.OverQuota and firings.TickTaken; then the tick is as it was.
    """

    def work(connection: Connection) -> Fired | None:
        if not _go_on(connection, seen, then, remark):
            return None
        still_open = firings.open_task(connection, seen.schedule_id) if seen.overlap_policy is Overlap.SKIP else None
        if still_open:
            words = f"the tick of {seen.tick:%Y-%m-%d %H:%M:%S} UTC made no task: task {still_open} has not ended"
            _remark(connection, seen.schedule_id, words)
            moving.count(connection, "ticks_passed_over", 1)
            return Fired(None)
        [state] = acceptance.accept_within(connection, [task], caller=caller)
        tick = task.firing.tick.replace(tzinfo=None) if task.firing and task.firing.tick else None
        connection.execute(
            update(schedules)
            .where(schedules.c.id == seen.schedule_id)
            .values(last_tick=tick, last_fired_at=NOW, last_task_id=task.task_id)
        )
        moving.count(connection, "ticks_fired", 1)
        if remark is not None:
            moving.count(connection, "ticks_passed_over", 1)
        return Fired(state)

    return db.transact(work)


def pass_over(seen: Due, *, then: datetime | None, remark: str) -> bool:
    """Wait for another tick; those up to now make no task."""

    def work(connection: Connection) -> bool:
        won = _go_on(connection, seen, then, remark)
        if won:
            moving.count(connection, "ticks_passed_over", 1)
        return won

    return db.transact(work)


def postpone(seen: Due, *, seconds: float, remark: str) -> bool:
    """Look at the same tick again later."""

    def work(connection: Connection) -> bool:
        return _set(connection, seen, {"due_at": db.later(seconds), "remark": remark, "remark_at": NOW})

    return db.transact(work)


def _go_on(connection: Connection, seen: Due, then: datetime | None, remark: str | None) -> bool:
    tick = then.replace(tzinfo=None) if then else None
    said = {} if remark is None else {"remark": remark, "remark_at": NOW}
    return _set(connection, seen, {"next_tick": tick, "due_at": tick, **said})


def _set(connection: Connection, seen: Due, values: dict[str, Any]) -> bool:
    """The guard of all three: the row is as it was read, and still due."""
    result = connection.execute(
        update(schedules)
        .where(
            schedules.c.id == seen.schedule_id,
            schedules.c.revision == seen.revision,
            schedules.c.next_tick == seen.tick.replace(tzinfo=None),
            schedules.c.due_at <= NOW,
        )
        .values(**values)
    )
    return result.rowcount == 1


def _remark(connection: Connection, schedule_id: str, words: str) -> None:
    connection.execute(
        update(schedules).where(schedules.c.id == schedule_id).values(remark=words, remark_at=NOW)
    )
