"""The private servers' files: bound to loopback, with a password, and none of it in anybody's arguments."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from cli import application, environment
from cli.credentials import Credentials, keep
from cli.layout import Layout
from cli.program import Program
from cli.servers import mariadb, rabbitmq, redis, smtp
from cli.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    layout = Layout(tmp_path / "state")
    layout.create()
    names = "mariadb redis smtp rabbitmq epmd api flower rabbitmq-ui rabbitmq-distribution rabbitmq-control"
    return Site(layout, {name: 20_000 + number for number, name in enumerate(names.split())}, Credentials())


def programs(site: Site) -> list[Program]:
    service = application.programs(
        site, environment.of_processes(site, {}), replicas={"data": 2}, has_own_broker=True
    )
    return [
        *rabbitmq.programs(site),
        mariadb.program(site),
        redis.program(site),
        smtp.program(site),
        *service,
    ]


def test_no_password_is_in_an_argument(site: Site) -> None:
    secrets = vars(site.credentials).values()
    arguments = [argument for program in programs(site) for argument in program.command]
    assert not [argument for argument in arguments if any(secret in argument for secret in secrets)]


def test_rabbitmq_knows_the_password_by_its_hash_only(site: Site) -> None:
    rabbitmq.prepare(site)
    folder = site.layout.server("rabbitmq")
    assert site.credentials.rabbitmq not in "".join(
        each.read_text() for each in folder.iterdir() if each.is_file()
    )
    user = json.loads((folder / "definitions.json").read_text())["users"][0]
    raw = base64.b64decode(user["password_hash"])
    assert hashlib.sha256(raw[:4] + site.credentials.rabbitmq.encode()).digest() == raw[4:]


def test_files_with_passwords_are_their_owners_alone(site: Site) -> None:
    redis.prepare(site)
    kept = site.layout.credentials
    keep(kept)
    assert {
        kept.stat().st_mode & 0o777,
        (site.layout.server("redis") / "redis.conf").stat().st_mode & 0o777,
    } == {0o600}


def test_credentials_stay_the_same_and_are_completed(tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    first = keep(path)
    without_flower = {name: text for name, text in vars(first).items() if name != "flower"}
    path.write_text(json.dumps(without_flower))
    second = keep(path)
    assert second.rabbitmq == first.rabbitmq
    assert re.fullmatch(r"[0-9a-f]{32}", second.flower)
    assert second.flower != first.flower


def test_a_worker_has_more_time_to_end_than_its_own_bound(site: Site) -> None:
    variables = environment.of_processes(site, {"SLUICE_SHUTDOWN_GRACE_SECONDS": "30"})
    workers = [
        each
        for each in application.programs(site, variables, replicas={}, has_own_broker=True)
        if each.name in application.WORKERS
    ]
    assert len(workers) == 3
    assert all(each.stop_seconds >= 35 for each in workers)


def test_a_second_worker_of_a_kind_has_a_name_of_its_own(site: Site) -> None:
    names = [each.name for each in programs(site)]
    assert [name for name in names if name.startswith("data")] == ["data", "data-2"]
