"""Figures about values: statistics of numbers, counts of words, what a column holds. Pure."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

Number = int | float

#: A run of letters and digits, with apostrophes and dashes inside: "don't" and "two-phase" are one word each.
_WORD = re.compile("\\w+(?:['\u2019-]\\w+)*")

_QUANTILES = (5, 25, 50, 75, 95)
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "text", list: "array", dict: "object"}
_MOST_FREQUENT = 3


def is_number(value: object) -> bool:
    """Whether a JSON value is a number; true and false are not, though Python says so."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_numbers(numbers: Sequence[Number]) -> dict[str, Any]:
    """`{count, sum, min, max, mean, median, stdev, quantiles}`, computed exactly and rounded once.

    Null is a figure that does not exist (the deviation of a single number) or that no double can hold. The
    deviation is the sample's. Quantiles are percentiles (`p5` to `p95`), interpolated between the two
    numbers beside them.
    """
    if not numbers:
        return {"count": 0}
    ordered = sorted(numbers)
    quantiles = {f"p{percent}": _quantile(ordered, percent) for percent in _QUANTILES}
    return {
        "count": len(ordered),
        "sum": _sum(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "mean": statistics.mean(ordered),
        "median": quantiles["p50"],
        "stdev": _deviation(ordered),
        "quantiles": quantiles,
    }


def _sum(numbers: Sequence[Number]) -> Number | None:
    try:
        exact = sum(numbers) if all(isinstance(number, int) for number in numbers) else math.fsum(numbers)
        return exact if math.isfinite(exact) else None
    except OverflowError:
        return None


def _deviation(numbers: Sequence[Number]) -> float | None:
    if len(numbers) == 1:
        return None
    try:
        return float(statistics.stdev(numbers))
    except OverflowError:
        return None


def _quantile(ordered: Sequence[Number], percent: int) -> Number:
    """By fractions, because the usual formula multiplies first and so overflows for the largest doubles."""
    place = Fraction(percent * (len(ordered) - 1), 100)
    below = math.floor(place)
    low, high = Fraction(ordered[below]), Fraction(ordered[math.ceil(place)])
    exact = low + (high - low) * (place - below)
    return exact.numerator if exact.denominator == 1 and isinstance(ordered[below], int) else float(exact)


def words_of(line: str) -> Iterable[str]:
    """The words of a text, in small letters."""
    return (word[0] for word in _WORD.finditer(line.casefold()))


def most_frequent(words: Counter[str], number: int) -> list[dict[str, Any]]:
    """The words that come up most: `[{word, count}]`, equally frequent ones by alphabet."""
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return [{"word": word, "count": count} for word, count in ranked[:number]]


def of_column(values: Sequence[Any], rows: int) -> dict[str, Any]:
    """What a column of so many rows holds: `{count, missing, distinct, types, most_frequent}`.

    Null is missing, and so is what a row does not have.

    With numbers among them also their `statistics`, with texts the shortest and longest `length`.
    """
    present = [value for value in values if value is not None]
    spellings = Counter(spelled(value) for value in present)
    found: dict[str, Any] = {
        "count": len(present),
        "missing": rows - len(present),
        "distinct": len(spellings),
        "types": dict(Counter(_TYPES[type(value)] for value in present)),
        "most_frequent": [
            {"value": json.loads(spelling), "count": count}
            for spelling, count in spellings.most_common(_MOST_FREQUENT)
        ],
    }
    if numbers := [value for value in present if is_number(value)]:
        found["statistics"] = of_numbers(numbers)
    if lengths := [len(value) for value in present if isinstance(value, str)]:
        found["length"] = {"min": min(lengths), "max": max(lengths)}
    return found


def spelled(value: Any) -> str:
    """A value as canonical JSON, which tells 1 from true and compares objects by content."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
