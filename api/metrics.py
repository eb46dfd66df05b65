"""`/metrics` for Prometheus: the ledger's figures, which every process of the API tells alike, and its requests.

A scrape reads what others keep ready (`ledger.tallies`, `ledger.figures`, counters, some short tables): it costs the
same with a million tasks. docs/reference/metrics.md lists all of it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

import celery_config
from api import auth, timing
from api.described import Media, describe
from ledger import figures, leadership, pauses, presence, queries, tallies, transitions
from ledger.callers import Scope
from ledger.states import FINAL
from ledger.tallies import BOUNDS_MS, ENDLESS_MS, Key, Tally
from tasks import catalog

blueprint = Blueprint("metrics", __name__)

Tallies = Mapping[Key, Tally]


class LedgerCollector:
    """Asks the ledger whenever it is scraped."""

    def collect(self) -> Iterator[Metric]:
        added = tallies.read()
        yield from _happened(added)
        yield from _times(added)
        yield from _totals()
        yield from _counted()
        yield from _leader()
        yield from _workers()
        yield _paused()


# --- what happened ---------------------------------------------------------------------------------------------------

#: Of events, by type and priority.
_EVENTS = {
    tallies.ACCEPTED: ("sluice_tasks_accepted", "Tasks that were accepted"),
    tallies.STARTED: ("sluice_tasks_started", "Attempts that were begun"),
    tallies.RETRIED: ("sluice_task_retries", "Attempts that failed and were followed by another"),
}


def _happened(added: Tallies) -> Iterator[Metric]:
    for what, (name, words) in _EVENTS.items():
        events = CounterMetricFamily(name, words, labels=["task_type", "priority"])
        for (task_type, priority), number in _by_type(added, what).items():
            events.add_metric([task_type, priority], number)
        yield events
    words = "Ends of tasks, also of those that were purged or replayed since"
    ends = CounterMetricFamily("sluice_tasks_finished", words, labels=["task_type", "priority", "outcome"])
    for outcome in sorted(FINAL):
        for (task_type, priority), number in _by_type(added, outcome).items():
            ends.add_metric([task_type, priority, outcome], number)
    yield ends


def _by_type(added: Tallies, what: str) -> dict[tuple[str, str], int]:
    """Beginning with nothing for each known type: an increase is seen only of what was there before."""
    known = {(each.name, priority): 0 for each in catalog.all_types() for priority in celery_config.PRIORITIES}
    return known | {(key.subject, key.priority): tally.number for key, tally in added.items() if key.what == what}


def _times(added: Tallies) -> Iterator[Metric]:
    queues = celery_config.queue_names()
    words = "Seconds from when a task was ready until an attempt began it"
    yield _histogram("sluice_task_start_delay_seconds", words, "queue", queues, added, tallies.DELAY)
    types = [each.name for each in catalog.all_types()]
    words = "Seconds from an attempt's start to its end, however it ended"
    yield _histogram("sluice_task_run_seconds", words, "task_type", types, added, tallies.RUN)


def _histogram(
    name: str, words: str, label: str, known: Iterable[str], added: Tallies, what: str
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, words, labels=[label])
    mine: dict[str, dict[int, Tally]] = {subject: {} for subject in known}
    for key, tally in added.items():
        if key.what == what:
            mine.setdefault(key.subject, {})[key.upto_ms] = tally
    for subject, found in mine.items():
        buckets, number = [], 0
        for bound in sorted({*BOUNDS_MS, ENDLESS_MS, *found}):
            number += found[bound].number if bound in found else 0
            buckets.append((str(bound / 1000) if bound < ENDLESS_MS else "+Inf", number))
        family.add_metric([subject], buckets, sum(tally.seconds for tally in found.values()))
    return family


_TOTALS = {
    "inversions": "Tasks that started while a more urgent one of their kind was ready",
    "redispatched": "Tickets that were lost by the broker and sent again",
    "lease_expiries": "Attempts that fell silent and whose tasks were taken back",
    "ticks_fired": "Ticks of schedules that made their task",
    "ticks_passed_over": "Looks at schedules that found ticks which make no task; each has a remark",
    "dead_lettered": "Tickets that the broker gave up on",
    "strange_messages": "Messages in the dead-letter queues that were no tickets",
    "webhooks_delivered": "Deliveries that a webhook took",
    "webhooks_failed": "Tries to deliver that a webhook did not take",
    "webhooks_given_up": "Deliveries of which the last try failed",
    "webhooks_gone": "Deliveries that ended because their webhook answered 410",
}


def _totals() -> Iterator[Metric]:
    found = queries.totals()
    for name, words in _TOTALS.items():
        yield CounterMetricFamily(f"sluice_{name}", words, value=found.get(name, 0))
    words = "Guarded moves that came too late, which is a normal answer: somebody else was first"
    lost = CounterMetricFamily("sluice_lost_moves", words, labels=["move"])
    for move in transitions.GUARDED:
        lost.add_metric([move], found.get(transitions.lost(move), 0))
    yield lost


# --- what is the case ------------------------------------------------------------------------------------------------

#: What the leading monitor counts (`tasks.counting`): our name of it, with its label.
_FIGURES = {
    "tasks": ("sluice_tasks", "state", "Tasks that are not over, by state"),
    "queue_waiting": ("sluice_queue_waiting", "queue", "Tasks that are ready and wait for a worker"),
    "queue_running": ("sluice_queue_running", "queue", "Tasks that an attempt holds"),
    "queue_unsent": ("sluice_queue_unsent", "queue", "Ready tasks of which RabbitMQ has yet to confirm the ticket"),
    "queue_oldest_seconds": ("sluice_queue_oldest_seconds", "queue", "For how long the first ready task has been so"),
    "in_doubt": ("sluice_in_doubt_branches", "database", "Prepared branches of two-phase commits"),
    "in_doubt_seconds": ("sluice_in_doubt_oldest_seconds", "database", "For how long the first of them has been seen"),
    "database_reachable": ("sluice_database_reachable", "database", "1 when the monitor could look at the database"),
    "webhooks_waiting": ("sluice_webhooks_waiting", "", "Deliveries to webhooks that are not over"),
    "webhooks_late_seconds": ("sluice_webhooks_late_seconds", "", "For how long the first delivery has been due"),
}
#: Seconds after which nobody takes the monitor's figures for true any more: none is better than a wrong one.
MOST_AGE_SECONDS = 120.0


def _counted() -> Iterator[Metric]:
    counted = figures.read()
    age = counted.age_seconds
    words = "How old the figures are that the leading monitor counts; the ones below are left out after 120"
    yield GaugeMetricFamily("sluice_figures_age_seconds", words, value=float("inf") if age is None else age)
    is_fresh = age is not None and age < MOST_AGE_SECONDS
    for name, (ours, label, words) in _FIGURES.items():
        family = GaugeMetricFamily(ours, words, labels=[label] if label else [])
        for (each, subject), value in counted.figures.items() if is_fresh else ():
            if each == name:
                family.add_metric([subject] if label else [], value)
        yield family


def _leader() -> Iterator[Metric]:
    words = "1 for the monitor that leads, 0 once its lease is over"
    leads = GaugeMetricFamily("sluice_leader", words, labels=["monitor"])
    found = leadership.leader()
    if found is not None:
        leads.add_metric([found.holder], int(found.seconds_left > 0))
    yield leads
    yield GaugeMetricFamily(
        "sluice_leader_term", "How many times a monitor has begun to lead", value=found.term if found else 0
    )


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


def _paused() -> Metric:
    family = GaugeMetricFamily("sluice_queue_paused", "1 for a queue that somebody has paused", labels=["queue"])
    paused = pauses.paused()
    for queue in celery_config.queue_names():
        family.add_metric([queue], int(queue in paused))
    return family


@blueprint.get("/metrics")
@describe({200: Media("text/plain")})
@auth.needs(Scope.METRICS)
def metrics() -> Response:
    """Everything, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(LedgerCollector())
    timing.add_to(registry)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
