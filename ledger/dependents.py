"""Tasks that wait for others: tied to them when they are accepted, told when those have ended.

    accept: lock the parents' rows (shared) ── one is missing ──> refused, nothing is written
              │                             └ all are done ─────> begins as if it depended on nothing
            `blocked`, one row in `dependencies` for each parent

    a parent ends: the move into its final state leaves a row in `endings`, in the same transaction
              │
    tell:   all its parents are done ──> `queued`, or `scheduled` when it has a time of its own
            it wanted that one to succeed, and it did not ──> `failed`, which is an ending too

When things fail
----------------
* A parent ends while a child is being accepted: the shared lock makes one of them wait. Either the child sees the final
  state, or the ending finds the child's row in `dependencies`.
* Two parents end at once: each leaves its own ending. Who tells of the later one sees both states, since both were
  committed before, and the guard on the child lets one of the two move it.
* Whoever ended the parent dies right after: the ending is on disk, and the monitor tells of it. Any number of monitors
  may do so; an ending is locked while it is being told.
* A chain of tasks fails: each level leaves endings for the next. There is no recursion, so that no depth is too deep.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, false, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from ledger import cycles, db, moving, tickets
from ledger.callers import EVERYBODY, Caller, owned
from ledger.models import dependencies, endings, tasks
from ledger.states import FINAL, State
from ledger.tickets import Ticket

NOW = db.NOW

#: What a task may want when one that it depends on does not succeed.
FAIL, IGNORE = "fail", "ignore"

#: Dependents that are told in one transaction.
CHUNK = 500

Waits = Mapping[str, Collection[str]]


class UnknownParents(Exception):
    """A task depends on tasks that are not there."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.task_ids = task_ids
        super().__init__(f"no task has the id {', '.join(task_ids)}")


