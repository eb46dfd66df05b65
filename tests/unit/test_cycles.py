"""Circles among tasks that name each other."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ledger.cycles import circle


def test_a_line_and_a_diamond_are_no_circle() -> None:
    assert circle({"c": ["b"], "b": ["a"], "a": []}) == []
    assert circle({"d": ["b", "c"], "b": ["a"], "c": ["a"]}) == []


def test_a_task_that_waits_for_itself_is_one() -> None:
    assert circle({"a": ["a"]}) == ["a", "a"]


@given(st.dictionaries(st.integers(0, 6), st.lists(st.integers(0, 6), max_size=3)))
def test_what_is_called_a_circle_is_one_and_none_is_missed(waits_for: dict[int, list[int]]) -> None:
    named = {str(task): [str(each) for each in others] for task, others in waits_for.items()}
    found = circle(named)
    if found:
        assert found[0] == found[-1]
        assert all(later in named[task] for task, later in pairwise(found))
    else:
        assert not any(_comes_back(task, named) for task in named)


def _comes_back(start: str, waits_for: dict[str, list[str]]) -> bool:
    seen, waiting = set[str](), list(waits_for[start])
    while waiting:
        task = waiting.pop()
        if task == start:
            return True
        if task not in seen:
            seen.add(task)
            waiting += waits_for.get(task, [])
    return False
