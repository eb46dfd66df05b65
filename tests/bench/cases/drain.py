"""How many queued tasks a second two workers do, each to its stored result."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.bench import Bench
from tests.bench.contenders import Contender
from tests.bench.cpu import Meter
from tests.bench.results import Figure

CASE = "drain, two at a time"
REFERENCES = {CASE: "Celery, durable"}
#: Between two looks at how many have ended.
LOOK_SECONDS = 0.1
#: The first tenth is spent on starting.
BEGUN = 0.1


def measure(bench: Bench) -> Iterator[Figure]:
    for contender in bench.contenders:
        number = bench.of(600 if contender.name == "RQ" else 5_000, least=300)
        bench.say(f"drain: {contender.name}, {number:,} tasks")
        contender.forget()
        contender.fill(number)
        yield drained(bench, contender, number, CASE)


def drained(bench: Bench, contender: Contender, number: int, case: str) -> Figure:
    return measured(bench, contender, case, begun=round(number * BEGUN), number=number)


def measured(bench: Bench, contender: Contender, case: str, *, begun: int, number: int) -> Figure:
    """How quickly workers come from so many tasks that have ended to that many."""
    with contender.workers():
        done = _reached(contender, begun)
        began, meter = time.monotonic(), Meter(bench.ground.pids() | contender.pids())
        counted = _reached(contender, number) - done
        seconds = time.monotonic() - began
        cpu = {name: used / counted * 1e6 for name, used in meter.used().items()}
    return Figure(case, contender.name, counted / seconds, "tasks/s", cpu_us=cpu)


def _reached(contender: Contender, number: int, within: float = 120) -> int:
    """Wait for so many to have ended; how many have."""
    until = time.monotonic() + within
    while (done := contender.finished()) < number:
        if time.monotonic() > until:
            raise TimeoutError(f"{contender.name}: {done} of {number} tasks had ended after {within:.0f} s")
        time.sleep(LOOK_SECONDS)
    return done
