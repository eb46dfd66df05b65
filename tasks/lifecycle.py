"""The life of an attempt: claim, run, settle. This is what a worker's child does with a ticket.

    claim ─ lost ─> drop the ticket
      │
    run the handler ─ interrupted ─> undo, and say so (stopped, leaving, timed out; after a lost lease say nothing)
      │             └ failed ──────> undo, then retry later or give up
    prepare the participants
      │
    decide, in the ledger ─ lost ──> undo: a stop was first
      │                  └ unknown ─> let go of everything, touch nothing: the monitor finds out
    commit the participants
      │
    finish, keep a copy of the result in Redis, acknowledge the ticket

When things fail: a child that dies at any point leaves the row to its parent (`tasks.parent`), and if that dies too, to
the lease. An unprepared branch dies with its connection; a prepared one is settled by the monitor as the row says.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import celery_config
import failpoints
from ledger import db, queries, transitions, xa
from ledger.states import LIVE, State
from ledger.tickets import Terms
from settings import settings
from tasks import catalog, failure, heartbeat, log, results, revoke, tracing
from tasks.attempt import Attempt, Interrupted, LeaseLost, Leaving, Stopped, TimedOut
from tasks.retry import OutcomeUnknown, PermanentError

logger = logging.getLogger(__name__)

#: Bytes that the ledger keeps of a result: what is bigger belongs into a file.
RESULT_BYTES = 1 << 20
#: Seconds for which a finished attempt tries to reach an absent ledger before it leaves the row to the monitor.
INSIST_SECONDS = 60.0
#: Seconds for which a stopped attempt looks on until its connections' work is physically undone.
CONFIRM_SECONDS = 10.0
_PAUSE_SECONDS = 0.25
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Done:
    """The handler returned, and every participant is prepared."""

    result: Any
    #: The ledger may have been told already: it did not answer.
    doubtful: bool = False


@dataclass(frozen=True)
class Failed:
    error: BaseException


class Postponed:
    """An older attempt's work is still being undone: nobody's failure."""


Outcome = Done | Failed | Postponed | Interrupted

_leaving = False
#: Between taking a ticket and letting go of it a child does not just exit: the task may be claimed already.
_has_ticket = False


def install() -> None:
    """Once in each worker child: an interruption may reach a running handler, and SIGQUIT becomes one."""
    heartbeat.install()
    signal.signal(signal.SIGQUIT, _leave)


def _leave(signum: int, frame: FrameType | None) -> None:
    """The worker's grace is over: the running attempt hands its task back, and then this child ends."""
    global _leaving
    _leaving = True
    if not heartbeat.disturb(Leaving()) and not _has_ticket:
        raise SystemExit(0)


def run(task_id: str, number: int, *, worker: str, terms: Terms | None = None) -> str | None:
    """Do what a ticket asks for, unless its task was stopped, is somebody else's, or is done already.

    Answers with the state that the task is in now, or None when it is another attempt's.
    """
    with in_hand():
        return attempt_one(task_id, number, worker=worker, terms=terms)


@contextmanager
def in_hand() -> Iterator[None]:
    """Tickets are in this child's hands: told to leave, it first lets go of them."""
    global _has_ticket
    _has_ticket = True
    try:
        yield
    finally:
        _has_ticket = False
        if _leaving:
            tracing.flush()
            raise SystemExit(0)


def is_leaving() -> bool:
    return _leaving


def attempt_one(
    task_id: str, number: int, *, worker: str, terms: Terms | None, doubtful: bool = False
) -> str | None:
    """From the claim to the settled row. It is `doubtful` when it was claimed before and the answer did not come."""
    with log.about(task_id, number):
        failpoints.reach("f5")
        claim = _claim(task_id, number, worker, terms, doubtful)
        if claim is None:
            logger.debug("dropped a ticket: the task is not waiting for it", extra={"action": "ticket_dropped"})
            return state_of(task_id, unless=LIVE)
        logger.info("%s started", claim.task_type, extra={"action": "task_started", "worker": worker})
        failpoints.reach("f6")
        attempt = Attempt(claim)
        if _leaving:
            attempt.interrupt(Leaving())
        with tracing.attempt(claim) as ended:
            with heartbeat.beside(attempt):
                outcome = perform(attempt)
                with heartbeat.shielded():
                    state = settle(attempt, outcome)
                    failpoints.reach("f13")
            ended(state)
    return state


def state_of(task_id: str, *, unless: Collection[State] = ()) -> str | None:
    try:
        state = queries.state(task_id)
    except db.Unavailable:
        return None
    return state.value if state and state not in unless else None


