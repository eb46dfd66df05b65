"""Prometheus beside the service: it finds every process, evaluates every rule, and opens no way to anybody.

Grafana is left out: nothing can stand in for its image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT, Eventually, Tell
from tests.containers import engine
from tests.containers.engine import OURS, SERVERS
from tests.containers.test_walls import ALL, REACH

#: Flower's figures are Celery's, and nobody looks at them.
KINDS = {*OURS} - {"flower"}


@pytest.fixture(scope="module")
def watched() -> Iterator[float]:
    """With two data workers."""
    with engine.laid_over(engine.WATCHING), engine.up("--scale", "data=2", *OURS, *SERVERS, "prometheus") as seconds:
        yield seconds


def test_docker_compose_takes_the_file_with_and_without_the_cluster() -> None:
    if reason := engine.why_not():
        pytest.skip(reason)
    for others in ([], [engine.CLUSTER]):
        files = [word for file in ("docker-compose.yml", *others, engine.WATCHING) for word in ("--file", file)]
        found = yaml.safe_load(engine.docker("compose", *files, "config"))["services"]
        # What one file overrides, the other one has not taken away.
        assert "watch" in found["api"]["networks"] and {"ledger", "tickets"} <= found["api"]["networks"].keys()
        assert {name for name, each in found.items() if "SLUICE_METRICS_PORT" in each.get("environment", {})} >= KINDS
        assert not found["prometheus"].get("ports")


def test_every_process_is_found(watched: float, eventually: Eventually, tell: Tell) -> None:
    tell(f"build and start until all of it is healthy: {watched:.0f} s")
    wanted = Counter(KINDS) + Counter(["data"])
    eventually(lambda: jobs_that_answer() == wanted, within=90, every=1, what="an answer from each process")
    tell(f"Prometheus {ask('status/buildinfo')['version']} reaches {jobs_that_answer().total()} processes")


def test_every_rule_is_loaded_and_can_be_evaluated(watched: float, eventually: Eventually) -> None:
    eventually(lambda: {rule["health"] for rule in rules()} == {"ok"}, within=60, every=1, what="rules that are well")
    written = yaml.safe_load((CHECKOUT / "monitoring" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    assert {rule["name"] for rule in rules()} == {rule["alert"] for group in written for rule in group["rules"]}
    assert [rule["name"] for rule in rules() if rule["state"] == "firing"] == []


def test_processes_that_are_killed_are_told_of(watched: float, eventually: Eventually) -> None:
    """Those of a kind that are all gone, too: their name leads nowhere then."""
    killed = ("api", "webhooks")
    for name in killed:
        engine.kill(engine.ids(name)[0])
    try:
        eventually(lambda: down() == {*killed}, within=180, every=2, what="an alert of each")
    finally:
        engine.compose("up", "--detach", "--no-deps", "--no-recreate", "--wait", *killed)
    eventually(lambda: not down(), within=90, every=2, what="silence")


def test_prometheus_is_nobody_and_reaches_no_server(watched: float) -> None:
    lines = inside("prometheus", "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert {*status["Uid"].split()} == {"65534"}
    assert {int(status[each], 16) for each in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert not any(engine.inspect("prometheus")["NetworkSettings"]["Ports"].values())
    mine = {*engine.inspect("prometheus")["NetworkSettings"]["Networks"]}
    for server in SERVERS:
        assert not mine & {*engine.inspect(server)["NetworkSettings"]["Networks"]}, server


def test_who_speaks_to_strangers_reaches_the_ledger_and_prometheus_only(watched: float) -> None:
    watching = ("prometheus:9090", *(f"{kind}:9464" for kind in KINDS - {"api", "webhooks"}))
    found = {*inside("webhooks", "python", "-c", REACH, *ALL, *watching).split()}
    assert found == {"mysql:3306", "prometheus:9090"}


def test_an_image_for_traces_has_what_they_want_and_the_usual_one_has_not(watched: float) -> None:
    engine.docker("build", "--build-arg", "OTEL=1", "--tag", "sluice:traces", ".")
    wanted = ("python", "-c", "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http")
    engine.docker("run", "--rm", "sluice:traces", *wanted)
    with pytest.raises(engine.Failed, match="ModuleNotFoundError"):
        engine.docker("run", "--rm", "sluice", *wanted)


def inside(name: str, *command: str) -> str:
    return engine.compose("exec", "--no-TTY", name, *command)


def ask(path: str) -> Any:
    """Whom Prometheus's network lets in, is in its container."""
    found = json.loads(inside("prometheus", "wget", "-q", "-O", "-", f"http://127.0.0.1:9090/api/v1/{path}"))
    assert found["status"] == "success", found
    return found["data"]


def jobs_that_answer() -> Counter[str]:
    targets = [each for each in ask("targets")["activeTargets"] if each["health"] == "up"]
    return Counter(each["labels"]["job"].removeprefix("sluice-") for each in targets)


def rules() -> list[dict[str, Any]]:
    return [rule for group in ask("rules")["groups"] for rule in group["rules"]]


def down() -> set[str]:
    """The kinds of which an alert says that a process does not answer."""
    firing = (each["labels"] for each in ask("alerts")["alerts"] if each["state"] == "firing")
    return {labels["job"].removeprefix("sluice-") for labels in firing if labels["alertname"] == "SluiceProcessDown"}
