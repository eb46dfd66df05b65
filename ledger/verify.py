"""What must hold of the ledger and of the business databases, each broken rule as a sentence with its task.

It reads the tables by SQL and knows nothing of the processes, so that it may be asked at any time: of a system at work,
after a crash, after a backup was restored. What is on its way has `SETTLING_SECONDS` to arrive before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine, and_, exists, func, literal, or_, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from ledger import db, outbox, places, xa
from ledger.db import earlier
from ledger.dependents import IGNORE
from ledger.models import dependencies, events, marker, schedules, tasks, webhook_deliveries
from ledger.states import FINAL, MOVES, WAITING, State
from ledger.xa import BranchId

#: Seconds that whatever is being moved, committed or undone has before it counts as stuck.
SETTLING_SECONDS = 60.0
#: Rows that are compared between two servers at a time.
CHUNK = 2_000

_FINAL = sorted(FINAL)
#: An event that is no move is a remark, and moves nothing.
_IS_MOVE = events.c.event.in_(["accepted", *sorted(MOVES)])
_STEPS = [(move.name, leaves, move.enters) for move in MOVES.values() for leaves in sorted(move.leaves)]


@dataclass(frozen=True)
class Violation:
    rule: str
    #: None when no single task is meant.
    task_id: str | None
    words: str


@dataclass(frozen=True)
class Rule:
    """`name` is how the rule is told, `holds` what it says; `broken` finds where it does not."""

    name: str
    holds: str
    broken: Callable[[], Iterator[tuple[str | None, str]]]


def violations(rule: Rule) -> Iterator[Violation]:
    for task_id, words in rule.broken():
        yield Violation(rule.name, task_id, words)


def rules(ledger: Engine, databases: Mapping[str, Engine]) -> list[Rule]:
    """All rules, those of the ledger first."""
    return [
        Rule("ended_once", "a task ends once, and once more for each replay", _asked(ledger, ended_too_often)),
        Rule("attempts", "attempts are 1, 2, ..., each claimed once", _asked(ledger, attempts_miscounted)),
        Rule("moves", "every step of a task is a move that exists", _asked(ledger, moves_that_do_not_exist)),
        Rule("audit", "the last event leads to the state", _asked(ledger, rows_that_differ_from_their_events)),
        Rule("events", "every event belongs to a task", _asked(ledger, events_of_nobody)),
        Rule("order", "no task starts before those that it depends on", _asked(ledger, started_before_others)),
        Rule("webhooks", "what a webhook wants to know is told to it, and nothing else", _asked(ledger, untold)),
        Rule("moving", "nothing that should move stands still", _asked(ledger, standing_still)),
        *(
            Rule(f"rows:{name}", f"rows in {name} and success go together", _compared(ledger, engine, name))
            for name, engine in databases.items()
        ),
        *(
            Rule(f"in_doubt:{name}", f"no branch in {name} waits for its decision", _doubted(ledger, engine, name))
            for name, engine in databases.items()
        ),
    ]


Found = Iterator[tuple[str | None, str]]


def _asked(ledger: Engine, rule: Callable[[Connection], Found]) -> Callable[[], Found]:
    def broken() -> Found:
        with db.reading(ledger) as books:
            yield from rule(books)

    return broken


def _compared(ledger: Engine, database: Engine, name: str) -> Callable[[], Found]:
    def broken() -> Found:
        with db.reading(ledger) as books, db.reading(database) as rows:
            yield from successes_without_rows(books, rows, name)
            yield from rows_without_success(books, rows, name)

    return broken


def _doubted(ledger: Engine, database: Engine, name: str) -> Callable[[], Found]:
    def broken() -> Found:
        with db.reading(ledger) as books, db.reading(database) as rows:
            yield from branches_in_doubt(books, xa.prepared(rows, name))

    return broken


# --- the ledger alone ----------------------------------------------------------------------------------------------


def ended_too_often(books: Connection) -> Found:
    """Only a replay takes a task out of its end: that it does so from there is what the rule `moves` says."""
    endings = func.count(func.if_(events.c.state.in_(_FINAL), 1, None))
    replays = func.count(func.if_(events.c.event == "replayed", 1, None))
    wanted = replays + func.if_(tasks.c.state.in_(_FINAL), 1, 0)
    found = books.execute(
        select(tasks.c.id, tasks.c.state, endings.label("endings"), replays.label("replays"))
        .outerjoin(events, and_(events.c.task_id == tasks.c.id, _IS_MOVE))
        .group_by(tasks.c.id, tasks.c.state)
        .having(endings != wanted)
    )
    for row in found:
        yield row.id, f"is {row.state}, has ended {row.endings} times and was replayed {row.replays} times"


def attempts_miscounted(books: Connection) -> Found:
    claims, different = func.count(events.c.seq), func.count(events.c.attempt.distinct())
    first, last = func.min(events.c.attempt), func.max(events.c.attempt)
    found = books.execute(
        select(tasks.c.id, tasks.c.attempt, claims.label("claims"), first.label("first"), last.label("last"))
        .outerjoin(events, and_(events.c.task_id == tasks.c.id, events.c.event == "claimed"))
        .group_by(tasks.c.id, tasks.c.attempt)
        .having(or_(claims != tasks.c.attempt, different != claims, and_(claims > 0, or_(first != 1, last != claims))))
    )
    for row in found:
        yield row.id, f"is at attempt {row.attempt}, but its {row.claims} claims go from {row.first} to {row.last}"


def moves_that_do_not_exist(books: Connection) -> Found:
    before = func.lag(events.c.state).over(partition_by=events.c.task_id, order_by=events.c.seq)
    told = select(events.c.task_id, events.c.event, before.label("before"), events.c.state)
    steps = told.where(_IS_MOVE).cte("steps")
    is_beginning = and_(steps.c.event == "accepted", steps.c.before.is_(None))
    is_move = and_(
        steps.c.before.is_not(None), tuple_(steps.c.event, steps.c.before, steps.c.state).in_(_STEPS)
    )
    for row in books.execute(select(steps).where(~or_(is_beginning, is_move))):
        yield row.task_id, f"'{row.event}' led from {row.before} to {row.state}, which is no move"


def rows_that_differ_from_their_events(books: Connection) -> Found:
    last = select(events.c.task_id, func.max(events.c.seq).label("seq")).where(_IS_MOVE)
    latest, told = last.group_by(events.c.task_id).subquery(), events.alias()
    found = books.execute(
        select(tasks.c.id, tasks.c.state, told.c.state.label("told"))
        .outerjoin(latest, latest.c.task_id == tasks.c.id)
        .outerjoin(told, told.c.seq == latest.c.seq)
        .where(or_(told.c.state.is_(None), told.c.state != tasks.c.state))
    )
    for row in found:
        yield row.id, f"is {row.state}, but its last event left it {row.told}"


def events_of_nobody(books: Connection) -> Found:
    found = books.execute(
        select(events.c.task_id, func.count())
        .where(~exists().where(tasks.c.id == events.c.task_id))
        .group_by(events.c.task_id)
    )
    for task_id, number in found:
        yield task_id, f"{number} events speak of it, and there is no such task"


def standing_still(books: Connection) -> Found:
    late = earlier(SETTLING_SECONDS)
    overdue: dict[str, ColumnElement[bool]] = {
        "its lease ran out": and_(tasks.c.state == State.RUNNING, tasks.c.lease_until < late),
        "it is decided and not finished": and_(tasks.c.state == State.COMMITTING, tasks.c.updated_at < late),
        "it is stopped and not undone": and_(tasks.c.state == State.REVOKING, tasks.c.updated_at < late),
        "it has expired": and_(tasks.c.state.in_(sorted(WAITING)), tasks.c.expires_at < late),
        "all that it depends on has ended": and_(tasks.c.state == State.BLOCKED, ~_waits_for_some(late)),
        "its time has come": and_(tasks.c.state.in_([State.SCHEDULED, State.RETRYING]), tasks.c.due_at < late),
        "no line of a limit has it": and_(
            tasks.c.state == State.THROTTLED, tasks.c.updated_at < late, ~places.is_in_line()
        ),
        "it has no ticket": and_(
            tasks.c.state == State.QUEUED, tasks.c.dispatched_at.is_(None), tasks.c.updated_at < late
        ),
    }
    for words, condition in overdue.items():
        for row in books.execute(select(tasks.c.id, tasks.c.state).where(condition)):
            yield row.id, f"is {row.state} although {words}, for more than {SETTLING_SECONDS:g} s"
    for row in books.execute(select(schedules.c.id).where(schedules.c.due_at < late)):
        yield None, f"schedule {row.id} has waited for more than {SETTLING_SECONDS:g} s since its tick came"


def _waits_for_some(late: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether something that the task depends on has yet to end, or ended a moment ago."""
    parent = tasks.alias()
    is_live = or_(parent.c.state.not_in(_FINAL), parent.c.finished_at >= late)
    tied = and_(dependencies.c.child == tasks.c.id, dependencies.c.parent == parent.c.id)
    return exists().where(tied, is_live).correlate(tasks)


