"""`make bench`: every contender, every case, some rounds; a table, a file of figures, and a page for the documentation.

    python -m tests.bench                           all of it, three rounds
    python -m tests.bench --only drain --rounds 1   one case
    python -m tests.bench --scale 0.1               a short one, to see that it works
    python -m tests.bench --profile                 and where the time goes, as flame graphs
    python -m tests.bench --slow-disk               each sync of the servers takes a millisecond more
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rich.console import Console

from cli.layout import CHECKOUT
from cli.stack import Stack
from tests.bench import machine, profile, results, slow_disk
from tests.bench.bench import Bench
from tests.bench.contenders import Sluice, peers
from tests.bench.ground import Ground
from tests.bench.slow_disk import SlowStack

FOLDER = CHECKOUT / ".sluice" / "bench"
SLOW_FOLDER = CHECKOUT / ".sluice" / "bench-slow"
#: The task that all do, and as few words as all others are told to make.
AS_PEERS = {"SLUICE_TASK_MODULES": "tests.bench.task_types", "SLUICE_LOG_LEVEL": "WARNING"}
CASES = ("accept", "drain", "children", "start", "stop", "bulk", "flat")
#: What takes minutes to set up, and is its own reference: measured in the first round only.
ONCE = ("flat",)


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    kind, folder = (SlowStack, SLOW_FOLDER) if options.slow_disk else (Stack, FOLDER)
    ground = Ground(kind, folder, AS_PEERS, slow_disk.variables(folder) if options.slow_disk else {})
    console.print("starting the servers", style="dim")
    ground.up()
    try:
        bench = Bench(ground, Sluice(ground), peers(ground), console, options.scale)
        cases = {name: import_module(f"tests.bench.cases.{name}") for name in options.only or CASES}
        figures = []
        for number in range(options.rounds):
            console.print(f"round {number + 1} of {options.rounds}", style="bold")
            for name, module in cases.items():
                if not (number and name in ONCE):
                    figures += list(module.measure(replace(bench, number=number)))
        bench.sluice.verify()
        pictures = profile.draw(bench, folder) if options.profile else []
    finally:
        ground.down()
    references = {case: name for module in cases.values() for case, name in module.REFERENCES.items()}
    found = results.rows(figures, references=references)
    results.show(found, console)
    run = {"rounds": options.rounds, "scale": options.scale}
    results.keep(options.output, found, machine.describe(folder) | run)
    for path in (options.output, *pictures):
        console.print(f"written: {path}")
    for fault in bench.sluice.faults:
        console.print(f"verify found a fault: {fault}", style="red")
    console.print("next: .venv/bin/python -m tests.bench.page writes docs/reference/performance.md")
    return 1 if bench.sluice.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=CASES, help="a case, more than once for several")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of everything, 1 for all of it")
    parser.add_argument("--slow-disk", action="store_true", help="a millisecond more for each sync")
    parser.add_argument("--profile", action="store_true", help="flame graphs of the door and of a worker")
    parser.add_argument("--output", type=Path, default=FOLDER / "figures.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
