"""`/metrics` for Prometheus, read from the ledger, so that every API process tells the same."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ledger import queries

blueprint = Blueprint("metrics", __name__)


class LedgerCollector:
    """Asks the ledger whenever it is scraped."""

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("sluice_tasks", "Tasks by state", labels=["state"])
        for state, number in queries.counts().items():
            states.add_metric([state], number)
        yield states
        waiting = GaugeMetricFamily("sluice_queue_waiting", "Queued tasks with a ticket, by queue", labels=["queue"])
        for queue, number in queries.waiting_by_queue(0).items():
            waiting.add_metric([queue], number)
        yield waiting
        totals = queries.totals()
        for name, words in _TOTALS.items():
            yield CounterMetricFamily(f"sluice_{name}", words, value=totals.get(name, 0))


_TOTALS = {
    "inversions": "Tasks that started while a more urgent one of their kind was ready",
    "redispatched": "Tickets that were lost by the broker and sent again",
}


@blueprint.get("/metrics")
def metrics() -> Response:
    """Everything, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
