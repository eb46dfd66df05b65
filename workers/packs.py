"""Packs, as a worker's parent sees them: several tickets of short tasks for one child, and how many these may be.

Each ticket stays one of its own. It goes through Celery's machinery of checks and events as ever, it is acknowledged by
itself, and what became of its task is told by itself; only the way to the child and back is shared.

A worker's packs are claimed in the order in which they were taken: no child gets anything while one is on its way to
its claim, which is over in milliseconds. Otherwise two children side by side would turn whole packs around.

How many tickets a pack has follows from how long the last ones took to run: about SECONDS, because a more urgent
ticket may have to wait for that. What it takes to claim and settle them is left out: a task alone takes that too. And
no pack takes more than a part of what is in its queue, so that others find some.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ledger.packs import FIRST
from ledger.tickets import Ticket
from tasks import catalog, pack
from tasks.message import terms_of

#: What the tasks of a pack are to take together.
SECONDS = 0.01
#: Tickets of a pack.
FEWEST, MOST = 2, 64
#: Of the tickets in a queue, one pack takes so many at most.
PART = 8
#: Seconds for which the other children wait for a pack to be claimed; one may be frozen.
CLAIM_SECONDS = 1.0
#: Seconds for which a queue gets no packs after one that took too long although it was small.
REST_SECONDS = 5.0


class Sizes:
    """How many tickets of each queue go together."""

    def __init__(self) -> None:
        self._sizes: dict[str, float] = defaultdict(lambda: 2.0 * FEWEST)
        self._rests_until: dict[str, float] = {}

    def of(self, queue: str, depth: int) -> int:
        """With so many tickets in the queue; 1 is no pack."""
        size = min(int(self._sizes[queue]), depth // PART)
        return 1 if size < FEWEST or time.monotonic() < self._rests_until.get(queue, 0) else size

    def learn(self, queue: str, number: int, seconds: float) -> None:
        """A pack of that many took so long to run. The next one is twice as big at most."""
        fits = number * min(SECONDS / max(seconds, 1e-6), 2)
        self._sizes[queue] = min(max(fits, FEWEST), MOST)
        if fits < FEWEST:
            self._rests_until[queue] = time.monotonic() + REST_SECONDS

    def cut(self, queue: str, number: int) -> None:
        """After so many tickets came one that goes alone."""
        self._sizes[queue] = max(number, FEWEST)


class Packs:
    """What a worker keeps of them."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.sizes = Sizes()
        #: Those that are with a child.
        self.sent: set[Parcel] = set()
        self._open: Parcel | None = None
        self._last: Parcel | None = None
        self._count = itertools.count(1)

    @contextmanager
    def gather(self, queue: str) -> Iterator[None]:
        """The requests that are made in here go to one child."""
        parcel = self._open = Parcel(next(self._count), queue, self)
        try:
            yield
        finally:
            self._open = None
        if parcel.requests:
            self._last = parcel
            parcel.send(self.worker.pool, self.worker.hostname)

    def takes(self, request: Any) -> bool:
        """Whether a request goes with others; otherwise it goes to a child of its own."""
        if self._open is None or request.attempt != FIRST:
            return False
        self._open.requests.append(request)
        return True

    @property
    def unclaimed(self) -> bool:
        """Whether a pack is on its way to its claim."""
        return self._last in self.sent and not self._last.is_claimed

    @property
    def tickets(self) -> int:
        """How many tickets are with children beside the one of each that the pool counts."""
        return sum(len(parcel.requests) - 1 for parcel in self.sent)


class Parcel:
    """The requests that travel together."""

    def __init__(self, number: int, queue: str, packs: Packs) -> None:
        self.number = number
        self.queue = queue
        self.packs = packs
        self.requests: list[Any] = []
        self._sent_at = 0.0

    @property
    def is_claimed(self) -> bool:
        """Or has had its time for it."""
        return pack.claimed() >= self.number or time.monotonic() > self._sent_at + CLAIM_SECONDS

    def send(self, pool: Any, hostname: str) -> None:
        """To a free child."""
        self.packs.sent.add(self)
        self._sent_at = time.monotonic()
        pool.apply_async(
            pack.run,
            args=([_ticket(request) for request in self.requests],),
            kwargs={"worker": hostname, "number": self.number},
            accept_callback=self._on_accepted,
            timeout_callback=_no_soft_limits,
            callback=self._on_success,
            error_callback=self._on_failure,
            timeout=max(request.time_limits[0] for request in self.requests),
            correlation_id=self.requests[0].id,
        )

    def _on_accepted(self, pid: int, at: float) -> None:
        for request in self.requests:
            request.on_accepted(pid, at)

    def _on_success(self, report: tuple[list[str | None], float]) -> None:
        states, seconds = report
        self.packs.sent.discard(self)
        if pack.UNASKED not in states and all(other.number > self.number for other in self.packs.sent):
            # Nobody else's are before them: those behind the first came on a channel that only packs use.
            self.requests[-1].acknowledge_with(self.requests[1:])
        self.packs.sizes.learn(self.queue, len(self.requests), seconds)
        for request, state in zip(self.requests, states, strict=True):
            if state == pack.UNASKED:
                request.on_unasked()
            else:
                request.on_success((False, repr(state), seconds / len(self.requests)))

    def _on_failure(self, error: Any) -> None:
        self.packs.sent.discard(self)
        for request in self.requests:
            request.on_failure(error)


def fits(message: Any) -> bool:
    """Whether a ticket may go with others."""
    if message.errors or message.delivery_info["redelivered"]:
        return False
    match message.headers:
        case {"task": str(name), "retries": 0, "timelimit": [int(), *_]}:
            return catalog.is_short(name)
    return False


def _ticket(request: Any) -> Ticket:
    terms = terms_of(request.delivery_info["routing_key"], request.time_limits[0])
    return Ticket(request.id, request.attempt, request.name, terms.queue, terms.timeout_seconds)


def _no_soft_limits(soft: bool, timeout: float) -> None:
    """`Parcel._on_failure` sees to the hard one."""
