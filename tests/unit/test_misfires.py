"""Which ticks make a task, by how late they are and by the policy of their schedule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ledger import cron
from ledger.misfires import MISSED_AFTER_SECONDS, MOST_MADE_UP, Misfire, plan

MINUTELY, SECONDLY = cron.parsed("* * * * *", "UTC"), cron.parsed("* * * * * *", "UTC")
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def all_of(each: cron.Cron, waited_for: datetime, now: datetime, policy: Misfire) -> list[datetime]:
    """The ticks that make tasks, one plan after the other, until the next is yet to come."""
    made: list[datetime] = []
    following: datetime | None = waited_for
    while following is not None and following <= now:
        found = plan(each, following, now=now, policy=policy)
        made += [found.tick] if found.tick else []
        following = found.then
    assert following is not None
    assert following > now
    return made


@pytest.mark.parametrize("policy", Misfire)
@pytest.mark.parametrize("late", [0, 0.2, 12, MISSED_AFTER_SECONDS])
def test_a_tick_that_is_hardly_late_makes_its_task(policy: Misfire, late: float) -> None:
    found = plan(MINUTELY, NOON, now=NOON + timedelta(seconds=late), policy=policy)
    assert (found.tick, found.passes_over) == (NOON, False)


@pytest.mark.parametrize(
    ("policy", "made"),
    [
        (Misfire.SKIP, [5]),
        (Misfire.RUN_ONCE, [4, 5]),
        (Misfire.RUN_ALL, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_was_missed_becomes_what_the_policy_says(policy: Misfire, made: list[int]) -> None:
    now = NOON + minutes(5.5)
    assert all_of(MINUTELY, NOON, now, policy) == [NOON + minutes(each) for each in made]


def test_a_tick_that_was_counted_by_other_rules_still_is_one() -> None:
    summer = cron.parsed("30 2 * * *", "Europe/Berlin")
    found = plan(summer, NOON, now=NOON + timedelta(seconds=1), policy=Misfire.SKIP)
    assert (found.tick, found.then) == (NOON, NOON.replace(hour=1, minute=30) + timedelta(days=1))


def test_a_rare_tick_that_was_missed_is_passed_over_or_made_up_for() -> None:
    yearly, now = cron.parsed("0 12 31 1 *", "UTC"), NOON + timedelta(days=100)
    assert all_of(yearly, NOON, now, Misfire.SKIP) == []
    assert all_of(yearly, NOON, now, Misfire.RUN_ONCE) == all_of(yearly, NOON, now, Misfire.RUN_ALL) == [NOON]
    assert plan(yearly, NOON, now=now, policy=Misfire.SKIP).then == NOON.replace(year=2027)


@pytest.mark.parametrize("each", [MINUTELY, SECONDLY])
def test_of_very_many_the_latest_are_made_up_for_and_no_more(each: cron.Cron) -> None:
    now = NOON + timedelta(days=400)
    made = all_of(each, NOON, now, Misfire.RUN_ALL)
    assert len(made) == MOST_MADE_UP
    assert made[-1] == now
    assert plan(each, NOON, now=now, policy=Misfire.RUN_ALL).passes_over
    assert len(all_of(SECONDLY, NOON, now, Misfire.SKIP)) == MISSED_AFTER_SECONDS + 1