class Circle(Exception):
    """Tasks that are submitted together wait for each other."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        self.task_ids = task_ids
        super().__init__(f"these wait for each other: {' -> '.join(task_ids)}")


# --- accepted ------------------------------------------------------------------------------------------------------


def hold(connection: Connection, waits: Waits, *, caller: Caller = EVERYBODY) -> dict[str, State]:
    """The states of all parents that the caller sees, which stay what they are until the transaction ends.

    Raises UnknownParents, and Circle for tasks that are accepted together.
    """
    if circle := cycles.circle(waits):
        raise Circle(circle)
    # Those that are accepted with them have yet to begin.
    states = dict.fromkeys(waits, State.BLOCKED)
    wanted = sorted({parent for parents in waits.values() for parent in parents} - set(waits))
    if wanted:
        held = select(tasks.c.id, tasks.c.state).where(tasks.c.id.in_(wanted), owned(caller)).order_by(tasks.c.id)
        rows = connection.execute(held.with_for_update(read=True))
        states |= {row.id: State(row.state) for row in rows}
    if missing := [parent for parent in wanted if parent not in states]:
        raise UnknownParents(missing)
    return states


def lets_begin(state: State, policy: str) -> bool:
    """Whether a parent in this state is nothing to wait for any more."""
    return state is State.SUCCEEDED or (state.is_final and policy == IGNORE)


def spoils(state: State, policy: str) -> bool:
    """Whether a parent in this state means that the child cannot succeed."""
    return state.is_final and state is not State.SUCCEEDED and policy == FAIL


def tie(connection: Connection, waits: Waits) -> None:
    """Note who waits for whom."""
    pairs = [{"parent": parent, "child": child} for child, parents in waits.items() for parent in parents]
    if pairs:
        connection.execute(insert(dependencies), pairs)


# --- told ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ending:
    parent: str
    #: None when the task is not kept any more.
    state: State | None
    told_until: str


def tell(parent: str | None = None) -> list[Ticket] | None:
    """Tell the dependents of a task that has ended, CHUNK of them; the tickets are the caller's to send.

    None when there is no ending of which to tell, or another is telling of it right now.
    """

    def work(connection: Connection) -> list[Ticket] | None:
        ending = _take(connection, parent)
        if ending is None:
            return None
        children = _after(connection, ending)
        if len(children) < CHUNK:
            connection.execute(delete(endings).where(endings.c.parent == ending.parent))
        else:
            told = update(endings).where(endings.c.parent == ending.parent)
            connection.execute(told.values(told_until=children[-1]))
        return _tell(connection, ending, _blocked(connection, children))

    return db.transact(work)


def _take(connection: Connection, parent: str | None) -> _Ending | None:
    """An ending that nobody else is telling of, ours until the transaction ends."""
    waiting = select(endings.c.parent, endings.c.told_until).limit(1).with_for_update(skip_locked=True)
    if parent is not None:
        waiting = waiting.where(endings.c.parent == parent)
    row = connection.execute(waiting).first()
    if row is None:
        return None
    state = connection.execute(select(tasks.c.state).where(tasks.c.id == row.parent)).scalar()
    return _Ending(row.parent, State(state) if state else None, row.told_until or "")


def _after(connection: Connection, ending: _Ending) -> Sequence[str]:
    """The next ids of those that depend on an ended task."""
    return (
        connection.execute(
            select(dependencies.c.child)
            .where(dependencies.c.parent == ending.parent, dependencies.c.child > ending.told_until)
            .order_by(dependencies.c.child)
            .limit(CHUNK)
        )
        .scalars()
        .all()
    )


def _blocked(connection: Connection, children: Sequence[str]) -> Sequence[Row[Any]]:
    """Those of them that still wait, locked."""
    if not children:
        return []
    return connection.execute(
        select(
            *tickets.COLUMNS,
            tasks.c.on_parent_failure,
            func.coalesce(tasks.c.due_at <= NOW, 1).label("is_due"),
        )
        .where(tasks.c.id.in_(children), tasks.c.state == State.BLOCKED)
        .order_by(tasks.c.id)
        .with_for_update()
    ).all()


def _tell(connection: Connection, ending: _Ending, children: Sequence[Row[Any]]) -> list[Ticket]:
    state = ending.state
    if state is not None and not state.is_final:
        # It was tried again; its next ending will tell.
        return []
    spoilt = [child for child in children if child.on_parent_failure == FAIL and state is not State.SUCCEEDED]
    fail(connection, spoilt, parent=ending.parent, state=state)
    held = _held(connection, [child.id for child in children])
    free = [child for child in children if child not in spoilt and child.id not in held]
    now, later = [child for child in free if child.is_due], [child for child in free if not child.is_due]
    remark = f"the last that it waited for was {ending.parent}"
    moving.many(connection, "unblocked", now, values={"dispatched_at": None}, remark=remark)
    moving.many(connection, "unblocked_early", later, remark=remark)
    return [tickets.of(child) for child in now]


def fail(connection: Connection, children: Sequence[Any], *, parent: str, state: State | None) -> None:
    """End tasks that wanted this one to succeed. They are rows with id and attempt, locked."""
    words = f"depends on task {parent}, which {_became(state)}"
    error = {"type": "ParentFailed", "message": words, "permanent": True, "at": None}
    values = {"error": error, "finished_at": NOW, "due_at": None}
    moving.many(connection, "parent_failed", children, values=values, remark=words, detail=error)


def _became(state: State | None) -> str:
    if state is None:
        return "is not kept any more"
    return "failed" if state is State.FAILED else f"was {state}" if state is State.REVOKED else state


def _held(connection: Connection, children: Sequence[str]) -> set[str]:
    """Those that some parent still keeps waiting, or is about to fail."""
    if not children:
        return set()
    child, parent = tasks.alias("child"), tasks.alias("parent")
    return set(
        connection.execute(
            select(dependencies.c.child)
            .join(child, child.c.id == dependencies.c.child)
            .outerjoin(parent, parent.c.id == dependencies.c.parent)
            .where(dependencies.c.child.in_(children), keeps_waiting(child, parent))
        ).scalars()
    )


def keeps_waiting(child: Any, parent: Any) -> ColumnElement[bool]:
    """In SQL, for rows joined by their dependency: what `lets_begin` denies."""
    is_final = parent.c.state.in_(sorted(FINAL))
    is_done = or_(parent.c.state == State.SUCCEEDED, and_(is_final, child.c.on_parent_failure == IGNORE))
    # A parent that is not kept any more has ended, and its dependents were told.
    return func.coalesce(~is_done, false())
