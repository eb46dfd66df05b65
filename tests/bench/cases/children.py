"""Whether more children do more: tasks that do nothing, which keep the processors busy, and tasks that wait for
something, as for a server far away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from tests.bench.bench import Bench
from tests.bench.cases.drain import BEGUN, measured
from tests.bench.contenders import Sluice
from tests.bench.results import Figure

NUMBERS = (1, 2, 4, 8)
BUSY, WAITING = "drain of tasks that do nothing, by children", "drain of tasks that wait 50 ms, by children"
REFERENCES = dict.fromkeys((BUSY, WAITING), f"{NUMBERS[0]}")
WAIT_SECONDS = 0.05


def measure(bench: Bench) -> Iterator[Figure]:
    waits = Sluice(bench.ground, task_type="stay", parameters={"seconds": WAIT_SECONDS})
    shares = [bench.of(3_000, least=400)] * len(NUMBERS)
    yield from _by_children(bench, BUSY, bench.sluice, shares)
    shares = [bench.of(150 * children, least=60 * children) for children in NUMBERS]
    yield from _by_children(bench, WAITING, waits, shares)


def _by_children(bench: Bench, case: str, sluice: Sluice, shares: list[int]) -> Iterator[Figure]:
    """All are queued at once, and each number of children does its share."""
    sluice.forget()
    sluice.fill(sum(shares))
    for children, share, until in zip(NUMBERS, shares, accumulate(shares), strict=True):
        bench.say(f"{case}: {children}, {share:,} tasks")
        ours = Sluice(bench.ground.with_settings(SLUICE_CONCURRENCY=str(children)))
        done = measured(bench, ours, case, begun=round(until - share * (1 - BEGUN)), number=until)
        yield Figure(case, f"{children}", done.value, done.unit, cpu_us=done.cpu_us)
