"""How long it takes from the post of a task to its begin: with an idle worker, and before a long queue of others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median, quantiles

import requests

from tests.bench.bench import Bench
from tests.bench.contenders import Contender, Sluice
from tests.bench.results import Figure
from tests.conftest import eventually

IDLE, BEFORE_OTHERS = "start, idle worker", "start of a high task before low ones"
REFERENCES = {IDLE: "Celery"}


def measure(bench: Bench) -> Iterator[Figure]:
    for contender in bench.contenders:
        bench.say(f"start: {contender.name}")
        contender.forget()
        with contender.door(), contender.workers():
            started_after(contender, 3)
            yield _figure(IDLE, contender.name, started_after(contender, bench.of(60, least=10)))
    yield _before_others(bench)


def started_after(contender: Contender, number: int) -> list[float]:
    """Seconds from post to begin, one after the other."""
    with requests.Session() as session:

        def once() -> float:
            sent = time.time()
            task_id = contender.submit(session)
            return (eventually(lambda: contender.began(session, task_id), every=0.02, what="its end") or 0) - sent

        return [once() for _ in range(number)]


def _before_others(bench: Bench) -> Figure:
    """Low tasks of some milliseconds each fill the queue; one high task after the other goes before them."""
    sluice, number = bench.sluice, bench.of(100_000, least=1_000)
    bench.say(f"start: before {number:,} others")
    sluice.forget()
    low = {"task_type": "stay_busy", "parameters": {"seconds": 0.005}, "priority": "low"}
    urgent = Sluice(bench.ground, priority="high")
    with sluice.door():
        for begun in range(0, number, 1_000):
            sluice.submit_many([low] * min(1_000, number - begun))
        with sluice.workers():
            eventually(sluice.finished, within=60, what="the first low task")
            figure = _figure(BEFORE_OTHERS, sluice.name, started_after(urgent, bench.of(60, least=10)))
    return figure


def _figure(case: str, contender: str, seconds: list[float]) -> Figure:
    milliseconds = [each * 1e3 for each in seconds]
    worst = quantiles(milliseconds, n=100, method="inclusive")[98]
    return Figure(
        case, contender, median(milliseconds), "ms", False, p50_ms=median(milliseconds), p99_ms=worst
    )
