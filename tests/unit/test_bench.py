"""The table of the benchmark: medians and ratios, by hand."""

from __future__ import annotations

from tests.bench.results import Figure, cells, rows


def test_a_row_is_the_median_of_its_rounds() -> None:
    [row] = rows([Figure("drain", "Sluice", value, "tasks/s", p99_ms=value) for value in (3, 1, 2)], references={})
    assert (row.value, row.rounds, row.p99_ms, row.ratio) == (2, [3, 1, 2], 2, None)


def test_a_ratio_above_one_is_better_whatever_is_compared() -> None:
    figures = [
        Figure("drain", "Celery", 100, "tasks/s"),
        Figure("drain", "Sluice", 300, "tasks/s"),
        Figure("start", "Celery", 30, "ms", more_is_better=False),
        Figure("start", "Sluice", 10, "ms", more_is_better=False),
    ]
    found = rows(figures, references={"drain": "Celery", "start": "Celery"})
    assert [row.ratio for row in found] == [1, 3, 1, 3]


def test_without_its_reference_a_case_has_no_ratio() -> None:
    [row] = rows([Figure("drain", "Sluice", 300, "tasks/s")], references={"drain": "Celery"})
    assert row.ratio is None
    assert cells(row) == ["Sluice", "300 tasks/s", "", "", "", "", "300"]


def test_small_numbers_keep_their_digits() -> None:
    [row] = rows([Figure("start", "Sluice", 1.234, "ms", cpu_us={"door": 1234.5, "idle": 0.2})], references={})
    assert cells(row)[1] == "1.23 ms"
    assert cells(row)[5] == "door 1,234"
