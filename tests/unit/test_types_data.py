"""What data_processing makes of the data that it is given."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.types.data import DataProcessing, process
from tests.recording import RecordingAttempt

finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**308), 10**308)
json_values = st.recursive(
    st.none() | st.booleans() | finite | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def run(data: Any, **parameters: Any) -> Any:
    return process(RecordingAttempt(), DataProcessing.model_validate({"data": data, **parameters}))


def test_the_example_body_counts_its_words() -> None:
    result = run("test data")
    assert result["processed"] is True
    assert result["operation"] == "word_count"
    assert result["data"] == {
        "words": 2,
        "distinct_words": 2,
        "lines": 1,
        "characters": 9,
        "most_frequent": [{"word": "data", "count": 1}, {"word": "test", "count": 1}],
    }


def test_words_are_counted_whatever_their_case_and_script() -> None:
    counted = run("Don't panic. DON'T\nстоп two-phase, 日本!", top=1)["data"]
    assert (counted["words"], counted["lines"]) == (6, 2)
    assert counted["most_frequent"] == [{"word": "don't", "count": 2}]


def test_an_empty_text_has_no_words() -> None:
    assert run("")["data"] == {
        "words": 0,
        "distinct_words": 0,
        "lines": 0,
        "characters": 0,
        "most_frequent": [],
    }


def test_a_list_of_numbers_gets_its_statistics() -> None:
    result = run([4, 1, None, 3, 2])
    assert result["operation"] == "statistics"
    found = result["data"]
    assert (found["count"], found["missing"], found["sum"]) == (4, 1, 10)
    assert (found["min"], found["max"], found["mean"], found["median"]) == (1, 4, 2.5, 2.5)
    assert found["stdev"] == pytest.approx(1.2909944)
    assert found["quantiles"]["p25"] == 1.75


@given(st.lists(finite, min_size=1, max_size=50))
def test_statistics_are_exact_and_finite_for_any_numbers(numbers: list[float]) -> None:
    found = run(numbers)["data"]
    assert found["mean"] == statistics.mean(numbers)
    assert min(numbers) <= found["median"] <= max(numbers)
    json.dumps(found, allow_nan=False)
    assert all(figure is None or math.isfinite(figure) for figure in (found["sum"], found["stdev"] or 0))


def test_figures_beyond_a_double_are_null() -> None:
    found = run([1.7e308, 1.7e308, -1.7e308, 1.7e308])["data"]
    assert found["sum"] is None
    assert found["mean"] == 8.5e307


def test_one_number_has_no_deviation() -> None:
    assert run([5], operation="statistics")["data"]["stdev"] is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 10**309])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [1, x], lambda x: {"a": [{"b": x}]}])
def test_numbers_that_no_double_holds_are_refused(number: float, wrap: Any) -> None:
    with pytest.raises(ValidationError, match="not finite"):
        DataProcessing(data=wrap(number))


def test_rows_are_profiled_by_column() -> None:
    result = run([{"city": "Ghent", "people": 3}, {"city": "Delft"}, {"city": "Ghent", "people": 1.5}])
    assert result["operation"] == "profile"
    assert result["data"]["rows"] == 3
    city, people = result["data"]["columns"]["city"], result["data"]["columns"]["people"]
    assert city["most_frequent"][0] == {"value": "Ghent", "count": 2}
    assert (city["distinct"], city["length"]) == (2, {"min": 5, "max": 5})
    assert (people["missing"], people["types"]) == (1, {"integer": 1, "number": 1})
    assert people["statistics"]["mean"] == 2.25


def test_an_object_of_lists_is_profiled_by_column() -> None:
    profile = run({"a": [1, 2, 3], "b": ["x"]})["data"]
    assert profile["rows"] == 3
    assert (profile["columns"]["a"]["count"], profile["columns"]["b"]["missing"]) == (3, 2)


def test_true_is_not_the_number_one() -> None:
    column = run([True, 1, 1.0, "1"])["data"]["columns"]["value"]
    assert column["types"] == {"boolean": 1, "integer": 1, "number": 1, "text": 1}
    assert column["distinct"] == 4
    assert column["statistics"]["count"] == 2


@given(json_values)
def test_any_json_value_has_a_result_that_is_json(data: Any) -> None:
    result = run(data)
    assert json.loads(json.dumps(result, allow_nan=False))["processed"] is True


def test_empty_rows_beside_a_wide_one_take_no_memory() -> None:
    profile = run([{} for _ in range(50_000)] + [{str(name): 1 for name in range(1000)}])["data"]
    assert profile["columns"]["7"]["missing"] == 50_000


@pytest.mark.parametrize(
    ("data", "steps", "expected"),
    [
        (["b", "a", "b"], ["unique"], ["b", "a"]),
        (["b", "a", "b"], ["unique", "sort", "reverse"], ["b", "a"]),
        ([3, 1.5, True, "x", None, 2], ["sort"], [1.5, 2, 3, "x", None, True]),
        ([" a ", 1], ["strip", "upper"], ["A", 1]),
        ("b\na\nb", ["sort", "unique"], "a\nb"),
        ("Straße", ["upper"], "STRASSE"),
        ([], ["sort"], []),
    ],
)
def test_transformations_are_applied_in_order(data: Any, steps: list[str], expected: Any) -> None:
    assert run(data, operation="transform", steps=steps)["data"] == expected


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "Field required"),
        ({"data": 1, "operation": "statistic"}, "operation"),
        ({"data": "x", "operation": "statistics"}, "takes a list of numbers"),
        ({"data": [True], "operation": "statistics"}, "takes a list of numbers"),
        ({"data": [1], "operation": "word_count"}, "takes a text"),
        ({"data": {}, "operation": "transform", "steps": ["sort"]}, "takes a list or a text"),
        ({"data": [], "operation": "transform"}, "belong together"),
        ({"data": [], "steps": ["sort"]}, "belong together"),
        ({"data": [], "operation": "transform", "steps": ["eval"]}, "steps"),
        ({"data": "x", "top": True}, "top"),
        ({"data": "x", "colour": 1}, "Extra inputs"),
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        DataProcessing.model_validate(body)


def test_progress_is_told_while_much_data_is_worked_through() -> None:
    attempt = RecordingAttempt()
    process(attempt, DataProcessing(data=list(range(2_500))))
    assert attempt.told == [(1_000, 2_500), (2_000, 2_500), (2_500, 2_500)]
