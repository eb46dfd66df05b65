"""The way back in: tasks that ended without their effects are queued again, because somebody says so."""

from __future__ import annotations

from dataclasses import replace

from ledger import queries, replay
from ledger.callers import EVERYBODY, Caller
from ledger.filters import Filter
from ledger.replay import Replayed
from ledger.states import State
from ledger.tickets import Ticket
from tasks import catalog, relay
from tasks.revoke import UnknownTask


class NotReplayable(Exception):
    """The task is not over, or it succeeded: there is nothing to try again."""

    def __init__(self, task_id: str, state: State) -> None:
        self.task_id, self.state = task_id, state
        why = "succeeded" if state is State.SUCCEEDED else f"is not over: it is {state}"
        super().__init__(f"task {task_id} {why}; only what failed, was stopped or expired can be tried again")


class NotResolvable(Exception):
    """The task has not failed, so that there is nothing to deal with."""

    def __init__(self, task_id: str, state: State) -> None:
        self.task_id, self.state = task_id, state
        super().__init__(f"task {task_id} has not failed: it is {state}")


def one(task_id: str, *, by: str, note: str = "", caller: Caller = EVERYBODY) -> Ticket:
    """Queue a task again. Raises UnknownTask, catalog.NotForYou, and NotReplayable with the state that forbids it."""
    row = queries.standing(task_id, caller=caller)
    if row is None:
        raise UnknownTask(task_id)
    catalog.insist(row.task_type, caller=caller)
    found = replay.replay(task_id, by=by, note=note, caller=caller)
    if found is None:
        raise UnknownTask(task_id)
    before, ticket = found
    if ticket is None:
        raise NotReplayable(task_id, before)
    relay.send_soon([ticket])
    return ticket


def many(wanted: Filter, *, by: str, note: str = "", caller: Caller = EVERYBODY) -> Replayed:
    """Queue those that fit again, at most `replay.MOST_AT_ONCE` of them. Tasks of types that the caller may not submit
    do not fit."""
    done = replay.replay_many(_permitted(wanted, caller=caller), by=by, note=note, caller=caller)
    relay.send_soon(done.tickets)
    return done


def count(wanted: Filter, *, caller: Caller = EVERYBODY) -> int:
    """How many tasks `many` would take, call after call."""
    return replay.count_replayable(_permitted(wanted, caller=caller), caller=caller)


def _permitted(wanted: Filter, *, caller: Caller) -> Filter:
    return replace(wanted, within_types=catalog.types_for(caller))


def resolve(task_id: str, *, by: str, note: str, caller: Caller = EVERYBODY) -> None:
    """Note that a failure has been dealt with. Raises UnknownTask and NotResolvable."""
    state = replay.resolve(task_id, by=by, note=note, caller=caller)
    if state is None:
        raise UnknownTask(task_id)
    if state not in replay.RESOLVABLE:
        raise NotResolvable(task_id, state)
