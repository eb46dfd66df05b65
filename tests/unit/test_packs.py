"""How long a pack's tasks take as a rule, by hand."""

from __future__ import annotations

import pytest

from tasks.pack import usual_seconds


@pytest.mark.parametrize(
    ("taken", "seconds"),
    [
        ([], 0),
        ([0.25], 0.25),
        ([0.25, 0.25], 0.5),
        ([0.25, 0.25, 8.0, 0.25], 1.0),
        ([0.25, 8.0, 8.0, 0.25], 34 / 3),
    ],
)
def test_one_task_that_was_held_up_does_not_count_and_two_do(taken: list[float], seconds: float) -> None:
    assert usual_seconds(taken) == pytest.approx(seconds)
