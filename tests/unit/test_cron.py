"""When cron expressions come, above all where the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import cron
from ledger.cron import BadCron, Cron, UnknownZone

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(words: str) -> datetime:
    return datetime.fromisoformat(words).replace(tzinfo=UTC)


def local(expression: str, zone: str, after: str, number: int) -> list[str]:
    """The next moments as a clock on the wall there shows them."""
    found = cron.parsed(expression, zone).next(number, utc(after))
    return [f"{tick.astimezone(ZoneInfo(zone)):%d %H:%M %z}" for tick in found]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "ticks"),
    [
        # In spring an hour is left out: on 29 March 2026 in Berlin, on 8 March in New York.
        ("30 2 * * *", BERLIN, "2026-03-28T02:00", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("0,30 2 * * *", BERLIN, "2026-03-28T02:00", ["29 03:00 +0200", "30 02:00 +0200"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T08:00", ["08 03:00 -0400", "09 02:30 -0400"]),
        ("0 3 * * *", BERLIN, "2026-03-28T03:00", ["29 03:00 +0200", "30 03:00 +0200"]),
        ("*/30 * * * *", BERLIN, "2026-03-29T00:15", ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]),
        ("0 30 2 * * *", BERLIN, "2026-03-28T02:00", ["30 02:30 +0200", "31 02:30 +0200"]),
        # In autumn one comes twice: on 25 October 2026 in Berlin, on 1 November in New York.
        ("30 2 * * *", BERLIN, "2026-10-24T02:00", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T06:00", ["01 01:30 -0400", "02 01:30 -0500"]),
        ("*/30 * * * *", BERLIN, "2026-10-25T00:15", ["25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100"]),
        ("0 30 2 * * *", BERLIN, "2026-10-24T02:00", ["25 02:30 +0200", "25 02:30 +0100", "26 02:30 +0100"]),
        # Asked in the middle of the hour that comes twice.
        ("30 2 * * *", BERLIN, "2026-10-25T00:30", ["26 02:30 +0100"]),
        ("30 2 * * *", BERLIN, "2026-10-25T01:10", ["26 02:30 +0100"]),
        ("30 1 * * *", NEW_YORK, "2026-11-01T06:10", ["02 01:30 -0500"]),
        # Where midnight itself is left out.
        ("0 0 * * *", "Africa/Cairo", "2026-04-23T00:00", ["24 01:00 +0300", "25 00:00 +0300"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["29 00:00 +0000"]),
    ],
)
def test_clocks_that_change_are_heeded(expression: str, zone: str, after: str, ticks: list[str]) -> None:
    assert local(expression, zone, after, len(ticks)) == ticks


MINUTES = ["0", "30", "*", "*/15", "5,35", "0-10/5"]
HOURS = ["*", "2", "1-3", "*/2", "0,2,23", "3"]
DAYS = ["*", "1", "*/10", "L"]
WEEKDAYS = ["*", "SUN", "MON-FRI", "7#1"]


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    seconds = draw(st.sampled_from(["", "", "", "0 ", "*/20 "]))
    fields = [draw(st.sampled_from(words)) for words in (MINUTES, HOURS, DAYS, ["*", "3,10,11"], WEEKDAYS)]
    return cron.parsed(seconds + " ".join(fields), draw(st.sampled_from([BERLIN, NEW_YORK, "UTC", "Asia/Kolkata"])))


#: Around the changes of the clocks, where it is hard, more often than elsewhere.
MOMENTS = st.one_of(
    *(
        st.datetimes(datetime.fromisoformat(day), datetime.fromisoformat(day) + timedelta(days=2))
        for day in ("2026-03-07T12:00", "2026-03-28T12:00", "2026-10-24T12:00", "2026-10-31T12:00")
    ),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),
).map(lambda moment: moment.replace(tzinfo=UTC))


@given(crons(), MOMENTS, st.floats(0, 0.999))
def test_the_next_tick_is_the_same_from_everywhere_before_it(each: Cron, after: datetime, part: float) -> None:
    """Whoever counts anew, after a restart or a pause, misses none and makes up none."""
    first, second = each.next(2, after)
    assert after < first < second
    between = first + (second - first) * part
    assert each.following(between) == second
    assert each.following(first - timedelta(microseconds=1)) == first


@given(crons(), MOMENTS, st.integers(1, 5), st.timedeltas(timedelta(0), timedelta(days=2)))
def test_the_latest_ticks_are_the_last_of_all(each: Cron, since: datetime, most: int, span: timedelta) -> None:
    until = since + span
    everything = list(takewhile(lambda tick: tick <= until, each.ticks(since)))
    found = list(each.latest(most, since=since + timedelta(microseconds=1), until=until))
    assert found == everything[-most:]


@pytest.mark.parametrize(
    "words",
    ["", "* * * *", "60 * * * *", "* * * * * * *", "0 0 30 2 *", "@daily", "* * * * MON#6", "٣ * * * *", "*/0 * * * *"],
)
def test_what_is_no_expression_is_refused_with_an_example(words: str) -> None:
    with pytest.raises(BadCron, match="'30 2 \\* \\* MON-FRI'"):
        cron.parsed(words, "UTC")


@given(st.text(st.sampled_from("0123456789*/,-#LW MONFRI²ß\t"), max_size=120))
def test_any_words_are_an_expression_or_refused(words: str) -> None:
    try:
        each = cron.parsed(words, BERLIN)
    except BadCron:
        return
    following = each.following(utc("2026-01-01T00:00"))
    assert following is None or following > utc("2026-01-01T00:00")
    assert each.in_words()


def test_an_expression_that_never_comes_has_no_next_tick() -> None:
    assert cron.parsed("* * */20 * 1L", "UTC").following(utc("2026-01-01T00:00")) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("+02:00", "such as 'Europe/Berlin'"),
        ("localtime", "there is no time zone"),
        ("../../etc/passwd", "there is no time zone"),
        ("", "there is no time zone"),
    ],
)
def test_a_zone_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(UnknownZone, match=said):
        cron.parsed("0 0 * * *", name)
