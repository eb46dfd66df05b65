"""`/metrics` for Prometheus, read from the ledger, so that every API process tells the same."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ledger import leadership, queries

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
        yield from _leader()
        totals = queries.totals()
        for name, words in _TOTALS.items():
            yield CounterMetricFamily(f"sluice_{name}", words, value=totals.get(name, 0))


def _leader() -> Iterator[Metric]:
    words = "1 for the monitor that leads, 0 once its lease is over"
    leads = GaugeMetricFamily("sluice_leader", words, labels=["monitor"])
    term = GaugeMetricFamily("sluice_leader_term", "How many times a monitor has begun to lead")
    found = leadership.leader()
    if found is not None:
        leads.add_metric([found.holder], int(found.seconds_left > 0))
    term.add_metric([], found.term if found else 0)
    yield from (leads, term)


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
