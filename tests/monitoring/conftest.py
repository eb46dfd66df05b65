"""A real Prometheus that looks at a real stack, by our own configuration and rules.

    pytest tests/monitoring

Nothing else collects them: they want Debian's package `prometheus`, and a minute. Without it they are skipped and say
so. Grafana itself is not here: each query of the dashboard is put to Prometheus as Grafana would put it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from cli.stack import Stack
from tests.conftest import CHECKOUT, PORTS, eventually, state
from tests.system.service import Service

MONITORING = CHECKOUT / "monitoring"


@pytest.fixture(scope="session", autouse=True)
def _is_here() -> None:
    if missing := [name for name in ("prometheus", "promtool") if shutil.which(name) is None]:
        pytest.skip(f"not here: {', '.join(missing)}; apt-get install prometheus")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    names = ("SLUICE_API_PORT", "SLUICE_FLOWER_PORT", "SLUICE_RABBITMQ_UI_PORT")
    ports = {name: str(port) for name, port in zip(names, PORTS, strict=False)}
    found = Stack(state("monitoring"), overrides=ports, replicas={"data": 2})
    if found.layout.credentials.exists():
        found.wipe()
    try:
        found.up()
        yield found
    finally:
        found.down()


@pytest.fixture(scope="session")
def service(stack: Stack) -> Service:
    environment = stack.environment()
    return Service(environment["SLUICE_URL"], environment["SLUICE_API_KEY"])


class Prometheus:
    """Asked by its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        found = answer.json()
        assert found["status"] == "success", found
        return found["data"]

    def values(self, query: str) -> list[float]:
        return [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="session")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(json.dumps(configuration(stack, folder)), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    options = {"config.file": "prometheus.yml", "storage.tsdb.path": "data", "web.listen-address": address}
    command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            found = Prometheus(f"http://{address}")
            eventually(found.is_ready, within=30)
            yield found
        finally:
            process.terminate()


def configuration(stack: Stack, folder: Path) -> dict[str, Any]:
    """Ours, with where the processes of the stack are instead of containers, and looking more often."""
    made = stack.ledger_command("keys", "create", "--owner", "prometheus", "--scope", "metrics", "--json")
    (folder / "key").write_text(json.loads(made.stdout)["key"], encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    found["rule_files"] = [str(MONITORING / "alerts.yml")]
    for job in found["scrape_configs"]:
        kind = job["job_name"].removeprefix("sluice-")
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": targets(stack, kind)}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(folder / "key")
    return found


def targets(stack: Stack, kind: str) -> list[str]:
    """The addresses of all processes of a kind."""
    addresses = {part.name: part.url for part in stack.status()}
    mine = [address for name, address in addresses.items() if name.partition("-")[0] == kind]
    return [address.removeprefix("http://").partition("/")[0] for address in mine]
