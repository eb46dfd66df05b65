"""The Grafana dashboard as code: each panel is a line here, and the JSON that Grafana reads is written from it.

    python -m monitoring.dashboard        writes monitoring/grafana/sluice.json; a test holds that it is up to date
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "grafana" / "sluice.json"
#: Grafana's grid is so many columns wide.
WIDTH = 24
HEIGHT = 7
#: Whichever data source is chosen at the top.
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    title: str
    #: Each query with the words for its lines.
    queries: Mapping[str, str]
    unit: str = "short"
    width: int = 8
    #: `timeseries`, or `stat` for one number.
    kind: str = "timeseries"
    #: From which value on a number is bad.
    bad_from: float | None = None
    #: Below which value a number is bad.
    good_from: float | None = None


def rate(metric: str, by: str, where: str = "") -> str:
    """A rate of what every address of the API tells alike."""
    return f"sum by ({by}) (max without (instance) (rate({metric}{where}[$__rate_interval])))"


def quantile(share: float, histogram: str, by: str, where: str = "") -> str:
    buckets = f"sum by (le, {by}) (max without (instance) (rate({histogram}_bucket{where}[$__rate_interval])))"
    return f"histogram_quantile({share}, {buckets})"


def own_rate(metric: str, by: str, where: str = "") -> str:
    """A rate of what each process counts for itself."""
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


SMALL: dict[str, Any] = {"kind": "stat", "width": 3}
DOWN = 'count(up{job=~"sluice-.*"} == 0) or vector(0)'
BUSY = "sum by (job) (sluice_worker_children - sluice_worker_free_children) / sum by (job) (sluice_worker_children)"
FAILED = '{outcome="failed"}'

ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel("Monitor leads", {"max(sluice_leader)": ""}, **SMALL, good_from=1),
        Panel("Workers", {"sum(max by (kind) (sluice_workers))": ""}, **SMALL, good_from=1),
        Panel("Waiting", {"sum(max by (queue) (sluice_queue_waiting))": ""}, **SMALL),
        Panel("Running", {"sum(max by (queue) (sluice_queue_running))": ""}, **SMALL),
        Panel("Tickets not sent", {"sum(max by (queue) (sluice_queue_unsent))": ""}, **SMALL, bad_from=50),
        Panel("Oldest in doubt", {"max(sluice_in_doubt_oldest_seconds)": ""}, "s", **SMALL, bad_from=10),
        Panel("Overtaken", {"max(sluice_inversions_total)": ""}, **SMALL, bad_from=1),
        Panel("Processes down", {DOWN: ""}, **SMALL, bad_from=1),
    ),
    "Tasks": (
        Panel("Accepted", {rate("sluice_tasks_accepted_total", "task_type"): "{{task_type}}"}, "ops"),
        Panel("Started", {rate("sluice_tasks_started_total", "priority"): "{{priority}}"}, "ops"),
        Panel("Finished", {rate("sluice_tasks_finished_total", "outcome"): "{{outcome}}"}, "ops"),
        Panel("Not over", {"max by (state) (sluice_tasks)": "{{state}}"}),
        Panel(
            "Failed for good, and retried",
            {
                rate("sluice_tasks_finished_total", "task_type", FAILED): "{{task_type}} failed",
                rate("sluice_task_retries_total", "task_type"): "{{task_type}} retried",
            },
            "ops",
        ),
        Panel(
            "Run time",
            {
                quantile(0.5, "sluice_task_run_seconds", "task_type"): "{{task_type}} 50 %",
                quantile(0.99, "sluice_task_run_seconds", "task_type"): "{{task_type}} 99 %",
            },
            "s",
        ),
    ),
    "Queues": (
        Panel("Waiting", {"max by (queue) (sluice_queue_waiting)": "{{queue}}"}),
        Panel("How long the first has waited", {"max by (queue) (sluice_queue_oldest_seconds)": "{{queue}}"}, "s"),
        Panel(
            "From ready to started, 99 %",
            {quantile(0.99, "sluice_task_start_delay_seconds", "queue"): "{{queue}}"},
            "s",
        ),
        Panel("Running", {"max by (queue) (sluice_queue_running)": "{{queue}}"}),
        Panel("Tickets not sent", {"max by (queue) (sluice_queue_unsent)": "{{queue}}"}),
        Panel("Paused", {"max by (queue) (sluice_queue_paused)": "{{queue}}"}),
    ),
    "Recovery": (
        Panel(
            "Branches in doubt",
            {
                "max by (database) (sluice_in_doubt_branches)": "{{database}}",
                "max by (database) (sluice_in_doubt_oldest_seconds)": "{{database}} oldest, seconds",
            },
        ),
        Panel(
            "Found and mended",
            {
                rate("sluice_redispatched_total", "job"): "tickets sent again",
                rate("sluice_lease_expiries_total", "job"): "leases that ran out",
                rate("sluice_dead_lettered_total", "job"): "tickets given up",
                rate("sluice_strange_messages_total", "job"): "messages that are no tickets",
            },
            "ops",
        ),
        Panel("Lost moves", {rate("sluice_lost_moves_total", "move"): "{{move}}"}, "ops"),
        Panel("Databases in reach", {"min by (database) (sluice_database_reachable)": "{{database}}"}),
        Panel(
            "Time of the monitor's rounds",
            {own_rate("sluice_monitor_round_seconds_sum", "round"): "{{round}}"},
            "percentunit",
        ),
        Panel("What they moved", {own_rate("sluice_monitor_moved_total", "round"): "{{round}}"}, "ops"),
    ),
    "Door": (
        Panel("Requests", {own_rate("sluice_http_request_seconds_count", "status"): "{{status}}"}, "reqps"),
        Panel(
            "The slowest of a hundred",
            {
                "histogram_quantile(0.99, sum by (le, method, route) "
                "(rate(sluice_http_request_seconds_bucket[$__rate_interval])))": "{{method}} {{route}}"
            },
            "s",
        ),
        Panel(
            "Webhooks",
            {
                "max(sluice_webhooks_waiting)": "waiting",
                "max(sluice_webhooks_late_seconds)": "late, seconds",
                rate("sluice_webhooks_delivered_total", "job"): "delivered a second",
                rate("sluice_webhooks_failed_total", "job"): "failed a second",
            },
        ),
    ),
    "Processes": (
        Panel("Workers", {"max by (kind) (sluice_workers)": "{{kind}}"}),
        Panel("Children with a ticket", {BUSY: "{{job}}"}, "percentunit"),
        Panel("Tickets taken", {own_rate("sluice_worker_tickets_total", "queue"): "{{queue}}"}, "ops"),
        Panel(
            "Processor time",
            {own_rate("process_cpu_seconds_total", "instance"): "{{instance}}"},
            "percentunit",
            width=12,
        ),
        Panel("Memory", {"sum by (instance) (process_resident_memory_bytes)": "{{instance}}"}, "bytes", width=12),
    ),
}


def dashboard() -> dict[str, Any]:
    return {
        "uid": "sluice",
        "title": "Sluice",
        "tags": ["sluice"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
            ]
        },
        "annotations": {"list": []},
        "panels": list(_placed()),
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Row below row, and in each from left to right."""
    number, y = 0, 0
    for title, panels in ROWS.items():
        number += 1
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        y, x = y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            number += 1
            yield _drawn(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHT})
            x += panel.width
        y += HEIGHT


def _drawn(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)},
            "overrides": [],
        },
        "options": _OPTIONS[panel.kind],
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for place, (expr, legend) in enumerate(panel.queries.items())
        ],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value"},
}


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "red" if panel.good_from is not None else "green", "value": None}]
    if panel.good_from is not None:
        steps.append({"color": "green", "value": panel.good_from})
    if panel.bad_from is not None:
        steps.append({"color": "red", "value": panel.bad_from})
    return {"mode": "absolute", "steps": steps}


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
