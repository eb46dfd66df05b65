"""Whether it costs the same with a million tasks in the ledger as with a thousand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from tests.bench import posting
from tests.bench.bench import Bench
from tests.bench.cases.drain import drained
from tests.bench.contenders import Sluice
from tests.bench.results import Figure

FEW, MANY = 1_000, 1_000_000
ACCEPT, DRAIN, LIST, METRICS, ROUNDS = "accept", "claim and settle", "list", "metrics", "a second of monitoring"
CASES = {name: f"{name}, by tasks in the ledger" for name in (ACCEPT, DRAIN, LIST, METRICS, ROUNDS)}
REFERENCES = dict.fromkeys(CASES.values(), f"{FEW:,}")
#: Seconds that a monitor has to come to rest, and for which it is looked at then.
SETTLING_SECONDS, ROUND_SECONDS = 5, 10


def measure(bench: Bench) -> Iterator[Figure]:
    for number in (FEW, bench.of(MANY, least=2 * FEW)):
        bench.say(f"flat: {number:,} tasks in the ledger")
        bench.sluice.forget()
        bench.sluice.remember(number)
        yield from _with(bench, f"{number:,}")


def _with(bench: Bench, name: str) -> Iterator[Figure]:
    sluice = bench.sluice
    with sluice.door():
        posting.post(sluice.url, sluice.body, key=sluice.key, connections=8, seconds=1)
        load = posting.post(sluice.url, sluice.body, key=sluice.key, connections=8, seconds=bench.of(4, least=1))
        yield Figure(CASES[ACCEPT], name, load.requests / load.seconds, "tasks/s")
        for case, path in ((LIST, "/api/tasks?limit=50"), (METRICS, "/metrics")):
            sluice.ask(path)
            taken = [sluice.ask(path) for _ in range(bench.of(20, least=5))]
            yield Figure(CASES[case], name, median(taken), "ms", False)
    before = sluice.finished()
    waiting = sluice.waiting()
    done = drained(bench, sluice, before + waiting, CASES[DRAIN])
    yield Figure(done.case, name, done.value, done.unit)
    yield Figure(CASES[ROUNDS], name, _rounds_ms(sluice), "ms", False)


def _rounds_ms(sluice: Sluice) -> float:
    """What the rounds of a monitor take in a second in which nothing happens."""
    with sluice.monitor():
        time.sleep(SETTLING_SECONDS)
        before, began = sluice.round_seconds(), time.monotonic()
        time.sleep(ROUND_SECONDS)
        return (sluice.round_seconds() - before) / (time.monotonic() - began) * 1e3
