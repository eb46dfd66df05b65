"""What the columns of a CSV file hold, found in one pass and in bounded memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from tasks.work.csv_file import CsvFile

_NUMBER = re.compile(r"[+-]?([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)([eE][+-]?[0-9]{1,4})?")

#: Spares most texts the pattern.
_NUMBER_BEGINS = frozenset("+-.0123456789")

#: Different values that are remembered, over all columns of the file.
DISTINCT_BUDGET = 200_000
#: Different values that are counted in one column.
DISTINCT_LIMIT = 10_000


class Column:
    """What has been seen of one column."""

    def __init__(self, distinct_limit: int) -> None:
        self.empty = 0
        self.texts = 0
        self.lengths: set[int] = set()
        self.numbers = Numbers()
        self._distinct: set[int] = set()
        self._distinct_limit = distinct_limit

    def add(self, cell: str) -> None:
        if not cell:
            self.empty += 1
            return
        if len(self._distinct) <= self._distinct_limit:
            self._distinct.add(hash(cell))
        if cell[0] in _NUMBER_BEGINS and _NUMBER.fullmatch(cell) and math.isfinite(number := float(cell)):
            self.numbers.add(number)
        else:
            self.texts += 1
            self.lengths.add(len(cell))

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "empty": self.empty,
            "numbers": self.numbers.count,
            "texts": self.texts,
            "distinct": min(len(self._distinct), self._distinct_limit),
            "distinct_is_exact": len(self._distinct) <= self._distinct_limit,
        }
        if self.numbers.count:
            found["statistics"] = self.numbers.summary()
        if self.texts:
            found["length"] = {"min": min(self.lengths), "max": max(self.lengths)}
        return found


class Numbers:
    """Running mean and variance by Welford's method, which keeps the small differences of large numbers."""

    def __init__(self) -> None:
        self.count = 0
        self._min = math.inf
        self._max = -math.inf
        self._mean = 0.0
        self._squares = 0.0

    def add(self, number: float) -> None:
        self.count += 1
        if number < self._min:  # comparing by hand takes a third of the time of min() and max()
            self._min = number
        if number > self._max:
            self._max = number
        off = number - self._mean
        self._mean += off / self.count
        self._squares += off * (number - self._mean)

    def summary(self) -> dict[str, float | None]:
        """Null is what no double can hold; the deviation is the sample's, and null for one number."""
        deviation = math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else math.nan
        values = {"min": self._min, "max": self._max, "mean": self._mean, "stdev": deviation}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def profile(table: CsvFile, *, every_rows: int, then: Callable[[], None]) -> dict[str, Any]:
    """`{rows, columns: {name: summary}}` of the whole file; `then` is called after every so many rows."""
    limit = min(DISTINCT_LIMIT, DISTINCT_BUDGET // len(table.header))
    columns = [Column(limit) for _ in table.header]
    rows = 0
    for row in table.rows():
        rows += 1
        for column, cell in zip(columns, row, strict=True):
            column.add(cell)
        if rows % every_rows == 0:
            then()
    return {
        "rows": rows,
        "columns": {name: column.summary() for name, column in zip(table.header, columns, strict=True)},
    }
