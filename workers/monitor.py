"""The caretaker: finds what should move and does not, and moves it.

A process of its own and never a task: a caretaker that travels through the broker cannot notice that the broker is the
problem. Any number of monitors may run; one leads and goes round, the others wait for its lease to end. Each round is a
list of guarded moves, so that one may die or freeze anywhere; what it writes, it writes under its term
(`ledger.leadership`).

A further round is a further line in `Monitor.rounds`: a name, an interval, and a function that answers how much it
moved.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import failpoints
from ledger import (
    db,
    dependents,
    dispatches,
    fitness,
    idempotency,
    leadership,
    places,
    queries,
    schema,
    tallies,
    transitions,
)
from ledger import schedules as ticking
from ledger.grants import Role
from ledger.leadership import Term
from ledger.limits import Whose
from ledger.tickets import Ticket
from tasks import catalog, dead_letters, dispatch, log, remarks, resolve, schedules, storage
from tasks.counting import Counting
from tasks.dispatch import BrokerUnavailable, Publisher
from tasks.lost import Scan
from tasks.mending import Mending
from tasks.retention import Purge
from workers import metrics
from workers.leading import TRY_SECONDS, Lead

logger = logging.getLogger(__name__)

#: Seconds that the accepting process has to send a ticket itself: `tasks.relay.FRESH_SECONDS`, and those of a batch.
MISSED_AFTER_SECONDS = 3.0
#: Seconds for which an unreachable broker is left alone.
BROKER_REST_SECONDS = 3.0
#: Counting a million waiting tickets takes its time; so many times as long nobody counts after it.
SCAN_RESTS = 9
#: Seconds that one round may take to tell dependents: a long chain of failures must not keep the other rounds waiting.
TELLING_SECONDS = 0.5
#: The same for ticks, and for lines before limits.
FIRING_SECONDS = 1.0
ADMITTING_SECONDS = 0.5
#: The same for adding up what has happened.
ADDING_SECONDS = 0.3


@dataclass
class Round:
    """Something that is done every so many seconds."""

    name: str
    every_seconds: float
    act: Callable[[], int]
    next_at: float = 0.0


@dataclass
class Monitor:
    publisher: Publisher = field(default_factory=Publisher)
    scan: Scan = field(default_factory=Scan)
    mending: Mending = field(default_factory=Mending)
    purge: Purge = field(default_factory=Purge)
    counting: Counting = field(default_factory=Counting)
    lead: Lead = field(default_factory=Lead)
    over: threading.Event = field(default_factory=threading.Event)
    #: The databases that nobody has looked at yet; None before the first look.
    unseen: list[str] | None = None
    #: The lines before limits that have yet to be looked at, until all are once more.
    lines: list[Whose] = field(default_factory=list)
    _broker_rests_until: float = 0.0
    _scan_rests_until: float = 0.0

    def rounds(self) -> list[Round]:
        return [
            Round("due", 0.2, self._send_due),
            Round("schedules", 0.5, self._fire_ticks),
            Round("dependents", 0.2, self._tell_dependents),
            Round("limits", 0.2, self._admit),
            Round("expired", 0.5, transitions.expire),
            Round("missed", 0.5, self._send_missed),
            Round("expired_leases", 1.0, resolve.expire_leases),
            Round("stops", 0.5, resolve.finish_stops),
            Round("in_doubt", 1.0, resolve.settle_branches),
            Round("decided", 1.0, resolve.finish_decided),
            Round("mending", 2.0, self._mend_queues),
            Round("lost", 2.0, self._resend_lost),
            Round("dead_letters", 2.0, self._read_dead_letters),
            Round("retention", 1.0, self.purge.go_on),
            Round("leftovers", 3600.0, storage.sweep),
            Round("idempotency_keys", 60.0, idempotency.purge),
            Round("remarks", 5.0, remarks.leave),
            Round("fitness", 10.0, self._look_at_databases),
            Round("tallies", 1.0, self._add_up),
            Round("figures", 2.0, self._count),
        ]

    def run(self) -> None:
        """Lead when nobody else does, until told to end."""
        logger.info("monitor started", extra={"action": "monitor_started"})
        while not self.over.is_set():
            if self._claim():
                self._go_round()
            else:
                self.over.wait(TRY_SECONDS)
        self.lead.end()
        self.publisher.close()
        logger.info("monitor ended", extra={"action": "monitor_ended"})

    def _claim(self) -> bool:
        try:
            return self.lead.claim() is not None
        except db.Unavailable as error:
            logger.warning("cannot ask who leads: %s", error, extra={"action": "ledger_away"})
        except Exception:  # whatever keeps it from leading now must not keep it for ever
            logger.exception("could not ask who leads", extra={"action": "round_failed"})
        return False

    def _go_round(self) -> None:
        """Go round and round for as long as this monitor leads."""
        rounds, self.scan, self.mending = self.rounds(), Scan(), Mending()
        while not self.over.is_set():
            for each in rounds:
                if time.monotonic() < each.next_at:
                    continue
                term = self.lead.term
                if term is None or not self._go(each, term):
                    self.lead.lose()
                    return
                each.next_at = time.monotonic() + each.every_seconds
            self.over.wait(max(0.01, min(each.next_at for each in rounds) - time.monotonic()))

    def _go(self, each: Round, term: Term) -> bool:
        """One round; False when the term is over, and the round was broken off."""
        try:
            with metrics.ROUND_SECONDS.labels(each.name).time(), leadership.acting(term):
                moved = each.act()
            metrics.MOVED.labels(each.name).inc(moved)
            if moved:
                logger.info("round %s moved %d", each.name, moved, extra={"action": "round", "round": each.name})
        except leadership.Deposed:
            return False
        except db.Unavailable as error:
            metrics.BROKEN_OFF.labels(each.name, "ledger").inc()
            logger.warning("round %s: %s", each.name, error, extra={"action": "ledger_away", "round": each.name})
        except BrokerUnavailable as error:
            self._broker_rests_until = time.monotonic() + BROKER_REST_SECONDS
            metrics.BROKEN_OFF.labels(each.name, "broker").inc()
            logger.warning("round %s: %s", each.name, error, extra={"action": "broker_away", "round": each.name})
        except Exception:  # a broken round must not end the caretaker
            metrics.BROKEN_OFF.labels(each.name, "error").inc()
            logger.exception("round %s failed", each.name, extra={"action": "round_failed", "round": each.name})
        return True

    def _send_due(self) -> int:
        """Queue what is due, also while the broker is away: `missed` sends the tickets later."""
        tickets = dispatches.release_due()
        if tickets:
            failpoints.reach("f16")
        if tickets and not self._broker_rests():
            dispatch.dispatch(self.publisher, tickets)
        return len(tickets)

    def _fire_ticks(self) -> int:
        """Let the ticks that have come become tasks."""
        looked, tickets = 0, list[Ticket]()
        until = time.monotonic() + FIRING_SECONDS
        while time.monotonic() < until and (due := ticking.due()):
            for each in due:
                ticket = schedules.fire(each)
                tickets += [ticket] if ticket else []
            looked += len(due)
        if tickets:
            failpoints.reach("f18")
        if tickets and not self._broker_rests():
            dispatch.dispatch(self.publisher, tickets)
        return looked

    def _tell_dependents(self) -> int:
        """Tell of each task that has ended those that wait for it."""
        told, released = 0, list[Ticket]()
        until = time.monotonic() + TELLING_SECONDS
        while (tickets := dependents.tell()) is not None and time.monotonic() < until:
            told += 1
            released += tickets
        if released and not self._broker_rests():
            dispatch.dispatch(self.publisher, released)
        return told

    def _admit(self) -> int:
        """Queue what waits for a place under a limit, as far as there are places. Without a broker it would keep them
        for nothing."""
        if self._broker_rests():
            return 0
        admitted = list[Ticket]()
        self.lines = self.lines or places.lines()
        until = time.monotonic() + ADMITTING_SECONDS
        while self.lines and time.monotonic() < until:
            admitted += places.admit(self.lines.pop())
        if admitted:
            dispatch.dispatch(self.publisher, admitted)
        return len(admitted)

    def _send_missed(self) -> int:
        if self._broker_rests():
            return 0
        return dispatch.dispatch(self.publisher, queries.undispatched(MISSED_AFTER_SECONDS))

    def _mend_queues(self) -> int:
        if self._broker_rests():
            return 0
        mended = self.mending.mend(tuple(self.publisher.silence))
        for queue in mended:
            self.publisher.silence.ends(queue)
        return len(mended)

    def _resend_lost(self) -> int:
        began = time.monotonic()
        if self._broker_rests() or began < self._scan_rests_until:
            return 0
        resent = self.scan.resend(self.publisher)
        self._scan_rests_until = time.monotonic() + (time.monotonic() - began) * SCAN_RESTS
        return resent

    def _read_dead_letters(self) -> int:
        return 0 if self._broker_rests() else dead_letters.read()

    def _look_at_databases(self) -> int:
        """Tell once of each database what is wrong with it; one that is away is looked at when it is back."""
        waiting = [each.name for each in schema.databases()] if self.unseen is None else self.unseen
        self.unseen = fitness.tell(waiting, Role.MONITOR) if waiting else []
        return 0

    def _add_up(self) -> int:
        """Those who were away for long leave many events to be added."""
        until = time.monotonic() + ADDING_SECONDS
        while tallies.add_up() == tallies.CHUNK and time.monotonic() < until:
            pass
        return 0

    def _count(self) -> int:
        self.counting.count()
        return 0

    def _broker_rests(self) -> bool:
        return time.monotonic() < self._broker_rests_until

    def end(self, signum: int, frame: FrameType | None) -> None:
        self.over.set()


def main() -> None:
    log.setup()
    catalog.load()
    metrics.serve(*metrics.OF_MONITOR)
    monitor = Monitor()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, monitor.end)
    monitor.run()


if __name__ == "__main__":
    main()
