"""When a cron expression comes, in a time zone: pure, counted from moments that others read from the database's clock.

The expressions are cronsim's, which keeps to Debian's cron. What that means where the clocks change:

    30 2 * * *     at a time of day        where that hour is left out, at the first moment after it; where it is there
                                           twice, once, the first time
    */30 * * * *   minute or hour with *   by elapsed time: in each of two equal hours as often as in any other
    0 30 2 * * *   with seconds in front   by the clock on the wall: what is left out does not come, what is there twice
                                           comes twice
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

LONGEST_EXPRESSION = 100

_FIRST_SPAN = timedelta(minutes=1)
_TICK = timedelta(seconds=1)
#: What the machine's own zone is called where it is listed, and a zone that is none.
_NO_ZONES = frozenset({"localtime", "Factory", "posixrules"})
_EXPECTED = "expected minute, hour, day, month and weekday, such as '30 2 * * MON-FRI', or these with seconds in front"


class BadCron(Exception):
    """The expression is none, or never comes; the message says which."""


class UnknownZone(Exception):
    """There is no such time zone; the message has the one that may be meant."""


@dataclass(frozen=True)
class Cron:
    """An expression that was checked, and the name of a time zone."""

    expression: str
    timezone: str

    def ticks(self, after: datetime) -> Iterator[datetime]:
        """The moments behind another one, in UTC and in order."""
        last = after
        for found in CronSim(self.expression, after.astimezone(_zone(self.timezone))):
            tick = found.astimezone(UTC)
            # In the second of two equal hours cronsim names moments of the first one.
            if tick > last:
                yield tick
                last = tick

    def following(self, after: datetime) -> datetime | None:
        """The next moment; None when there is none within 50 years."""
        return next(self.ticks(after), None)

    def next(self, number: int, after: datetime) -> list[datetime]:
        return list(islice(self.ticks(after), number))

    def latest(self, most: int, *, since: datetime, until: datetime) -> Sequence[datetime]:
        """The last so many moments within a span, both ends included, without a walk through all of it."""
        span = _FIRST_SPAN
        while True:
            start = max(since, until - span)
            found = deque(self._between(start, until), maxlen=most)
            if len(found) == most or start == since:
                return found
            span *= 2

    def _between(self, start: datetime, until: datetime) -> Iterator[datetime]:
        for tick in self.ticks(start - _TICK):
            if tick > until:
                return
            if tick >= start:
                yield tick

    def in_words(self) -> str:
        return CronSim(self.expression, datetime(2000, 1, 1)).explain()


def parsed(expression: str, timezone: str) -> Cron:
    """Raises BadCron and UnknownZone."""
    if timezone not in zones():
        raise UnknownZone(f"there is no time zone {timezone!r}{_meant(timezone)}")
    words = " ".join(expression.split())
    if not words.isascii() or len(words) > LONGEST_EXPRESSION:
        raise BadCron(f"{words[:LONGEST_EXPRESSION]!r} is no cron expression: {_EXPECTED}")
    try:
        CronSim(words, datetime(2000, 1, 1))
    except CronSimError as error:
        raise BadCron(f"{words!r} is no cron expression ({str(error).lower()}): {_EXPECTED}") from None
    return Cron(words, timezone)


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """The names of the IANA's time zones."""
    return frozenset(available_timezones()) - _NO_ZONES


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, zones(), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else "; they have names such as 'Europe/Berlin' or 'UTC'"
