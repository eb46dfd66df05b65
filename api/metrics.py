"""`/metrics` for Prometheus, read from the ledger, so that every API process tells the same."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

import celery_config
from api import auth
from api.described import Media, describe
from ledger import backlog, deliveries, leadership, presence, queries
from ledger.callers import EVERYBODY, Scope

blueprint = Blueprint("metrics", __name__)


class LedgerCollector:
    """Asks the ledger whenever it is scraped."""

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("sluice_tasks", "Tasks by state", labels=["state"])
        for state, number in queries.counts(caller=EVERYBODY).items():
            states.add_metric([state], number)
        yield states
        ended = CounterMetricFamily("sluice_tasks_ended", "Ends of tasks, also of those purged since", labels=["state"])
        for state, number in queries.ends().items():
            ended.add_metric([state], number)
        yield ended
        waiting = GaugeMetricFamily("sluice_queue_waiting", "Queued tasks with a ticket, by queue", labels=["queue"])
        for queue, number in queries.waiting_by_queue(0).items():
            waiting.add_metric([queue], number)
        yield waiting
        yield from _leader()
        yield from _queues()
        yield from _workers()
        yield from _webhooks()
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


def _queues() -> Iterator[Metric]:
    running = GaugeMetricFamily("sluice_queue_running", "Tasks that an attempt holds, by queue", labels=["queue"])
    oldest = GaugeMetricFamily(
        "sluice_queue_oldest_seconds", "For how long the first ready task has been ready", labels=["queue"]
    )
    for name, queue in backlog.by_queue(celery_config.queue_names()).items():
        running.add_metric([name], queue.running)
        oldest.add_metric([name], queue.oldest_seconds or 0)
    yield running
    yield oldest


def _workers() -> Iterator[Metric]:
    workers = GaugeMetricFamily("sluice_workers", "Worker processes that were heard of lately", labels=["kind"])
    places = GaugeMetricFamily("sluice_worker_places", "Tasks that these can run side by side", labels=["kind"])
    here = presence.here()
    for kind in celery_config.WORKERS:
        mine = [worker.said for worker in here if worker.said.kind == kind]
        workers.add_metric([kind], len(mine))
        places.add_metric([kind], sum(said.concurrency for said in mine))
    yield workers
    yield places


def _webhooks() -> Iterator[Metric]:
    number, seconds = deliveries.waiting()
    yield GaugeMetricFamily("sluice_webhooks_waiting", "Deliveries to webhooks that are not over", value=number)
    words = "For how long the first delivery to a webhook has been due"
    yield GaugeMetricFamily("sluice_webhooks_late_seconds", words, value=seconds)


_TOTALS = {
    "inversions": "Tasks that started while a more urgent one of their kind was ready",
    "redispatched": "Tickets that were lost by the broker and sent again",
    "ticks_fired": "Ticks of schedules that made their task",
    "ticks_passed_over": "Looks at schedules whose ticks made no task; each has a remark",
    "dead_lettered": "Tickets that the broker gave up on",
    "strange_messages": "Messages in the dead-letter queues that were no tickets",
    "webhooks_delivered": "Deliveries that a webhook took",
    "webhooks_failed": "Tries to deliver that a webhook did not take",
    "webhooks_given_up": "Deliveries of which the last try failed",
    "webhooks_gone": "Deliveries that ended because their webhook answered 410",
}


@blueprint.get("/metrics")
@describe({200: Media("text/plain")})
@auth.needs(Scope.METRICS)
def metrics() -> Response:
    """Everything, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector())
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
