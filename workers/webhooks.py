"""Delivers to webhooks: a process of its own, so that nothing which waits for strangers stands beside what moves tasks.

Any number may run. Each takes what is due under a lease (`ledger.deliveries`), and a thread for each try sends it. How
a slow or dead receiver is kept from holding up others:

  - What goes to one place for one owner is a lane, and a lane has few tries under way at a time.
  - Lanes that did not answer the last time share a few of the hands, as do lanes that have yet to answer for the first
    time: the rest is always there for receivers that answer. Of such lanes one owner has few at a time.
  - A lane with a million deliveries that are due costs no more to look at than one with a single one, and no lane is
    looked at before the others.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType

from ledger import db, deliveries, fitness, outbox, schema
from ledger.deliveries import Delivery
from ledger.grants import Role
from tasks import log
from tasks.webhooks import tries
from workers import metrics

logger = logging.getLogger(__name__)

#: Tries at a time.
HANDS = 32


@dataclass(frozen=True)
class Bounds:
    """Of tries under way: in one lane, in all lanes of its kind, and in those of one owner among them."""

    of_lane: int
    of_kind: int
    of_owner: int


#: For lanes that answered the last time, that did not, and of which nothing is known yet.
BOUNDS = {True: Bounds(4, HANDS, HANDS), False: Bounds(1, 8, 2), None: Bounds(1, 16, 4)}
#: Lanes that are remembered.
MOST_REMEMBERED = 10_000
#: Seconds between two looks while nothing happens.
LOOK_SECONDS = 0.5


@dataclass
class Lanes:
    """What this process is at, and which lanes answered the last time. It remembers nothing that must be kept."""

    under_way: Counter[str] = field(default_factory=Counter)
    answered: dict[str, bool] = field(default_factory=dict)

    def room(self, lane: str) -> int:
        """How many more tries of a lane may begin."""
        kind = self.answered.get(lane)
        bounds = BOUNDS[kind]
        alike = Counter({each: number for each, number in self.under_way.items() if self.answered.get(each) is kind})
        owner = outbox.owner_of(lane)
        of_owner = sum(number for each, number in alike.items() if outbox.owner_of(each) == owner)
        return min(
            HANDS - self.under_way.total(),
            bounds.of_lane - self.under_way[lane],
            bounds.of_kind - alike.total(),
            bounds.of_owner - of_owner,
        )

    def begin(self, lane: str, number: int) -> None:
        self.under_way[lane] += number

    def end(self, lane: str, *, answered: bool) -> None:
        self.under_way[lane] -= 1
        if not self.under_way[lane]:
            del self.under_way[lane]
        if len(self.answered) >= MOST_REMEMBERED:
            self.answered.clear()
        self.answered[lane] = answered


@dataclass
class Deliverer:
    lanes: Lanes = field(default_factory=Lanes)
    over: threading.Event = field(default_factory=threading.Event)
    #: Something changed, so that a look is worth it.
    woken: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Deliver what is due, until told to end; what is under way then is finished."""
        logger.info("delivers to webhooks", extra={"action": "webhooks_started"})
        with ThreadPoolExecutor(HANDS, thread_name_prefix="webhook") as hands:
            while not self.over.is_set():
                self.woken.clear()
                self._begin_due(hands)
                self.woken.wait(LOOK_SECONDS)
        logger.info("delivers no more", extra={"action": "webhooks_ended"})

    def _begin_due(self, hands: ThreadPoolExecutor) -> None:
        try:
            lanes = deliveries.due_lanes()
            random.shuffle(lanes)
            for lane in lanes:
                with self._lock:
                    room = self.lanes.room(lane)
                if room > 0 and not self.over.is_set():
                    self._begin(hands, lane, room)
        except db.Unavailable as error:
            logger.warning("cannot see what is due: %s", error, extra={"action": "ledger_away"})
        except Exception:  # whatever went wrong with one look must not end the process
            logger.exception("a look failed", extra={"action": "look_failed"})

    def _begin(self, hands: ThreadPoolExecutor, lane: str, room: int) -> None:
        taken = deliveries.take(lane, room)
        with self._lock:
            self.lanes.begin(lane, len(taken))
        for delivery in taken:
            hands.submit(self._deliver, lane, delivery)

    def _deliver(self, lane: str, delivery: Delivery) -> None:
        answered = False
        try:
            answered = tries.run(delivery)
        except db.Unavailable as error:
            logger.warning("left event %d to its lease: %s", delivery.seq, error, extra={"action": "ledger_away"})
        except Exception:  # a broken delivery must not end the others; its lease runs out
            logger.exception("event %d failed", delivery.seq, extra={"action": "delivery_failed"})
        with self._lock:
            self.lanes.end(lane, answered=answered)
        self.woken.set()

    def end(self, signum: int, frame: FrameType | None) -> None:
        self.over.set()
        self.woken.set()


def main() -> None:
    log.setup()
    fitness.tell([schema.LEDGER], Role.WEBHOOKS)
    metrics.serve()
    deliverer = Deliverer()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, deliverer.end)
    deliverer.run()


if __name__ == "__main__":
    main()
