"""How long a stop of a running task takes, from the request to its verdict with every row undone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from statistics import median, quantiles
from typing import Any

import requests

from tests.bench.bench import Bench
from tests.bench.cases import bulk
from tests.bench.results import Figure
from tests.conftest import eventually

INSERT, IMPORT = "stop of a running insert of 100,000 rows", "stop of a running import of 1,000,000 lines"
REFERENCES: dict[str, str] = {}
ROWS = 100_000


def measure(bench: Bench) -> Iterator[Figure]:
    bench.sluice.forget()
    with bench.sluice.door(), bench.sluice.workers(), requests.Session() as session:
        body = {"task_type": "bulk_insert", "parameters": {"rows": ROWS}}
        yield _stops(bench, session, INSERT, body, bench.of(30, least=5))
        bench.sluice.upload(bulk.FILE, bulk.csv_file(bench.of(bulk.LINES, least=100_000)))
        body = {"task_type": "csv_import", "parameters": {"filename": bulk.FILE}}
        yield _stops(bench, session, IMPORT, body, bench.of(20, least=5))


def _stops(bench: Bench, session: requests.Session, case: str, body: Mapping[str, Any], number: int) -> Figure:
    bench.say(case)
    taken = [each for _ in range(number) if (each := _stopped(bench, session, body)) is not None]
    worst = quantiles(taken, n=100, method="inclusive")[98]
    return Figure(case, bench.sluice.name, median(taken), "ms", False, p50_ms=median(taken), p99_ms=worst)


def _stopped(bench: Bench, session: requests.Session, body: Mapping[str, Any]) -> float | None:
    """Milliseconds; None when the task was quicker than the stop."""
    sluice = bench.sluice
    (task_id,) = sluice.submit_many([body])

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
