"""What must hold of the databases when nothing is going on any more, each broken rule as a sentence.

    assert violations(ledger, {"data": engine, "archive": other_engine}) == []

It reads the tables by SQL and knows nothing of the processes, so that whatever was done to them may come before. The
rows of the table `data` in each business database are compared with what the ledger says was written into it; all of
them begin empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Engine, and_, func, or_, select, table, text

from ledger.models import events, marker, tasks
from ledger.states import FINAL, MOVES, State
from ledger.xa import FORMAT_ID

#: Sentences about one rule; beyond them only their number is told.
MOST_SENTENCES = 10

_FINAL = sorted(FINAL)
#: An event that is no move is a remark, and moves nothing.
_IS_MOVE = events.c.event.in_(["accepted", *sorted(MOVES)])


def violations(ledger: Engine, databases: Mapping[str, Engine]) -> list[str]:
    """Every broken rule as a sentence that names the task and what was seen; empty when all is well."""
    with ledger.connect() as books:
        rules = [
            _unfinished(books),
            _ended_otherwise_than_once(books),
            _attempts_miscounted(books),
            _moves_that_do_not_exist(books),
            _events_of_nobody(books),
        ]
        found = [sentence for rule in rules for sentence in _shortened(list(rule))]
        for name, engine in databases.items():
            with engine.connect() as rows:
                rules = [
                    _markers_and_results_differ(books, rows, name),
                    _rows_nobody_wrote(books, rows, name),
                    _branches_in_doubt(rows, name),
                ]
                found += [sentence for rule in rules for sentence in _shortened(list(rule))]
    return found


def _shortened(sentences: list[str]) -> list[str]:
    rest = len(sentences) - MOST_SENTENCES
    return sentences[:MOST_SENTENCES] + ([f"... and {rest} more of this kind"] if rest > 0 else [])


def _unfinished(books: Connection) -> Iterator[str]:
    """At rest every accepted task is in a terminal state."""
    found = books.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.state.not_in(_FINAL)))
    for row in found:
        yield f"task {row.id} has not ended, it is {row.state}"


def _ended_otherwise_than_once(books: Connection) -> Iterator[str]:
    """Every task has exactly one event that entered a terminal state."""
    endings = func.count(events.c.seq)
    found = books.execute(
        select(tasks.c.id, tasks.c.state, endings.label("endings"))
        .outerjoin(events, and_(events.c.task_id == tasks.c.id, events.c.state.in_(_FINAL), _IS_MOVE))
        .group_by(tasks.c.id, tasks.c.state)
        .having(endings != 1)
    )
    for row in found:
        yield f"task {row.id} ({row.state}) ended {row.endings} times, not once"


def _attempts_miscounted(books: Connection) -> Iterator[str]:
    """The attempts of a task are numbered 1, 2, ... up to the number in its row, each claimed once."""
    claims, different = func.count(events.c.seq), func.count(events.c.attempt.distinct())
    first, last = func.min(events.c.attempt), func.max(events.c.attempt)
    found = books.execute(
        select(tasks.c.id, tasks.c.attempt, claims.label("claims"), first.label("first"), last.label("last"))
        .outerjoin(events, and_(events.c.task_id == tasks.c.id, events.c.event == "claimed"))
        .group_by(tasks.c.id, tasks.c.attempt)
        .having(
            or_(
                claims != tasks.c.attempt,
                different != claims,
                and_(claims > 0, or_(first != 1, last != claims)),
            )
        )
    )
    for row in found:
        yield (
            f"task {row.id} is at attempt {row.attempt}, but its {row.claims} claims go from {row.first} to {row.last}"
        )


def _moves_that_do_not_exist(books: Connection) -> Iterator[str]:
    """The events of a task, replayed through the table of moves, lead to the state in its row."""
    states = {row.id: row.state for row in books.execute(select(tasks.c.id, tasks.c.state))}
    found = books.execute(
        select(events.c.task_id, events.c.event, events.c.state)
        .where(_IS_MOVE)
        .order_by(events.c.task_id, events.c.seq)
    )
    for task_id, steps in groupby(found, key=lambda row: str(row.task_id)):
        reached, complaint = _replayed(list(steps))
        if complaint:
            yield f"task {task_id}: {complaint}"
        elif task_id in states and states[task_id] != reached:
            yield f"task {task_id} is {states[task_id]}, but its last event left it {reached}"


def _replayed(steps: Sequence[Any]) -> tuple[str | None, str | None]:
    """The state that the events lead to, and what is wrong with them."""
    reached: str | None = None
    for step in steps:
        if step.event == "accepted":
            if reached is not None:
                return reached, f"was accepted again while {reached}"
        else:
            move = MOVES[step.event]
            if reached is None or State(reached) not in move.leaves or step.state != move.enters:
                return reached, f"'{step.event}' led from {reached} to {step.state}, which is no move"
        reached = step.state
    return reached, None


def _events_of_nobody(books: Connection) -> Iterator[str]:
    """Every event belongs to a task."""
    found = books.execute(
        select(events.c.task_id, func.count())
        .outerjoin(tasks, tasks.c.id == events.c.task_id)
        .where(tasks.c.id.is_(None))
        .group_by(events.c.task_id)
    )
    for task_id, number in found:
        yield f"{number} events speak of task {task_id}, which does not exist"


def _markers_and_results_differ(books: Connection, rows: Connection, name: str) -> Iterator[str]:
    """A marker stands for each succeeded task that wrote here, by the attempt and with the rows of its result, and for
    no other task."""
    markers = {row.task_id: row for row in rows.execute(select(marker))}
    for row in _writers(books, name):
        found = markers.pop(row.id, None)
        if found is None:
            yield f"task {row.id} succeeded with {row.result}, but left no marker in {name} and so no rows"
        elif (found.attempt, found.changed_rows) != (row.attempt, _changed_rows(row.result)):
            yield (
                f"task {row.id} succeeded by attempt {row.attempt} with {row.result}, but its marker in {name} says "
                f"attempt {found.attempt}, {found.changed_rows} rows"
            )
    found_states = books.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.id.in_(list(markers))))
    states = {row.id: row.state for row in found_states}
    for task_id, left in markers.items():
        yield (
            f"task {task_id} is {states.get(task_id, 'unknown')}, but attempt {left.attempt} of it left a marker "
            f"in {name} and {left.changed_rows} rows"
        )


def _rows_nobody_wrote(books: Connection, rows: Connection, name: str) -> Iterator[str]:
    """The table holds what succeeded tasks wrote into it and did not delete, no row more or less."""
    results = [row.result for row in _writers(books, name)]
    expected = sum(_changed_rows(result) * (-1 if "deleted" in result else 1) for result in results)
    there = rows.execute(select(func.count()).select_from(table("data"))).scalar_one()
    if there != expected:
        yield f"the table data in {name} has {there} rows, but succeeded tasks account for {expected}"


def _branches_in_doubt(rows: Connection, name: str) -> Iterator[str]:
    """No branch of ours waits for its decision to be carried out."""
    for format_id, gtrid_length, _, branch in rows.execute(text("XA RECOVER")):
        task_id, attempt = branch[:gtrid_length], branch[gtrid_length:]
        if format_id == FORMAT_ID and attempt.endswith(f".{name}"):
            yield f"a branch is in doubt: task {task_id}, attempt and database {attempt}"


def _changed_rows(result: dict[str, Any]) -> int:
    """Rows in each of the databases that the task wrote to."""
    return int(next(result[word] for word in ("inserted", "imported", "deleted") if word in result))


def _writers(books: Connection, name: str) -> Iterator[Any]:
    """The succeeded tasks whose decision covered a database."""
    decided = select(tasks.c.id, tasks.c.attempt, tasks.c.result, tasks.c.participants).where(
        tasks.c.state == State.SUCCEEDED, tasks.c.participants.is_not(None)
    )
    return (row for row in books.execute(decided) if name in row.participants)
