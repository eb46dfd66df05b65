"""Backoff with full jitter: how long the waits may be, and which policies are no policies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import retry
from tasks.retry import LONGEST_CAP_SECONDS, MOST_RETRIES, Policy

policies = st.builds(
    Policy,
    max_retries=st.integers(0, MOST_RETRIES),
    initial_seconds=st.floats(0.001, 1),
    factor=st.floats(1, 1000),
    cap_seconds=st.floats(1, LONGEST_CAP_SECONDS),
)


def test_the_default_waits_double_from_a_second_to_a_minute() -> None:
    waits = [Policy().longest_wait_seconds(retries) for retries in range(9)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert Policy().max_retries == 3


@given(policies, st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_stays_between_nothing_and_the_cap(policy: Policy, retries: int, chance: float) -> None:
    wait = policy.wait_seconds(retries, chance)
    assert 0 <= wait <= policy.longest_wait_seconds(retries) <= policy.cap_seconds


@given(policies, st.integers(0, 100))
def test_the_longest_wait_never_shrinks_with_more_retries(policy: Policy, retries: int) -> None:
    assert policy.longest_wait_seconds(retries) <= policy.longest_wait_seconds(retries + 1)


def test_jitter_spreads_over_the_whole_wait() -> None:
    policy = Policy(initial_seconds=10)
    waits = [policy.wait_seconds(0, retry.draw()) for _ in range(2_000)]
    quarters = [sum(quarter <= wait / 2.5 < quarter + 1 for wait in waits) for quarter in range(4)]
    assert sum(quarters) == 2_000
    assert min(quarters) > 350


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": -1},
        {"max_retries": MOST_RETRIES + 1},
        {"initial_seconds": 0},
        {"initial_seconds": -1},
        {"initial_seconds": 61},
        {"cap_seconds": LONGEST_CAP_SECONDS + 1},
        {"cap_seconds": float("nan")},
        {"factor": 0.5},
    ],
    ids=str,
)
def test_a_policy_beyond_its_bounds_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Policy(**wrong)
