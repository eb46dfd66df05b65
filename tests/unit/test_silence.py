"""A queue that takes no tickets rests ever longer, and not at all once it takes some."""

from __future__ import annotations

import pytest

from tasks.silence import FIRST_SECONDS, MOST_SECONDS, Silence


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("tasks.silence.time.monotonic", lambda: now[0])
    return now


def test_a_silent_queue_rests_and_is_tried_again(clock: list[float]) -> None:
    found = Silence()
    assert not found.rests("data.low")
    assert found.begins("data.low") == FIRST_SECONDS
    assert found.rests("data.low") and not found.rests("data.high")
    clock[0] += FIRST_SECONDS
    assert not found.rests("data.low") and "data.low" in found, "tried, and not yet trusted"


def test_the_longer_a_queue_is_silent_the_longer_it_rests(clock: list[float]) -> None:
    found = Silence()
    rests = [found.begins("data.low") for _ in range(8)]
    assert rests == sorted(rests) and rests[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert rests[-1] == MOST_SECONDS


def test_one_that_takes_tickets_again_is_as_good_as_any(clock: list[float]) -> None:
    found = Silence()
    found.begins("data.low")
    found.ends("data.low")
    found.ends("data.high")
    assert list(found) == [] and not found.rests("data.low")
    assert found.begins("data.low") == FIRST_SECONDS
