"""Writes the page of the documentation, and its picture, from the figures that a run has kept.

    python -m tests.bench.page                                  from the last run of `make bench`
    python -m tests.bench.page --slow figures-of-slow-disk.json and of one with --slow-disk
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.layout import CHECKOUT
from tests.bench import plot
from tests.bench.results import Row, cells

PAGE = CHECKOUT / "docs" / "reference" / "performance.md"
FIGURES = CHECKOUT / ".sluice" / "bench" / "figures.json"
WORDS = Path(__file__).with_name("page.md")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.page", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--slow", type=Path)
    options = parser.parse_args(arguments)
    machine, rows = load(options.figures)
    sections = [WORDS.read_text(), _about(machine), "![Ratios](performance.svg)\n", *_tables(rows)]
    if options.slow:
        run, slow = load(options.slow)
        sections += ["## Where each sync takes a millisecond more\n", f"{_size(run)}\n", *_tables(slow)]
    PAGE.write_text("\n".join(sections))
    plot.draw(rows, PAGE.with_suffix(".svg"))
    return 0


def load(path: Path) -> tuple[dict[str, Any], list[Row]]:
    kept = json.loads(path.read_text())
    return kept["machine"], [Row(**row) for row in kept["rows"]]


def _about(machine: Mapping[str, Any]) -> str:
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return (
        f"Measured on {machine['at'][:10]}: {machine['cores']} cores of {machine['processor']},"
        f" {machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']};"
        f" half a kilobyte is on the disk after {machine['sync_us']:,} µs. {libraries}."
        f" {_size(machine)}\n"
    )


def _size(run: Mapping[str, Any]) -> str:
    return f"Rounds: {run['rounds']}, scale: {run['scale']:g} (1 is the whole size)."


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for case in dict.fromkeys(row.case for row in rows):
        yield f"### {case[0].upper()}{case[1:]}\n"
        yield "| | median | ratio | p50 ms | p99 ms | CPU µs a task | rounds |"
        yield "|---|--:|--:|--:|--:|---|---|"
        for row in rows:
            if row.case == case:
                yield f"| {' | '.join(cells(row))} |"
        yield ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
