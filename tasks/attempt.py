"""What a handler gets: one attempt at one task, with its progress, its branches and its effects.

An attempt collects participants. Nothing that they stand for becomes true before the ledger has decided, and all of it
does afterwards: a branch per database, a file that waits under a temporary name, a mail whose last step is not taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict

from sqlalchemy import Connection

import failpoints
from ledger import queries, transitions, xa
from ledger.states import State
from ledger.transitions import Claim
from settings import DATA, settings

#: Progress is written down at most this often, which bounds what it costs and how late a stop is noticed.
PROGRESS_SECONDS = 0.05


class Interrupted(BaseException):
    """The attempt is to end now. Not an Exception, so that no handler swallows it."""


class Stopped(Interrupted):
    """Somebody stopped the task."""


class LeaseLost(Interrupted):
    """The attempt was silent for too long, its task was given to others: it may change nothing any more."""


class TimedOut(Interrupted):
    """The attempt took longer than the task's timeout."""


class Leaving(Interrupted):
    """The worker was told to end and its grace is over."""


class Participant(Protocol):
    """Something that becomes true with the task's success or not at all."""

    def prepare(self) -> None:
        """Do everything that can fail."""

    def commit(self) -> None:
        """Make it true; called once, after the decision."""

    def rollback(self) -> None:
        """Leave nothing behind."""


class Progress(TypedDict):
    """Both None as long as nothing was told."""

    done: int | None
    total: int | None


class Attempt:
    """One attempt. `task_id` is the task's id, `number` counts the attempts from 1."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.task_id = claim.task_id
        self.number = claim.attempt
        self.branches: dict[str, xa.Branch] = {}
        self.effects: list[Participant] = []
        self.done = 0
        self.total: int | None = None
        #: Why it must end; set once, by whoever notices first.
        self.interruption: Interrupted | None = None
        self._in_handler = False
        self._told = 0.0

    def progress(self, done: int, total: int | None = None) -> None:
        """Tell how far the work is (for a data task: in rows), and learn of a stop. Cheap; call it after each chunk.

        Raises Stopped and its kin, which the handler must let pass.
        """
        self.done, self.total = done, total if total is not None else self.total
        failpoints.reach("f8")
        with self.undisturbed():
            now = time.monotonic()
            if now - self._told >= PROGRESS_SECONDS:
                self._told = now
                self.renew()
        self.check()

    def check(self) -> None:
        """Raise when this attempt is to end."""
        if self.interruption is not None:
            raise self.interruption

    def renew(self) -> None:
        """Keep the lease and write the progress down; a loss becomes an interruption."""
        kept = transitions.renew(
            self.task_id,
            self.number,
            lease_seconds=settings().lease_seconds,
            **self.progressed,
        )
        if not kept:
            self.interrupt(self._loss())

    def interrupt(self, reason: Interrupted) -> None:
        self.interruption = self.interruption or reason

    def _loss(self) -> Interrupted:
        stopped = transitions.was_stopped(self.task_id, self.number)
        return Stopped(self.task_id) if stopped else LeaseLost(self.task_id)

    def database(self, name: str = DATA) -> Connection:
        """A connection inside this task's branch on a business database, opened on first use.

        Whatever is written through it becomes visible with the task's success, or never. Statements only: a COMMIT,
        or anything that implies one, fails.
        """
        if name not in self.branches:
            with self.undisturbed():
                self._begin(name)
        return self.branches[name].connection

    def _begin(self, name: str) -> None:
        if not transitions.join(self.task_id, self.number, name):
            self.interrupt(self._loss())
            self.check()
        branch = self.branches[name] = xa.Branch(xa.BranchId(self.task_id, self.number, name))
        try:
            branch.start(is_current=self._is_current)
        except BaseException:
            # A handler that tries again must not get a connection without a branch: its rows would be committed.
            del self.branches[name]
            branch.close()
            raise

    def _is_current(self) -> bool:
        row = queries.standing(self.task_id)
        return row is not None and row.state is State.RUNNING and row.attempt == self.number

    def begin_last_step(self) -> None:
        """For a participant whose commit must not be done twice: note that from here on its outcome is unknown until
        it has told it. Raises LeaseLost when the task is somebody else's by now; then nothing may be done."""
        if not transitions.begin_last_step(self.task_id, self.number, lease_seconds=settings().lease_seconds):
            raise LeaseLost(self.task_id)

    def join(self, participant: Participant) -> None:
        """Let an effect outside a database share the task's decision."""
        self.effects.append(participant)

    @property
    def progressed(self) -> Progress:
        """How far it is, as the ledger takes it."""
        return {"done": self.done or None, "total": self.total}

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to it but a result."""
        return not self.participants and not self.done and self.total is None

    @property
    def rows(self) -> int:
        """Rows changed on all databases together."""
        return sum(branch.rows for branch in self.branches.values())

    @property
    def participants(self) -> list[Any]:
        return [*self.branches.values(), *self.effects]

    # An interruption out of the blue may hit plain Python code, but never a database driver in mid-conversation: its
    # connection would answer the next question with the last one's answer.

    @property
    def may_be_disturbed(self) -> bool:
        return self._in_handler and not self.branches

    def disturb(self) -> None:
        """Raise the interruption out of the blue: once, so that no cleaning up after it is torn apart."""
        if self.may_be_disturbed and self.interruption is not None:
            self._in_handler = False
            raise self.interruption

    @contextmanager
    def handling(self) -> Iterator[None]:
        """The handler runs in here."""
        self._in_handler = True
        try:
            yield
        finally:
            self._in_handler = False

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No interruption out of the blue in here."""
        before, self._in_handler = self._in_handler, False
        try:
            yield
        finally:
            self._in_handler = before
