"""A pack: short tasks that one child does one after the other, claimed in one transaction and settled in one.

    claim them all ── something stands in the way of one ──> it is asked for alone at the end, while there is time
      │
    run one ── anything but a plain success ──> settled alone, at once
      │  └──── the time is up, or the worker leaves ──> those not yet begun are handed back
      │
    finish all that succeeded, keep copies of their results in Redis

To the ledger, to whoever stops one and to whoever watches, each is a task like any other: its state, its attempt, its
events and its guards are its own. Only the commits are shared, which is what short tasks spend their time on.

When things fail: a child that dies leaves the rows of its pack as it would have left one, and they are tried again,
alone from then on. A task that takes longer than a beat after all lets go of the others (`heartbeat.beside_pack`):
those that are done are settled, those that are not begun are handed back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from ctypes import c_uint64, sizeof
from mmap import mmap

import celery_config
import failpoints
from ledger import db, packs
from ledger.states import State
from ledger.tickets import Terms, Ticket
from ledger.transitions import Claim
from settings import settings
from tasks import heartbeat, lifecycle, log, results, tracing
from tasks.attempt import Attempt
from tasks.lifecycle import Done

logger = logging.getLogger(__name__)

#: Seconds after which a pack begins no other task. It was meant to take a fiftieth of that (`workers.packs`): a machine
#: that is busy for a moment is no reason to hand tasks back.
PATIENCE_SECONDS = 0.5
#: What `run` answers for a ticket that it had no time to ask for: it is as good as ever.
UNASKED = "unasked"


#: The number of the last pack that was claimed, in memory that the forked children share with their parent.
_claimed = c_uint64.from_buffer(mmap(-1, sizeof(c_uint64)))


def claimed() -> int:
    """The number of the last pack that was claimed in any of a worker's children."""
    return int(_claimed.value)


def tell_claimed(number: int) -> None:
    """The worker's next tickets may be claimed now."""
    _claimed.value = max(number, _claimed.value)


def run(tickets: Sequence[Ticket], *, worker: str, number: int = 0) -> tuple[list[str | None], float]:
    """Do what these tickets of first attempts ask for, as their worker's pack of that number. Answers as
    `lifecycle.run`, for each of them, or UNASKED; and how many seconds it takes as a rule to do so many."""
    with lifecycle.in_hand():
        failpoints.reach("f5")
        try:
            claims = _claim(tickets, worker)
            pack = Pack(claims or ())
        finally:
            tell_claimed(number)
        failpoints.reach("f6")
        taken = []
        with heartbeat.beside_pack(pack):
            while (attempt := pack.next()) is not None:
                began = time.monotonic()
                _do(pack, attempt, worker)
                taken.append(time.monotonic() - began)
            with heartbeat.shielded():
                pack.settle()
                failpoints.reach("f13")
        states = [_state(pack, ticket, worker, doubtful=claims is None) for ticket in tickets]
        return states, usual_seconds(taken)


def usual_seconds(taken: Sequence[float]) -> float:
    """What all take together, if the longest is counted as one of the others: on a busy machine the processor is given
    to somebody else now and then, which says nothing of the tasks."""
    if len(taken) < 2:
        return sum(taken)
    return (sum(taken) - max(taken)) * len(taken) / (len(taken) - 1)