def _claim(
    task_id: str, number: int, worker: str, terms: Terms | None, doubtful: bool
) -> transitions.Claim | None:
    """An absent ledger is waited for: nothing else could be done meanwhile."""
    if _leaving:
        return None
    lease_seconds = settings().lease_seconds
    better = celery_config.better_queues(terms.queue) if terms else ()
    until = time.monotonic() + INSIST_SECONDS
    while True:
        try:
            claim = transitions.claim(
                task_id, number, worker=worker, lease_seconds=lease_seconds, terms=terms, better_queues=better
            )
            if claim is None and doubtful:
                let_go_of_own(task_id, number, worker)
            return claim
        except db.Unavailable:
            doubtful = True
            if time.monotonic() > until or _leaving:
                logger.warning("the ledger does not answer, letting go of a ticket")
                return None
            time.sleep(_PAUSE_SECONDS)


def let_go_of_own(task_id: str, number: int, worker: str) -> None:
    """A claim that was won, and of which nobody heard, leaves an attempt that nobody makes. It uses up no retry."""
    if queries.claimant(task_id, number) == transitions.claimant(worker):
        transitions.hand_back(task_id, number, remark="the answer to its claim was lost")


# --- run -----------------------------------------------------------------------------------------------------------


def perform(attempt: Attempt) -> Outcome:
    """Run the handler and prepare the participants."""
    try:
        attempt.check()
        kind = catalog.get(attempt.claim.task_type)
        with attempt.handling():
            result = kind.handler(attempt, kind.parameters.model_validate(attempt.claim.parameters))
        _check_result(result)
        attempt.check()
        _prepare(attempt)
    except Interrupted as interruption:
        return interruption
    except xa.StillHeld:
        return Postponed()
    except (Exception, SystemExit) as error:  # noqa: BLE001  a handler may fail in any way
        # A killed connection surfaces as the driver's error; the reason for the KILL is what counts.
        return attempt.interruption or Failed(error)
    return Done(result)


