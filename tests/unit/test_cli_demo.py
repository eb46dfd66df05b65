"""The demo fails loudly whenever an answer is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from cli import demo
from cli.output import Output


class Pretending(demo.Service):
    """Answers from a list of counts, with one verdict."""

    def __init__(self, *verdicts: str, counts: list[int], state: str = "running") -> None:
        self._verdicts, self._counts, self._state = list(verdicts), counts, state

    def get(self, path: str) -> dict[str, Any]:
        if path == "/get_data/count":
            return {"count": self._counts.pop(0)}
        return {"state": self._state, "progress": {"done": 1000, "total": demo.ROWS}}

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return {"task_id": "t", "verdict": self._verdicts.pop(0) if path.startswith("/stop") else ""}


def test_a_stop_that_left_nothing_passes() -> None:
    demo.stop_an_insert(Pretending("rolled_back", counts=[5, 5]), Output())


def test_an_insert_that_was_too_quick_is_tried_again() -> None:
    counts = [5, 5 + demo.ROWS, 9, 9]
    demo.stop_an_insert(Pretending("already_finished", "rolled_back", counts=counts), Output())
    assert not counts


@pytest.mark.parametrize(
    ("verdict", "counts", "state"),
    [
        ("rolled_back", [5, 1005], "running"),
        ("already_finished", [5, 5], "running"),
        ("already_finished", [5 + each * demo.ROWS for each in (0, 1, 1, 2, 2, 3)], "running"),
        ("rolled_back", [5, 5], "failed"),
    ],
)
def test_an_answer_that_does_not_fit_fails_the_demo(verdict: str, counts: list[int], state: str) -> None:
    with pytest.raises(demo.DemoFailed):
        demo.stop_an_insert(Pretending(*[verdict] * demo.TRIES, counts=counts, state=state), Output())


def test_a_long_result_is_cut_to_one_line() -> None:
    shown = demo.compact({"text": "a\nb" * 100})
    assert len(shown) == 110
    assert "\n" not in shown
