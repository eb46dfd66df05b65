"""The systemd units of docs/deploy: systemd takes them, and they run what containers run, with the same secrets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import celery_config
import settings
from tests.conftest import CHECKOUT

UNITS = CHECKOUT / "docs" / "deploy" / "systemd"
SERVICES: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
[IMAGE_COMMAND] = re.findall(r"^CMD (.*)$", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
#: Each container of ours that goes on, with its unit.
UNIT_OF = {
    **{name: f"sluice-{name}.service" for name in ("api", "monitor", "webhooks", "flower")},
    **dict.fromkeys(celery_config.WORKERS, "sluice-worker@.service"),
}
URLS = ("LEDGER_DATABASE_URL", "DATA_DATABASE_URL", "DATA_DATABASES", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
#: The most that `systemd-analyze security` may find, of 100; a unit without any bound has 96.
MOST_EXPOSED = 15

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze") and "CI" not in os.environ, reason="systemd-analyze is not here"
)
each = pytest.mark.parametrize("name", UNIT_OF)


def lines(unit: str, key: str, instance: str = "") -> list[str]:
    text = (UNITS / unit).read_text(encoding="utf-8")
    return [found.replace("%i", instance) for found in re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)]


def variables(unit: str) -> dict[str, str]:
    return dict(word.split("=", 1) for line in lines(unit, "Environment") for word in shlex.split(line))


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment in which systemd finds the units, with the programs of this checkout."""
    folder = tmp_path / "system"
    shutil.copytree(UNITS, folder)
    for path in folder.rglob("*.*"):
        if path.is_file():
            path.write_text(path.read_text(encoding="utf-8").replace("/opt/sluice", str(CHECKOUT)), encoding="utf-8")
    return {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}


@needs_systemd
def test_systemd_takes_every_unit(installed: dict[str, str]) -> None:
    units = [unit.replace("@.", "@data.") for unit in {*UNIT_OF.values(), "sluice.target"}]
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, check=False)
    # Units of the machine itself may be none of our business.
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "sluice" in line]


@needs_systemd
@each
def test_a_unit_may_do_little(name: str, installed: dict[str, str]) -> None:
    unit = UNIT_OF[name].replace("@.", f"@{name}.")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_a_unit_runs_what_its_container_runs(name: str) -> None:
    [line] = lines(UNIT_OF[name], "ExecStart", name)
    program, *arguments = shlex.split(line)
    assert program.startswith("/opt/sluice/.venv/bin/")
    wanted = SERVICES[name].get("command") or json.loads(IMAGE_COMMAND)
    differing = {"--bind", "0.0.0.0:5000", "--conf=/run/secrets/flower.py"}
    assert {*wanted} - differing <= {Path(program).name, *arguments}


@each
def test_a_unit_has_the_secrets_of_its_container(name: str) -> None:
    credentials = dict(line.split(":", 1) for line in lines(UNIT_OF[name], "LoadCredential"))
    told, of_container = variables(UNIT_OF[name]), SERVICES[name]["environment"]
    for url in URLS:
        assert told.get(url) == of_container.get(url), url
        secret = str(of_container.get(f"{url}_FILE", "")).removeprefix("/run/secrets/")
        held = told.get(f"{url}_FILE", "").removeprefix("%d/")
        assert credentials.get(held, "").removeprefix("/etc/sluice/secrets/") == secret, url
    assert {Path(path).name for path in credentials.values()} == {*SERVICES[name]["secrets"]}


@each
def test_a_unit_has_as_long_to_end_as_its_container(name: str) -> None:
    assert lines(UNIT_OF[name], "TimeoutStopSec") == [SERVICES[name]["stop_grace_period"].removesuffix("s")]
    assert lines(UNIT_OF[name], "Restart") == ["always"]


def test_each_process_tells_its_figures_where_the_page_has_prometheus_look() -> None:
    told = {"api": re.findall(r"^API_BIND=(\S+)$", (UNITS / "sluice.env").read_text("utf-8"), re.MULTILINE)}
    for name in UNIT_OF.keys() - {"api", "flower"}:
        unit = UNIT_OF[name].replace("@.", f"@{name}.")
        files = [unit] if "@" not in unit else [str(path.relative_to(UNITS)) for path in UNITS.glob(f"{unit}.d/*.conf")]
        told[name] = [f"127.0.0.1:{variables(file)['SLUICE_METRICS_PORT']}" for file in files]
    assert all(len(addresses) == 1 for addresses in told.values())
    assert len({addresses[0] for addresses in told.values()}) == len(told)
    page = (CHECKOUT / "docs" / "deploy" / "systemd.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    jobs = {job["job_name"].removeprefix("sluice-"): job for job in yaml.safe_load(block)["scrape_configs"]}
    assert {name: job["static_configs"][0]["targets"] for name, job in jobs.items()} == told


def test_drop_ins_are_installed_with_the_units() -> None:
    for path in ("one-server.md", "upgrade-and-backup.md", "pulumi/user-data.sh"):
        [line] = re.findall(r"^cp -r .*sluice\*\.service.*$", (UNITS.parent / path).read_text("utf-8"), re.MULTILINE)
        assert re.search(r"sluice\*\.service\.d ", line), path


def test_the_settings_files_name_settings() -> None:
    known = settings.variables() | {"API_BIND", "API_KEEP_ALIVE"}
    shown = re.findall(r"^(\w+)=", (UNITS / "sluice.env").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*shown} <= known
    of_operator = re.findall(r"^([A-Z_]+)=", (UNITS / "sluice-ledger").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name.removesuffix("_FILE") for name in of_operator} <= known


def test_the_operators_commands_have_the_secrets_of_the_set_up() -> None:
    text = (UNITS / "sluice-ledger").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^([A-Z_]+)_FILE=/etc/sluice/secrets/(\w+)$", text, re.MULTILINE))
    of_container = SERVICES["migrate"]["environment"]
    for name in ("LEDGER_DATABASE_URL", "DATA_DATABASE_URL", "DATA_DATABASES", "RABBITMQ_MANAGEMENT_URL"):
        assert of_container[f"{name}_FILE"] == f"/run/secrets/{shown[name]}"
    assert subprocess.run(["sh", "-n", UNITS / "sluice-ledger"], check=False).returncode == 0