def started_before_others(books: Connection) -> Found:
    """A first start comes after the end of every task that it depends on. A replay is the operator's own decision."""
    first = select(events.c.task_id, func.min(events.c.seq).label("seq")).where(events.c.event == "claimed")
    start, end, replay = first.group_by(events.c.task_id).subquery(), events.alias(), events.alias()
    will_do = or_(end.c.event == "finished", and_(tasks.c.on_parent_failure == IGNORE, end.c.state.in_(_FINAL)))
    found = books.execute(
        select(dependencies.c.child, dependencies.c.parent)
        .join(tasks, tasks.c.id == dependencies.c.child)
        .join(start, start.c.task_id == dependencies.c.child)
        .where(
            ~exists().where(end.c.task_id == dependencies.c.parent, end.c.seq < start.c.seq, will_do),
            ~exists().where(
                replay.c.task_id == dependencies.c.child, replay.c.seq < start.c.seq, replay.c.event == "replayed"
            ),
            # One that is not kept any more cannot tell.
            exists().where(events.c.task_id == dependencies.c.parent),
        )
    )
    for row in found:
        yield row.child, f"started although {row.parent}, on which it depends, had not ended as it must"


def untold(books: Connection) -> Found:
    """A delivery is there if and only if the webhook of its task wants to know of its event."""
    d, is_told = webhook_deliveries.c, exists().where(webhook_deliveries.c.seq == events.c.seq)
    # A remark on a task in that state is no event of which to tell.
    untold_of = (outbox.wants(func.concat("task.", events.c.state)), _IS_MOVE, ~is_told)
    for row in books.execute(
        select(tasks.c.id, events.c.seq, events.c.event)
        .join(events, events.c.task_id == tasks.c.id)
        .where(*untold_of)
    ):
        yield row.id, f"its webhook is not told of event {row.seq}, {row.event}"
    for told in books.execute(
        select(d.task_id, d.seq)
        .outerjoin(tasks, tasks.c.id == d.task_id)
        .outerjoin(events, and_(events.c.seq == d.seq, events.c.task_id == d.task_id, _IS_MOVE))
        .where(or_(tasks.c.webhook.is_(None), events.c.seq.is_(None)))
    ):
        yield told.task_id, f"its webhook is told of event {told.seq}, which is none of it"


