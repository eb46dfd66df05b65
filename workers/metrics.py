"""Figures of one process that is no API: a page of its own for Prometheus, on a port of its own.

Only on this machine, unless SLUICE_METRICS_ADDRESS says otherwise, because it asks nobody for a key. What it tells is
of this process alone: what is true of the service, the API tells.

A thread answers, prometheus-client's own, so that a worker whose event loop waits for RabbitMQ can be asked all the
same. It only reads, and the children that are forked beside it have no use for anything that it holds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from settings import settings

logger = logging.getLogger(__name__)

# --- of a monitor ----------------------------------------------------------------------------------------------------

LEADS = Gauge("sluice_monitor_leads", "1 while this monitor leads", registry=None)
ROUND_SECONDS = Histogram(
    "sluice_monitor_round_seconds",
    "Rounds of this monitor and the seconds that they took",
    ["round"],
    buckets=(0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 30.0),
    registry=None,
)
MOVED = Counter("sluice_monitor_moved", "What its rounds moved", ["round"], registry=None)
BROKEN_OFF = Counter(
    "sluice_monitor_broken_off",
    "Rounds that came to no end, by what was in the way",
    ["round", "reason"],
    registry=None,
)
OF_MONITOR = (LEADS, ROUND_SECONDS, MOVED, BROKEN_OFF)

# --- of a worker -----------------------------------------------------------------------------------------------------

TICKETS = Counter("sluice_worker_tickets", "Tickets that this worker took from RabbitMQ", ["queue"], registry=None)


class OfWorker(Collector):
    """What a worker's parent knows of its children, read off when somebody asks."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def collect(self) -> Iterator[Metric]:
        children = self.worker.pool._pool if self.worker.pool is not None else None
        known = {
            "children": ("Child processes of this worker", children.count if children else 0),
            "free_children": ("Of these, how many wait for a ticket", children.free if children else 0),
            "tickets_in_hand": ("Tickets that its children have", self._tickets(children) if children else 0),
            "reaches_broker": ("1 while this worker has a connection to RabbitMQ", self.worker.beats.reaches_broker),
            "leaving": ("1 once this worker was told to end", self.worker.beats.is_leaving),
        }
        for name, (words, value) in known.items():
            yield GaugeMetricFamily(f"sluice_worker_{name}", words, value=max(0, int(value)))
        yield from TICKETS.collect()

    def _tickets(self, children: Any) -> int:
        return int(children.tickets + self.worker.packs.tickets)


# --- of any of them --------------------------------------------------------------------------------------------------


def serve(*collectors: Collector) -> None:
    """Answer whoever asks on the port of this process, if it has one. That somebody else has it must keep no process
    from its work."""
    port, address = settings().metrics_port, settings().metrics_address
    if not port:
        return
    for each in collectors:
        REGISTRY.register(each)
    try:
        start_http_server(port, addr=address)
    except OSError as error:
        logger.warning("no figures on %s:%d: %s", address, port, error, extra={"action": "no_figures"})
