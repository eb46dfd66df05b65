"""bulk_insert fills the table `data` inside a branch: all of its rows, or none."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.types import dataset
from tasks.types.dataset import BulkInsert, bulk_insert
from tests.recording import RecordingAttempt, committed


def test_the_rows_are_there_after_the_commit() -> None:
    with committed() as attempt:
        assert bulk_insert(attempt, BulkInsert(rows=2_345)) == {"inserted": 2_345, "table": "data"}
        assert dataset.count() == 0
    assert dataset.count() == 2_345


def test_nothing_is_there_after_a_stop() -> None:
    class Interrupted(RecordingAttempt):
        def progress(self, done: int, total: int | None = None) -> None:
            if done == 3_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), committed() as attempt:
        bulk_insert(Interrupted(connection=attempt.database()), BulkInsert(rows=5_000))
    assert dataset.count() == 0


def test_progress_is_told_after_each_thousand_rows() -> None:
    with committed() as attempt:
        bulk_insert(attempt, BulkInsert(rows=2_001))
    assert attempt.told == [(1_000, 2_001), (2_000, 2_001), (2_001, 2_001)]


@pytest.mark.parametrize("rows", [1, 999, 1_000, 1_001])
def test_exactly_as_many_rows_as_asked_for(rows: int) -> None:
    with committed() as attempt:
        bulk_insert(attempt, BulkInsert(rows=rows))
    assert dataset.count() == rows


def test_fields_are_different_words_of_eight_to_twelve_letters_and_digits() -> None:
    with committed() as attempt:
        bulk_insert(attempt, BulkInsert(rows=1_000))
    words = [row[field] for row in dataset.page(0, 1_000) for field in ("field1", "field2")]
    assert all(re.fullmatch(r"[A-Za-z0-9]{8,12}", word) for word in words)
    assert {len(word) for word in words} == {8, 9, 10, 11, 12}
    assert len(set(words)) == 2_000


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    with committed() as attempt:
        bulk_insert(attempt, BulkInsert(rows=25))
    seen: list[dict[str, Any]] = []
    while page := dataset.page(seen[-1]["id"] if seen else 0, 10):
        seen += page
    assert len(seen) == 25 == len({row["id"] for row in seen})
    assert set(seen[0]) == {"id", "field1", "field2"}
    assert [row["id"] for row in seen] == sorted(row["id"] for row in seen)


def test_the_default_is_a_hundred_thousand_rows_and_num_another_name() -> None:
    assert BulkInsert().rows == 100_000
    assert BulkInsert.model_validate({"num": 7}).rows == 7
    stored = BulkInsert.model_validate({"num": 7}).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert BulkInsert.model_validate(stored).rows == 7


@pytest.mark.parametrize("rows", [0, -1, 1_000_001, 1.5, "5", True, None, [], 10**400])
def test_numbers_out_of_bounds_are_refused(rows: Any) -> None:
    with pytest.raises(ValidationError, match="rows"):
        BulkInsert.model_validate({"rows": rows})