# --- the ledger beside a business database -------------------------------------------------------------------------


def successes_without_rows(books: Connection, rows: Connection, name: str) -> Found:
    """Every success whose decision covered this database has its marker there, of the same attempt."""
    covers = func.json_contains(tasks.c.participants, func.json_quote(literal(name)))
    writers = books.execution_options(yield_per=CHUNK).execute(
        select(tasks.c.id, tasks.c.attempt).where(tasks.c.state == State.SUCCEEDED, covers == 1)
    )
    for chunk in _chunks(iter(writers)):
        marked = _marked(rows, [row.id for row in chunk])
        for row in chunk:
            if marked.get(row.id) != row.attempt and _expects_marker(books.engine, row.id, covers):
                found = f"of attempt {marked[row.id]}" if row.id in marked else "missing"
                yield row.id, f"succeeded by attempt {row.attempt}, but its marker in {name} is {found}"


def rows_without_success(books: Connection, rows: Connection, name: str) -> Found:
    """No marker is visible for a task that did not succeed, or is not about to."""
    for chunk in _chunks(iter(rows.execution_options(yield_per=CHUNK).execute(_markers()))):
        states = _states(books, [row.task_id for row in chunk])
        for row in chunk:
            state = states.get(row.task_id, "unknown")
            if state == "unknown" and not _is_marked(rows.engine, row.task_id):
                continue  # purged while we looked, the marker before the task
            if state not in (State.SUCCEEDED, State.COMMITTING):
                yield row.task_id, f"is {state}, but attempt {row.attempt} left {row.changed_rows} rows in {name}"


def branches_in_doubt(books: Connection, branches: Sequence[BranchId]) -> Found:
    """Prepared branches of which the row has long said what becomes of them, or of which no row says anything."""
    rows = books.execute(
        select(
            tasks.c.id,
            tasks.c.state,
            tasks.c.updated_at < earlier(SETTLING_SECONDS),
            # Its attempt is at it, and has yet to decide.
            func.if_(and_(tasks.c.state == State.RUNNING, tasks.c.lease_until >= db.NOW), tasks.c.attempt, 0),
        ).where(tasks.c.id.in_([branch.task_id for branch in branches]))
    )
    found = {task_id: (state, is_old, running) for task_id, state, is_old, running in rows}
    for branch in branches:
        state, is_old, running = found.get(branch.task_id, ("unknown", True, 0))
        if is_old and branch.attempt != running:
            yield branch.task_id, f"attempt {branch.attempt} is in doubt, the task is {state}"


def _markers() -> Any:
    return select(marker.c.task_id, marker.c.attempt, marker.c.changed_rows)


def _marked(rows: Connection, task_ids: Sequence[str]) -> dict[str, int]:
    return {row.task_id: row.attempt for row in rows.execute(_markers().where(marker.c.task_id.in_(task_ids)))}


def _expects_marker(ledger: Engine, task_id: str, covers: ColumnElement[int]) -> bool:
    """Whether it still does: it may have been purged, beginning with this, while we looked."""
    with db.reading(ledger) as beside:
        return beside.execute(select(tasks.c.id).where(tasks.c.id == task_id, covers == 1)).first() is not None


def _is_marked(database: Engine, task_id: str) -> bool:
    with db.reading(database) as beside:
        return task_id in _marked(beside, [task_id])


def _states(books: Connection, task_ids: Sequence[str]) -> dict[str, str]:
    found = books.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.id.in_(task_ids)))
    return {row.id: row.state for row in found}


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
