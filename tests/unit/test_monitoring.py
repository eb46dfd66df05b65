"""Reads what Prometheus and Grafana are given: each query asks for what is exported, each alert says what to do."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from monitoring import dashboard
from tests.conftest import CHECKOUT

ALERTS = yaml.safe_load((CHECKOUT / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DRAWN: dict[str, Any] = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DRAWN["panels"] if panel["type"] != "row"]
QUERIES = [rule["expr"] for rule in RULES] + [each["expr"] for panel in PANELS for each in panel["targets"]]
#: Of Prometheus itself, and of prometheus-client.
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}


def documented() -> set[str]:
    """The series that docs/reference/metrics.md names; `service/test_metrics.py` holds that they are exported."""
    text = (CHECKOUT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    found: set[str] = set()
    for name, kind in re.findall(r"^\| `(sluice_\w+)` \| (\w+) ", text, re.MULTILINE):
        found |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_is_exported(query: str) -> None:
    bare = re.sub(r'"[^"]*"', "", query)
    named = set(re.findall(r"\b(?:sluice_\w+|process_\w+|up\b)", bare))
    assert named
    assert named <= documented() | OTHERS


def test_the_dashboard_is_written_from_its_code() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text(), "python -m monitoring.dashboard"


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in DRAWN["panels"]]
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(place["x"] + place["w"] <= dashboard.WIDTH for place in places)
    assert len({panel["id"] for panel in DRAWN["panels"]}) == len(DRAWN["panels"])


def test_each_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    told = (CHECKOUT / "docs" / "howto" / "monitor.md").read_text(encoding="utf-8")
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        assert f"### {rule['alert']}\n" in told, rule["alert"]
    assert len(re.findall(r"^### Sluice", told, re.MULTILINE)) == len(RULES)
