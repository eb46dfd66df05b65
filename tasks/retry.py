"""When to try again: exponential backoff with full jitter. Pure: no clock, no settings, no I/O.

Full jitter spreads the second attempts of tasks that failed together over the whole wait; see M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

#: Bounds within which a type or a single task may set its own.
MOST_RETRIES = 100
LONGEST_CAP_SECONDS = 86_400.0


class PermanentError(Exception):
    """Trying again cannot help. The message is shown to whoever reads the task."""


class OutcomeUnknown(Exception):
    """The last step was taken, and its answer was lost: whether it took effect is not known."""


class IfUncertain(StrEnum):
    """What becomes of a task when nobody knows whether its last step took effect."""

    #: It fails, and waits for somebody who finds out: nothing is done twice, and nothing is forgotten.
    HOLD = "hold"
    #: It is tried again, which may do it twice.
    RETRY = "retry"
    #: It counts as done, which may be wrong; the result says so.
    TREAT_AS_DONE = "treat_as_done"


@dataclass(frozen=True)
class Policy:
    """How often, and with which waits in seconds, a type is tried again."""

    max_retries: int = 3
    initial_seconds: float = 1.0
    factor: float = 2.0
    cap_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_retries <= MOST_RETRIES:
            raise ValueError(f"max_retries must lie within 0 and {MOST_RETRIES}")
        if not 0 < self.initial_seconds <= self.cap_seconds <= LONGEST_CAP_SECONDS:
            raise ValueError(f"0 < initial_seconds <= cap_seconds <= {LONGEST_CAP_SECONDS:g} must hold")
        if self.factor < 1:
            raise ValueError("factor must be at least 1")

    def longest_wait_seconds(self, retries: int) -> float:
        """Before the next attempt after `retries` earlier retries: 1, 2, 4, ... up to the cap."""
        # Beyond 64 doublings the cap has long been reached, and a float could overflow.
        return min(self.cap_seconds, self.initial_seconds * self.factor ** min(retries, 64))

    def wait_seconds(self, retries: int, chance: float) -> float:
        """The wait for a `chance` drawn evenly from [0, 1)."""
        return self.longest_wait_seconds(retries) * chance


def draw() -> float:
    """A chance for `wait_seconds`."""
    return random.random()
