"""What was measured: figures with their contender and case, the table of ratios, and the file that keeps both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measurement of one contender."""

    case: str
    contender: str
    #: The number that is compared, and whether more of it is better.
    value: float
    unit: str
    more_is_better: bool = True
    #: Milliseconds.
    p50_ms: float | None = None
    p99_ms: float | None = None
    #: Microseconds of CPU per task, by group of processes.
    cpu_us: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """The median of a contender's rounds, beside the reference of its case."""

    case: str
    contender: str
    value: float
    unit: str
    ratio: float | None
    rounds: Sequence[float]
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: Mapping[str, float]


def rows(figures: Iterable[Figure], *, references: Mapping[str, str]) -> list[Row]:
    """By case and contender in the order of their first measurement. `references` name the contender of each case that
    the others are divided by; a ratio above 1 is always better."""
    grouped: dict[tuple[str, str], list[Figure]] = {}
    for each in figures:
        grouped.setdefault((each.case, each.contender), []).append(each)
    values = {key: median(each.value for each in found) for key, found in grouped.items()}
    return [
        Row(
            case,
            contender,
            values[case, contender],
            found[0].unit,
            _ratio(values[case, contender], values.get((case, references.get(case, ""))), found[0].more_is_better),
            [each.value for each in found],
            _median(each.p50_ms for each in found),
            _median(each.p99_ms for each in found),
            {group: median(each.cpu_us[group] for each in found) for group in found[0].cpu_us},
        )
        for (case, contender), found in grouped.items()
    ]


def _ratio(value: float, reference: float | None, more_is_better: bool) -> float | None:
    if not value or not reference:
        return None
    return value / reference if more_is_better else reference / value


def _median(numbers: Iterable[float | None]) -> float | None:
    known = [each for each in numbers if each is not None]
    return median(known) if known else None


def show(found: Sequence[Row], console: Console) -> None:
    for case in dict.fromkeys(row.case for row in found):
        table = Table(title=case, title_justify="left", title_style="bold")
        table.add_column("")
        for name in ("median", "ratio", "p50 ms", "p99 ms", "CPU µs a task", "rounds"):
            table.add_column(name, justify="right")
        for row in found:
            if row.case == case:
                table.add_row(*cells(row))
        console.print(table)


def cells(row: Row) -> list[str]:
    """A line of the table."""
    cpu = " ".join(f"{group} {used:,.0f}" for group, used in row.cpu_us.items() if used >= 1)
    return [
        row.contender,
        f"{short(row.value)} {row.unit}",
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.p50_ms is None else f"{row.p50_ms:,.1f}",
        "" if row.p99_ms is None else f"{row.p99_ms:,.1f}",
        cpu,
        " ".join(short(each) for each in row.rounds),
    ]


def short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def keep(path: Path, found: Sequence[Row], machine: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in found]}, indent=1) + "\n")
