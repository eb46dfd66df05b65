"""How long a stop of a running insert takes, from the request to its verdict with every row undone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median, quantiles

import requests

from tests.bench.bench import Bench
from tests.bench.results import Figure
from tests.conftest import eventually

CASE = "stop of a running insert of 100,000 rows"
REFERENCES: dict[str, str] = {}
ROWS = 100_000


def measure(bench: Bench) -> Iterator[Figure]:
    sluice = bench.sluice
    bench.say("stop")
    sluice.forget()
    with sluice.door(), sluice.workers(), requests.Session() as session:
        taken = [each for _ in range(bench.of(30, least=5)) if (each := _stopped(bench, session)) is not None]
    worst = quantiles(taken, n=100, method="inclusive")[98]
    yield Figure(CASE, sluice.name, median(taken), "ms", False, p50_ms=median(taken), p99_ms=worst)


def _stopped(bench: Bench, session: requests.Session) -> float | None:
    """Milliseconds; None when the insert was quicker than the stop."""
    sluice = bench.sluice
    (task_id,) = sluice.submit_many([{"task_type": "bulk_insert", "parameters": {"rows": ROWS}}])

    def has_begun() -> bool:
        task = sluice.task(session, task_id)
        return task["state"] != "queued" and bool(task["progress"] or task["state"] == "succeeded")

    eventually(has_begun, every=0.01, what="its first rows")
    began = time.monotonic()
    answer = sluice.stop(session, task_id)
    if answer["verdict"] in ("already_finished", "too_late_committed"):
        return None
    eventually(lambda: sluice.task(session, task_id)["state"] == "revoked", every=0.005, what="its verdict")
    return (time.monotonic() - began) * 1e3
