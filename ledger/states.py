"""The states of a task, and the moves between them.

This one table is the source of the guarded UPDATEs in `transitions`, of the audit rows' names, of the diagram in the
documentation (`python -m ledger states`) and of the tests that walk it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Each with what the world looks like in it, and who moves it on."""

    #: Waits for its time. The monitor's due round moves it on.
    SCHEDULED = "scheduled"
    #: Waits for other tasks. Whoever tells of the last of them that it has ended moves it on.
    BLOCKED = "blocked"
    #: A worker may take it. Its ticket is on the way to the broker, in it, or was lost, which the monitor repairs.
    QUEUED = "queued"
    #: Waits for a place under a limit. The monitor's limits round moves it on.
    THROTTLED = "throttled"
    #: An attempt works on it under a lease. That attempt moves it on, or the monitor when the lease runs out.
    RUNNING = "running"
    #: Decided: it becomes true. The attempt commits its participants, or the monitor does.
    COMMITTING = "committing"
    #: Decided: it never becomes true. The attempt undoes its work, or the monitor does.
    REVOKING = "revoking"
    #: Failed an attempt and waits for the next. The monitor's due round moves it on.
    RETRYING = "retrying"
    #: Done: its effects and its result are there.
    SUCCEEDED = "succeeded"
    #: Given up: a permanent error, or no retries left.
    FAILED = "failed"
    #: Taken back by a stop: nothing of it is there.
    REVOKED = "revoked"
    #: Not started within its time: none of it is there, and it will not start any more.
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.REVOKED, State.EXPIRED})
LIVE = frozenset(State) - FINAL
#: Ended without their effects. An explicit replay takes a task out of these again, and nothing else ever does.
REPLAYABLE = FINAL - {State.SUCCEEDED}
#: Not begun, or between two attempts: a stop ends these at once, and so does their time when it runs out.
WAITING = frozenset({State.SCHEDULED, State.BLOCKED, State.QUEUED, State.THROTTLED, State.RETRYING})
#: What a task is accepted as.
BEGINNINGS = (State.QUEUED, State.SCHEDULED, State.BLOCKED)
#: An attempt may be holding locks, temporary files or branches.
ACTIVE = frozenset({State.RUNNING, State.COMMITTING, State.REVOKING})


@dataclass(frozen=True)
class Move:
    """A named step from any of some states to one state."""

    name: str
    leaves: frozenset[State]
    enters: State
    #: Only the attempt that holds the row, or one who acts for it, may make this move.
    fenced: bool = False


def _move(name: str, leaves: State | frozenset[State], enters: State, *, fenced: bool = False) -> Move:
    return Move(name, leaves if isinstance(leaves, frozenset) else frozenset({leaves}), enters, fenced)


#: A move's name says what happened to the task; it is the `event` of the audit row.
MOVES = {
    move.name: move
    for move in (
        _move("due", frozenset({State.SCHEDULED, State.RETRYING}), State.QUEUED),
        # A change of its time, while it waits.
        _move("postponed", frozenset({State.QUEUED, State.THROTTLED}), State.SCHEDULED),
        _move("unblocked", State.BLOCKED, State.QUEUED),
        # What it waited for came before its own time did.
        _move("unblocked_early", State.BLOCKED, State.SCHEDULED),
        _move("parent_failed", State.BLOCKED, State.FAILED),
        _move("expired", WAITING, State.EXPIRED),
        # A worker had its ticket, and there was no place for it.
        _move("throttled", State.QUEUED, State.THROTTLED),
        _move("admitted", State.THROTTLED, State.QUEUED),
        _move("claimed", State.QUEUED, State.RUNNING, fenced=True),
        _move("decided", State.RUNNING, State.COMMITTING, fenced=True),
        _move("finished", frozenset({State.RUNNING, State.COMMITTING}), State.SUCCEEDED, fenced=True),
        _move("retried", frozenset({State.RUNNING, State.COMMITTING}), State.RETRYING, fenced=True),
        _move("given_up", frozenset({State.RUNNING, State.COMMITTING}), State.FAILED, fenced=True),
        _move("handed_back", State.RUNNING, State.QUEUED, fenced=True),
        _move("undeliverable", State.QUEUED, State.FAILED),
        _move("stopped", WAITING, State.REVOKED),
        _move("stopping", State.RUNNING, State.REVOKING),
        _move("rolled_back", State.REVOKING, State.REVOKED, fenced=True),
        _move("replayed", REPLAYABLE, State.QUEUED),
    )
}


def moves_from(state: State) -> tuple[Move, ...]:
    return tuple(move for move in MOVES.values() if state in move.leaves)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in BEGINNINGS]
    lines += [
        f"    {leaves} --> {move.enters}: {move.name}"
        for move in MOVES.values()
        for leaves in State
        if leaves in move.leaves
    ]
    lines += [f"    {state} --> [*]" for state in State if state.is_final]
    return "\n".join(lines)
