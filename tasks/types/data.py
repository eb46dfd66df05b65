"""`data_processing`: statistics, word counts, a profile or a transformation of given data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tasks.attempt import Attempt
from tasks.catalog import task_type
from tasks.retry import PermanentError
from tasks.work import figures

T = TypeVar("T")

Operation = Literal["auto", "statistics", "word_count", "profile", "transform"]
Step = Literal["sort", "reverse", "unique", "upper", "lower", "strip"]

#: Columns of one profile.
MOST_COLUMNS = 1_000
#: Values between two tellings of progress.
_PACE = 1_000


def check_numbers(data: Any) -> Any:
    """The data itself; ValueError when a number in it is not finite, or too large for a double."""
    values = [data]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        elif figures.is_number(value) and not _fits_a_double(value):
            raise ValueError("the data holds a number that is not finite or beyond 1.8e308")
    return data


def _fits_a_double(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer of more than 308 digits
        return False


class DataProcessing(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"data": "test data"},
                {"data": [3, 1, 2], "operation": "statistics"},
                {"data": [{"city": "Ghent", "people": 265086}, {"city": "Delft", "people": 109577}]},
                {"data": ["b", "a", "b"], "operation": "transform", "steps": ["unique", "sort"]},
            ]
        },
    )

    data: Annotated[Any, AfterValidator(check_numbers)] = Field(description="Any JSON value")
    operation: Operation = Field(
        default="auto",
        description="auto picks word_count for a text, statistics for a list of numbers, and profile for "
        "anything else (a list of objects or an object of lists by column); transform takes `steps`",
    )
    steps: Annotated[list[Step], Field(max_length=10)] = Field(
        default=[],
        description="Of transform: what to do with a list, or with the lines of a text, one after the other",
    )
    top: int = Field(
        default=10, ge=1, le=100, strict=True, description="Of word_count: how many frequent words to name"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.steps) != (self.operation == "transform"):
            raise ValueError("operation 'transform' and steps belong together")
        if self.operation == "statistics" and not _is_numbers(self.data):
            raise ValueError("operation 'statistics' takes a list of numbers (null for a missing one)")
        if self.operation == "word_count" and not _is_text(self.data):
            raise ValueError("operation 'word_count' takes a text or a list of texts")
        if self.operation == "transform" and not isinstance(self.data, str | list):
            raise ValueError("operation 'transform' takes a list or a text")
        return self


def _is_numbers(data: Any) -> bool:
    return isinstance(data, list) and all(value is None or figures.is_number(value) for value in data)


def _is_text(data: Any) -> bool:
    return isinstance(data, str) or (isinstance(data, list) and all(isinstance(text, str) for text in data))


@task_type("data_processing", worker="data", parameters=DataProcessing, short=True)
def process(attempt: Attempt, parameters: DataProcessing) -> dict[str, Any]:
    """Count words, compute statistics, profile columns or transform the given data.

    The result is `{processed: true, operation, data}`, `operation` being the one that was chosen and `data`
    what came out:

        word_count   words, distinct_words, lines, characters, most_frequent
        statistics   count, missing, sum, min, max, mean, median, stdev, quantiles
        profile      rows, columns: {name: count, missing, distinct, types, most_frequent, statistics, length}
        transform    the transformed list or text
    """
    operation = _chosen(parameters)
    return {"processed": True, "operation": operation, "data": _OPERATIONS[operation](attempt, parameters)}


def _chosen(parameters: DataProcessing) -> Operation:
    if parameters.operation != "auto":
        return parameters.operation
    if isinstance(parameters.data, str):
        return "word_count"
    holds_numbers = _is_numbers(parameters.data) and any(value is not None for value in parameters.data)
    return "statistics" if holds_numbers else "profile"


def _paced(attempt: Attempt, values: Sequence[T]) -> Iterator[T]:
    """The values, with progress told on the way."""
    for done, value in enumerate(values, 1):
        yield value
        if done % _PACE == 0 or done == len(values):
            attempt.progress(done, len(values))


def _word_count(attempt: Attempt, parameters: DataProcessing) -> dict[str, Any]:
    texts = [parameters.data] if isinstance(parameters.data, str) else parameters.data
    lines = [line for text in texts for line in text.splitlines()]
    words: Counter[str] = Counter()
    for line in _paced(attempt, lines):
        words.update(figures.words_of(line))
    return {
        "words": words.total(),
        "distinct_words": len(words),
        "lines": len(lines),
        "characters": sum(map(len, texts)),
        "most_frequent": figures.most_frequent(words, parameters.top),
    }


def _statistics(attempt: Attempt, parameters: DataProcessing) -> dict[str, Any]:
    numbers = [number for number in _paced(attempt, parameters.data) if number is not None]
    return {**figures.of_numbers(numbers), "missing": len(parameters.data) - len(numbers)}


def _profile(attempt: Attempt, parameters: DataProcessing) -> dict[str, Any]:
    rows, columns = _columns(parameters.data)
    if len(columns) > MOST_COLUMNS:
        raise PermanentError(f"the data has {len(columns)} columns; at most {MOST_COLUMNS} are profiled")
    names = _paced(attempt, list(columns))
    return {"rows": rows, "columns": {name: figures.of_column(columns[name], rows) for name in names}}


def _columns(data: Any) -> tuple[int, dict[str, list[Any]]]:
    """The number of rows, and for each column the values that are there.

    Only those: thousands of empty rows beside one with thousands of columns would otherwise fill the memory.
    """
    if isinstance(data, dict) and data and all(isinstance(column, list) for column in data.values()):
        return max(map(len, data.values())), data
    records = _records(data if isinstance(data, list) else [data])
    columns: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    return len(records), columns


def _records(values: list[Any]) -> list[dict[str, Any]]:
    """Objects as they are, arrays by place, anything else as a column called `value`."""
    if all(isinstance(value, dict) for value in values):
        return values
    if all(isinstance(value, list) for value in values):
        return [{str(place): cell for place, cell in enumerate(row)} for row in values]
    return [{"value": value} for value in values]


def _transform(attempt: Attempt, parameters: DataProcessing) -> Any:
    is_text = isinstance(parameters.data, str)
    values = parameters.data.splitlines() if is_text else parameters.data
    for step in _paced(attempt, parameters.steps):
        values = _STEPS[step](values)
    return "\n".join(values) if is_text else values


def _sort(values: list[Any]) -> list[Any]:
    """Numbers first, then texts, then the rest by its spelling, so that any two values can be compared."""
    return sorted(values, key=_rank)


def _rank(value: Any) -> tuple[int, Any]:
    if figures.is_number(value):
        return 0, value
    return (1, value) if isinstance(value, str) else (2, figures.spelled(value))


def _unique(values: list[Any]) -> list[Any]:
    """Each value once, where it came first."""
    return list({figures.spelled(value): value for value in values}.values())


def _on_texts(change: Callable[[str], str]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [change(value) if isinstance(value, str) else value for value in values]


_STEPS: dict[Step, Callable[[list[Any]], list[Any]]] = {
    "sort": _sort,
    "reverse": lambda values: values[::-1],
    "unique": _unique,
    "upper": _on_texts(str.upper),
    "lower": _on_texts(str.lower),
    "strip": _on_texts(str.strip),
}

_OPERATIONS: dict[Operation, Callable[[Attempt, DataProcessing], Any]] = {
    "word_count": _word_count,
    "statistics": _statistics,
    "profile": _profile,
    "transform": _transform,
}
