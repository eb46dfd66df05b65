"""Queues that did not take their tickets, and until when each of them is left alone.

One of nine may be dead, or wait for most of its members to come back, while the others are well. What is sent to it
only costs time, and more of it each time in vain, so it rests the longer the longer it is silent. `tasks.mending` looks
what is wrong with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

#: Seconds of the first rest and of the longest; each is twice the one before.
FIRST_SECONDS = 3.0
MOST_SECONDS = 60.0


@dataclass(frozen=True)
class _Rest:
    seconds: float
    until: float


class Silence:
    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def __contains__(self, queue: str) -> bool:
        """Whether it took nothing when it was last tried."""
        return queue in self._rests

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._rests))

    def rests(self, queue: str) -> bool:
        """Whether it is not to be tried now."""
        rest = self._rests.get(queue)
        return rest is not None and time.monotonic() < rest.until

    def begins(self, queue: str) -> float:
        """It took nothing, perhaps once more; the seconds for which it rests."""
        before = self._rests.get(queue)
        seconds = min(2 * before.seconds, MOST_SECONDS) if before else FIRST_SECONDS
        self._rests[queue] = _Rest(seconds, time.monotonic() + seconds)
        return seconds

    def ends(self, queue: str) -> None:
        """It takes tickets, or is to be tried at once."""
        self._rests.pop(queue, None)
