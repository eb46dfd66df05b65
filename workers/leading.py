"""A monitor's part in leadership: it tries for the lease, keeps it from a thread beside its rounds, and gives it back.

The thread is there because a round may take longer than the lease, when a broker or a database does not answer. It
keeps the lease only as long as the rounds go on: a monitor that hangs in one of them must not lead for ever.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from ledger import db, leadership
from ledger.leadership import LEASE_SECONDS, Term
from workers import metrics

logger = logging.getLogger(__name__)

#: Seconds between two renewals, and between two tries of those who do not lead.
RENEW_SECONDS = 1.0
TRY_SECONDS = 0.5
#: Seconds that one round may take before its monitor counts as hanging.
HANGING_SECONDS = 120.0


class Lead:
    """One monitor's lease. `term` is what it may act under now."""

    def __init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self._term: Term | None = None
        self._held_until = 0.0
        self._alive_at = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        metrics.LEADS.set_function(lambda: time.monotonic() < self._held_until)

    @property
    def term(self) -> Term | None:
        """None when it has to be claimed anew, also after a freeze, in which the clock of this machine went on."""
        self._alive_at = time.monotonic()
        return self._term if self._alive_at < self._held_until else None

    def claim(self) -> Term | None:
        """Try to begin a term."""
        before = time.monotonic()
        term = leadership.claim(self.holder)
        if term is not None:
            self._term, self._held_until = term, before + LEASE_SECONDS
            self._start()
            logger.info("leads, term %d", term.number, extra={"action": "leads", "term": term.number})
        return term

    def lose(self) -> None:
        """Others may lead: whatever was begun is broken off."""
        if self._term is not None:
            number = self._term.number
            logger.warning("leads no more, term %d", number, extra={"action": "deposed", "term": number})
        self._term = None

    def end(self) -> None:
        """Hand the lease over at once."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._term is not None:
            try:
                leadership.release(self._term)
            except db.Unavailable as error:
                logger.warning("the lease runs out by itself: %s", error, extra={"action": "ledger_away"})
        self._term = None

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            term, before = self._term, time.monotonic()
            if term is None or before - self._alive_at > HANGING_SECONDS:
                continue
            try:
                renewed = leadership.renew(term)
                if self._term is term:
                    self._held_until = before + LEASE_SECONDS if renewed else 0.0
            except Exception as error:  # noqa: BLE001  without a renewal the lease runs out, and that is all
                logger.warning("could not renew the lease: %s", error, extra={"action": "lease_not_renewed"})
