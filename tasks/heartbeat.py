"""A thread beside each attempt: keeps its lease, and tells it when it has to end.

It reads the task's row five times a second, so that a stop is noticed without the broker. The attempt itself runs in
the main thread and is told in one of three ways: at its next `progress()`; out of the blue by a signal, when it is in
plain Python code; by the KILL of its database connection, when it sits in a long statement.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, TypeVar

from ledger import db, queries
from ledger.states import State
from settings import settings
from tasks.attempt import Attempt, Interrupted, LeaseLost, Stopped, TimedOut

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds between two looks at the row.
PULSE_SECONDS = 0.2

#: Carries an interruption into the main thread.
SIGNAL = signal.SIGUSR2
#: Only the main thread takes these, so that `shielded` holds them back for the whole process.
_MAIN_THREADS_SIGNALS = {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, SIGNAL}

_beating: Attempt | None = None


def install() -> None:
    """Once in each worker child."""
    signal.signal(SIGNAL, _disturb)


def _disturb(signum: int, frame: FrameType | None) -> None:
    if _beating is not None:
        _beating.disturb()


def disturb(reason: Interrupted) -> bool:
    """From the main thread: interrupt the running attempt. False when none is running."""
    if _beating is None:
        return False
    _beating.interrupt(reason)
    _beating.disturb()
    return True


@contextmanager
def beside(attempt: Attempt) -> Iterator[None]:
    """Keep the attempt's lease while the block runs."""
    turn_to(attempt)
    with _beats(_beat, attempt):
        yield


class Pack(Protocol):
    """Attempts that are done one after the other."""

    #: The one that is being done.
    current: Attempt | None

    def break_up(self) -> None:
        """Let go of all others."""


@contextmanager
def beside_pack(pack: Pack) -> Iterator[None]:
    """The same for a pack. What is still being done a beat later takes long after all: the others are let go of, and it
    gets beats of its own."""
    with _beats(_beat_pack, pack):
        yield


@contextmanager
def _beats(beat: Callable[[T, threading.Event], None], of: T) -> Iterator[None]:
    """A heart that beats while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=beat, args=(of, over), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        turn_to(None)
        over.set()
        thread.join()


def turn_to(attempt: Attempt | None) -> None:
    """The attempt that an interruption of this process means from now on."""
    global _beating
    _beating = attempt


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back: what happens in here must not be torn apart. They arrive at the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _MAIN_THREADS_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _MAIN_THREADS_SIGNALS)


def _beat_pack(pack: Pack, over: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _MAIN_THREADS_SIGNALS)
    seen = None
    while (current := pack.current) is None or current is not seen:
        seen = current
        if over.wait(PULSE_SECONDS):
            return
    try:
        pack.break_up()
    except Exception:  # what is being done needs its beats all the same
        log.exception("could not break a pack up")
    if pack.current is not None:
        _beat(pack.current, over)


def _beat(attempt: Attempt, over: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _MAIN_THREADS_SIGNALS)
    started = renewed = time.monotonic()
    told_at: float | None = None
    while not over.wait(PULSE_SECONDS):
        now = time.monotonic()
        if now - started > attempt.claim.timeout_seconds:
            attempt.interrupt(TimedOut(attempt.task_id))
        try:
            renewed = _feel(attempt, renewed=renewed, now=now)
            if attempt.interruption is not None:
                told_at = told_at or now
                _press(attempt, now - told_at)
        except Exception:  # a broken beat must not end the heart
            log.exception("heartbeat failed")


def _feel(attempt: Attempt, *, renewed: float, now: float) -> float:
    """Renew the lease or look at the row; answers when the lease was renewed last."""
    try:
        if now - renewed > settings().lease_seconds / 3:
            attempt.renew()
            return now
        _look(attempt)
    except db.Unavailable:
        # Without the ledger nothing can be decided against the attempt; its lease runs on in the database.
        log.debug("no pulse: the ledger does not answer")
    return renewed


def _look(attempt: Attempt) -> None:
    row = queries.standing(attempt.task_id)
    if row is None or row.attempt != attempt.number:
        attempt.interrupt(LeaseLost(attempt.task_id))
    elif row.state in (State.REVOKING, State.REVOKED):
        attempt.interrupt(Stopped(attempt.task_id))
    elif row.state not in (State.RUNNING, State.COMMITTING):
        attempt.interrupt(LeaseLost(attempt.task_id))


def _press(attempt: Attempt, seconds_since: float) -> None:
    if attempt.may_be_disturbed:
        signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
    elif seconds_since > settings().stop_grace_seconds:
        for branch in attempt.branches.values():
            if branch.state == "active":
                branch.kill()
