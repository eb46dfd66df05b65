"""How long requests take: each process of the API counts for itself, and `/metrics` adds them up.

gunicorn's processes count into files of one folder (`api.gunicorn_config`), prometheus-client's multiprocess mode. All
other figures come from the ledger and are the same whoever is asked.
"""

from __future__ import annotations

import time
from contextlib import suppress

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector

#: What clients make up is not counted by its name: each would be a series of its own.
UNKNOWN = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

SECONDS = Histogram(
    "sluice_http_request_seconds",
    "Requests by method, route and status, and the seconds until their answer began",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0),
    registry=None,
)


def watch(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.perf_counter()


def _end(response: Response) -> Response:
    method = request.method if request.method in _METHODS else UNKNOWN
    route = request.url_rule.rule if request.url_rule else UNKNOWN
    # When gunicorn's master was killed, the next one does away with the folder under those who still serve.
    with suppress(OSError):
        SECONDS.labels(method, route, response.status_code).observe(time.perf_counter() - g.began)
    return response


def add_to(registry: CollectorRegistry) -> None:
    """The figures of all processes that serve this address."""
    if values.ValueClass._multiprocess:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(SECONDS)
