"""Prometheus finds every process, its rules can be evaluated, and every panel of the dashboard shows something."""

from __future__ import annotations

import math
import subprocess

import pytest

from cli.stack import Stack
from monitoring import dashboard
from tests.conftest import Eventually, Tell
from tests.conftest import eventually as until_it_is
from tests.monitoring.conftest import MONITORING, Prometheus
from tests.system.service import Service

QUERIES = [
    pytest.param(query, id=f"{row}: {panel.title} {number}")
    for row, panels in dashboard.ROWS.items()
    for panel in panels
    for number, query in enumerate(panel.queries, start=1)
]


@pytest.mark.parametrize("arguments", ["check rules alerts.yml", "test rules alerts_test.yml"])
def test_promtool_finds_no_fault(arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments.split()], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_as_it_is() -> None:
    command = ["promtool", "check", "config", "--syntax-only", "prometheus.yml"]
    assert subprocess.run(command, cwd=MONITORING, check=False).returncode == 0


@pytest.fixture(scope="session")
def worked(service: Service, prometheus: Prometheus) -> int:
    """Some tasks of each kind are done, and Prometheus has seen it; how many."""
    bodies = [
        {"task_type": "data_processing", "parameters": {"data": "some words"}, "priority": "high"},
        {"task_type": "bulk_insert", "parameters": {"rows": 20_000}},
        {"task_type": "email_sending", "parameters": {"to": "recipient@example.com"}},
        {"task_type": "file_processing", "parameters": {"filename": "your_file.txt"}, "priority": "low"},
    ]
    for task_id in service.post_all(bodies * 5):
        service.succeeded(task_id)
    done = 'sum(sluice_tasks_finished_total{outcome="succeeded"})'
    until_it_is(lambda: sum(prometheus.values(done)) >= len(bodies) * 5, within=60, every=0.5)
    return len(bodies) * 5


def test_every_process_is_found(prometheus: Prometheus, eventually: Eventually) -> None:
    def up() -> bool:
        found = prometheus.ask("targets")["activeTargets"]
        kinds = sorted(each["labels"]["job"].removeprefix("sluice-") for each in found if each["health"] == "up")
        return kinds == ["api", "data", "data", "email", "file", "monitor", "webhooks"]

    eventually(up, within=30, every=0.5)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_answers(
    query: str, worked: int, prometheus: Prometheus, eventually: Eventually
) -> None:
    asked = query.replace("$__rate_interval", "5m")
    eventually(lambda: any(map(math.isfinite, prometheus.values(asked))), within=30, every=0.5, what=asked)


def test_what_it_counts_is_what_was_done(worked: int, prometheus: Prometheus, tell: Tell) -> None:
    by_type = {
        each["metric"]["task_type"]: float(each["value"][1])
        for each in prometheus.ask("query", query="sum by (task_type) (sluice_tasks_accepted_total) > 0")["result"]
    }
    assert by_type == dict.fromkeys(("data_processing", "bulk_insert", "email_sending", "file_processing"), worked / 4)
    runs = sum(prometheus.values("sum(sluice_task_run_seconds_count)"))
    assert runs == sum(prometheus.values("sum(sluice_tasks_started_total)")) >= worked
    tickets = sum(prometheus.values("sum(sluice_worker_tickets_total)"))
    assert tickets >= worked
    seconds = prometheus.values('scrape_duration_seconds{job="sluice-api"}')
    tell(f"{runs:.0f} attempts, {tickets:.0f} tickets; a scrape of the API took {1000 * max(seconds):.0f} ms")


def test_every_rule_can_be_evaluated_and_none_cries_wolf(worked: int, prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_an_alert_calls_when_its_reason_is_there(
    worked: int, stack: Stack, prometheus: Prometheus, eventually: Eventually
) -> None:
    def fires() -> bool:
        return bool(prometheus.values('ALERTS{alertname="SluiceNoMonitorLeads", alertstate="firing"}'))

    stack.stop("monitor")
    eventually(fires, within=90, every=1)
    stack.start("monitor")
    eventually(lambda: not fires(), within=30, every=1)
