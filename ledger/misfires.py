"""What becomes of the ticks of a schedule that have come: which one makes a task now, and which is waited for then.

Pure. A tick that is late by more than MISSED_AFTER_SECONDS was missed: nobody was there to take it. Its schedule's
policy says what becomes of those. Whatever is less late makes its task, each tick one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ledger.cron import Cron

#: Far more than another monitor needs to take over.
MISSED_AFTER_SECONDS = 60
#: Ticks that are made up for, the latest ones; those before them are passed over whatever the policy.
MOST_MADE_UP = 100


class Misfire(StrEnum):
    """What becomes of ticks that were missed."""

    #: None of them makes a task.
    SKIP = "skip"
    #: The last of them makes one for all.
    RUN_ONCE = "run_once"
    #: Each makes one, up to MOST_MADE_UP.
    RUN_ALL = "run_all"


class Overlap(StrEnum):
    """What becomes of a tick while an earlier one's task has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


@dataclass(frozen=True)
class Plan:
    #: The tick that makes a task now, if one does.
    tick: datetime | None
    #: The next to be waited for, which may have come already; None when there is none any more.
    then: datetime | None
    #: Whether ticks between the two, or before the first, make none.
    passes_over: bool


def plan(cron: Cron, waited_for: datetime, *, now: datetime, policy: Misfire) -> Plan:
    """`waited_for` is the first tick of which nothing has become yet. It is one, also where the zone's rules are others
    by now."""
    after = waited_for + timedelta.resolution
    come = [waited_for, *cron.latest(MOST_MADE_UP, since=after, until=now)][-MOST_MADE_UP:]
    missed_before = now - timedelta(seconds=MISSED_AFTER_SECONDS)
    missed = [tick for tick in come if tick < missed_before]
    in_time = come[len(missed) :]
    match policy:
        case Misfire.SKIP:
            wanted = in_time
        case Misfire.RUN_ONCE:
            wanted = missed[-1:] + in_time
        case Misfire.RUN_ALL:
            wanted = come
    then = wanted[1] if len(wanted) > 1 else cron.following(now)
    return Plan(wanted[0] if wanted else None, then, passes_over=not wanted or wanted[0] > waited_for)