def _check_result(result: Any) -> None:
    """A result that cannot be written down fails the attempt while that is still possible."""
    try:
        size = len(json.dumps(result, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"the handler's result is no JSON: {error}") from error
    if size > RESULT_BYTES:
        raise PermanentError(f"the handler's result has {size:,} bytes, more than the {RESULT_BYTES:,} that are kept")


def _prepare(attempt: Attempt) -> None:
    for participant in attempt.participants:
        participant.prepare()
    failpoints.reach("f10")


# --- settle --------------------------------------------------------------------------------------------------------


def settle(attempt: Attempt, outcome: Outcome) -> str | None:
    """Make its outcome the task's; answers with the state that the task is in now, None when nobody knows."""
    try:
        match outcome:
            case Done(result, doubtful):
                if _succeed(attempt, result, doubtful):
                    return State.SUCCEEDED.value
            case Failed(error):
                _undo(attempt)
                _fail(attempt, error)
            case Stopped():
                _undo(attempt)
                confirm_stop(attempt)
            case TimedOut():
                _undo(attempt)
                _fail(attempt, TimeoutError(f"took longer than {attempt.claim.timeout_seconds} s"))
            case Leaving():
                _undo(attempt)
                done = f", after {attempt.done} done" if attempt.done else ""
                _hand_back(attempt, f"its worker is leaving{done}")
            case Postponed():
                _undo(attempt)
                _hand_back(attempt, "an earlier attempt's work is still being undone")
            case LeaseLost():
                _undo(attempt)
                logger.warning("lost its lease", extra={"action": "lease_lost"})
    finally:
        for branch in attempt.branches.values():
            branch.close()
    return state_of(attempt.task_id)


def _succeed(attempt: Attempt, result: Any, doubtful: bool) -> bool:
    """Whether the task has succeeded, for certain."""
    if attempt.participants:
        decided = _insist(attempt, lambda: _decide(attempt, result), {State.COMMITTING, State.SUCCEEDED})
        if decided is None:
            logger.error("the decision is unknown, leaving it to the monitor", extra={"action": "task_in_doubt"})
            return False
        if not decided:
            _undo(attempt)
            confirm_stop(attempt)
            return False
        failpoints.reach("f11")
        if not _commit(attempt):
            return False
        failpoints.reach("f12")
    won = _insist(
        attempt,
        lambda: transitions.finish(
            attempt.task_id,
            attempt.number,
            result=result,
            databases=sorted(attempt.branches),
            has_webhook=attempt.claim.webhook is not None,
            **attempt.progressed,
        ),
        {State.SUCCEEDED},
        doubtful=doubtful,
    )
    if won:
        failpoints.reach("f14")
        results.keep(attempt.task_id, attempt.number, result)
        logger.info("%s succeeded", attempt.claim.task_type, extra={"action": "task_succeeded"})
    elif won is False:
        _tell_late(attempt)
        confirm_stop(attempt)
    return won is True


def _tell_late(attempt: Attempt) -> None:
    """The task was taken from an attempt that had decided, and now its effects are there all the same. Nobody may
    have to guess any more."""
    if attempt.effects and not attempt.branches:
        words = f"attempt {attempt.number} has done its last step after all, although the task was taken from it"
        _insist(attempt, lambda: _remark(attempt.task_id, "done_late", words), ())


def _remark(task_id: str, event: str, words: str) -> bool:
    transitions.remark(task_id, event, words)
    return True


def _decide(attempt: Attempt, result: Any) -> bool:
    databases = sorted(attempt.branches)
    return transitions.decide(attempt.task_id, attempt.number, databases=databases, result=result, **attempt.progressed)


def _commit(attempt: Attempt) -> bool:
    """Carry the decision out. A branch that cannot be reached is the monitor's; a failed effect fails the attempt."""
    try:
        for participant in attempt.participants:
            participant.commit()
            failpoints.reach("f20")
    except LeaseLost:
        logger.warning("lost its task before the last step", extra={"action": "lease_lost"})
        return False
    except Exception as error:
        if attempt.branches:
            logger.exception("could not commit, leaving it to the monitor", extra={"action": "task_in_doubt"})
        else:
            _fail(attempt, error)
        return False
    return True


def _fail(attempt: Attempt, error: BaseException) -> None:
    told = failure.describe(error)
    won = _insist(attempt, lambda: _settle_failure(attempt.claim, error, told), failure.REACHED)
    # The message may repeat a parameter; the ledger has it, for those who may see the task.
    shown = {name: told[name] for name in ("type", "permanent", "at")}
    if won is False:
        confirm_stop(attempt)
        return
    logger.warning("%s failed", attempt.claim.task_type, extra={"action": "attempt_failed", "error": shown})


def _settle_failure(claim: transitions.Claim, error: BaseException, told: dict[str, Any]) -> bool:
    if isinstance(error, OutcomeUnknown):
        return failure.settle_uncertain(
            task_id=claim.task_id,
            attempt=claim.attempt,
            task_type=claim.task_type,
            parameters=claim.parameters,
            retries=claim.retries,
            max_retries=claim.max_retries,
            said=told["message"],
        )
    return failure.settle(
        task_id=claim.task_id,
        attempt=claim.attempt,
        task_type=claim.task_type,
        retries=claim.retries,
        max_retries=claim.max_retries,
        error=told,
    )


def _hand_back(attempt: Attempt, remark: str) -> None:
    won = _insist(
        attempt,
        lambda: transitions.hand_back(attempt.task_id, attempt.number, remark=remark),
        {State.QUEUED, State.RUNNING},
    )
    if won is False:
        confirm_stop(attempt)
        return
    logger.info("%s handed back", attempt.claim.task_type, extra={"action": "task_handed_back"})


def _undo(attempt: Attempt) -> None:
    """Roll every participant back. What cannot be reached any more is dropped: the server undoes it by itself."""
    for participant in reversed(attempt.participants):
        try:
            participant.rollback()
        except Exception as error:  # noqa: BLE001  the next participant must be undone all the same
            logger.info("rollback cut short: %s", type(error).__name__, extra={"action": "rollback_cut_short"})
    for branch in attempt.branches.values():
        branch.close()


def confirm_stop(attempt: Attempt) -> None:
    """If it was a stop that took the task: see that nothing remains, and say so. Otherwise it is others' by now."""
    until = time.monotonic() + CONFIRM_SECONDS
    try:
        if not transitions.was_stopped(attempt.task_id, attempt.number):
            logger.warning("lost its task", extra={"action": "lease_lost"})
            return
        # Perhaps somebody else has confirmed it, while this process was frozen.
        logger.info("ended: its task was stopped", extra={"action": "attempt_stopped"})
        while not _confirmed(attempt) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
    except xa.OUT_OF_REACH as error:
        logger.warning("a database does not answer, leaving the stop to the monitor: %s", error)


def _confirmed(attempt: Attempt) -> bool:
    """Wherever an attempt of the task was: an earlier one's work may still be being undone."""
    row = queries.standing(attempt.task_id)
    if row is None or row.state is not State.REVOKING:
        return True
    return revoke.confirm(attempt.task_id, attempt.number, databases=row.participants, rows_undone=attempt.rows)


def _insist(
    attempt: Attempt, verb: Callable[[], bool], reached: Collection[State], *, doubtful: bool = False
) -> bool | None:
    """Make a move through an outage of the ledger. None when the outcome stays unknown.

    A move whose answer was lost may have been made: a later refusal counts as won when the row stands, for this very
    attempt, where the move leads.
    """
    until = time.monotonic() + INSIST_SECONDS
    while True:
        try:
            if verb():
                return True
            row = queries.standing(attempt.task_id) if doubtful else None
            return row is not None and row.attempt == attempt.number and row.state in reached
        except db.Unavailable:
            doubtful = True
            if time.monotonic() > until:
                return None
            time.sleep(_PAUSE_SECONDS)
