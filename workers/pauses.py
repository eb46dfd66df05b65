"""Which queues are paused, as a worker knows it: asked twice a second, so that the way to a ticket asks nobody.

The parent's event loop asks, over a connection of its own each time, for the reasons that `workers.presence` gives.
While the ledger does not answer, what was last known holds: nothing could be claimed then anyway. What is known a
moment too late costs nothing either: the ledger refuses the claim, and has the ticket sent again.
"""

from __future__ import annotations

import logging
import time

from sqlalchemy.exc import DBAPIError

from ledger import db, pauses

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.4
#: Seconds that the event loop waits for an answer, and for which a ledger without one is left alone.
PATIENCE_SECONDS = 0.5
REST_SECONDS = 3.0


class Pauses:
    """What one worker process knows."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self._next_at = 0.0

    def look(self) -> None:
        """Ask again, unless the ledger is to be left alone."""
        if time.monotonic() < self._next_at:
            return
        try:
            names = frozenset(pauses.paused(db.ledger_alone(PATIENCE_SECONDS)))
        except (db.Unavailable, DBAPIError) as error:
            self._next_at = time.monotonic() + REST_SECONDS
            log.info("cannot ask which queues are paused: %s", error, extra={"action": "pauses_unknown"})
            return
        if names != self.names:
            log.info("paused now: %s", ", ".join(sorted(names)) or "none", extra={"action": "pauses_changed"})
        self.names = names