class Pack:
    """The attempts of a pack, which the beats beside it may break up at any moment."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.current: Attempt | None = None
        #: What became of each, by task id; None for one that was handed back.
        self.states: dict[str, str | None] = {}
        self._waiting = deque(Attempt(claim) for claim in claims)
        self._done: dict[str, tuple[Attempt, Done]] = {}
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._lock = threading.Lock()

    @property
    def is_over_time(self) -> bool:
        return lifecycle.is_leaving() or time.monotonic() > self._until

    def next(self) -> Attempt | None:
        """The next one to do."""
        with self._lock:
            if self.is_over_time:
                self._hand_back()
            self.current = self._waiting.popleft() if self._waiting else None
            heartbeat.turn_to(self.current)
            return self.current

    def succeeded(self, attempt: Attempt, outcome: Done) -> None:
        """To be settled with the others."""
        with self._lock:
            self._done[attempt.task_id] = attempt, outcome

    def settle(self) -> None:
        """Settle what has succeeded so far."""
        with self._lock:
            self._settle()

    def break_up(self) -> None:
        """Let go of all but the current one."""
        with self._lock:
            self._hand_back()
            self._settle()

    def _hand_back(self) -> None:
        task_ids = [attempt.task_id for attempt in self._waiting]
        if not task_ids:
            return
        self._waiting.clear()
        self.states.update(dict.fromkeys(task_ids))
        try:
            packs.hand_back(task_ids, remark="the pack that it was claimed with took too long")
        except db.Unavailable:
            logger.warning("the ledger does not answer, leaving %d claimed tasks to their leases", len(task_ids))

    def _settle(self) -> None:
        done, self._done = self._done, {}
        if not done:
            return
        try:
            won = packs.finish({task_id: outcome.result for task_id, (_, outcome) in done.items()})
        except db.Unavailable:
            self._settle_alone(done)
            return
        failpoints.reach("f14")
        results.keep_all(
            (task_id, attempt.number, outcome.result) for task_id, (attempt, outcome) in done.items() if task_id in won
        )
        for task_id, (attempt, _) in done.items():
            with log.about(task_id, attempt.number):
                if task_id in won:
                    self.states[task_id] = State.SUCCEEDED.value
                    logger.info("%s succeeded", attempt.claim.task_type, extra={"action": "task_succeeded"})
                else:
                    lifecycle.confirm_stop(attempt)
                    self.states[task_id] = lifecycle.state_of(task_id)

    def _settle_alone(self, done: dict[str, tuple[Attempt, Done]]) -> None:
        """The ledger did not answer, and may have been told all the same: each waits for it as ever."""
        for task_id, (attempt, outcome) in done.items():
            with log.about(task_id, attempt.number):
                self.states[task_id] = lifecycle.settle(attempt, Done(outcome.result, doubtful=True))


def _claim(tickets: Sequence[Ticket], worker: str) -> list[Claim] | None:
    """None when the ledger does not answer: that is waited for where each is asked for alone."""
    if lifecycle.is_leaving():
        return []
    terms = {ticket.task_id: Terms(ticket.queue, ticket.timeout_seconds) for ticket in tickets}
    better = celery_config.better_queues(tickets[0].queue)
    try:
        return packs.claim(terms, worker=worker, lease_seconds=settings().lease_seconds, better_queues=better)
    except db.Unavailable:
        return None


def _do(pack: Pack, attempt: Attempt, worker: str) -> None:
    claim = attempt.claim
    with log.about(attempt.task_id, attempt.number), tracing.attempt(claim) as ended:
        logger.info("%s started", claim.task_type, extra={"action": "task_started", "worker": worker})
        outcome = lifecycle.perform(attempt)
        with heartbeat.shielded():
            if isinstance(outcome, Done) and attempt.is_plain:
                pack.succeeded(attempt, outcome)
                ended(State.SUCCEEDED)
            else:
                state = pack.states[attempt.task_id] = lifecycle.settle(attempt, outcome)
                ended(state)


def _state(pack: Pack, ticket: Ticket, worker: str, *, doubtful: bool) -> str | None:
    if ticket.task_id in pack.states:
        return pack.states[ticket.task_id]
    if pack.is_over_time:
        if doubtful:
            with suppress(db.Unavailable):
                lifecycle.let_go_of_own(ticket.task_id, ticket.attempt, worker)
        return UNASKED
    terms = Terms(ticket.queue, ticket.timeout_seconds)
    return lifecycle.attempt_one(ticket.task_id, ticket.attempt, worker=worker, terms=terms, doubtful=doubtful)
