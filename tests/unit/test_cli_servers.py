"""The private servers' files: bound to loopback, with a password, and none of it in anybody's arguments."""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
import subprocess
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import celery_config
from cli import application, environment, supervisor
from cli.credentials import Credentials, keep
from cli.layout import Layout
from cli.program import Program
from cli.roles import API, FLOWER, MONITOR, OF_DATABASES, SET_UP, WORKER
from cli.servers import mariadb, rabbitmq, redis, smtp
from cli.site import Site

REPLICAS = {"data": 2}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    layout = Layout(tmp_path / "state")
    layout.create()
    names = "mariadb redis smtp rabbitmq epmd supervisor api flower rabbitmq-ui rabbitmq-distribution rabbitmq-control"
    figures = map(application.figures_port, application.with_figures(REPLICAS))
    ports = {name: 20_000 + number for number, name in enumerate([*names.split(), *figures])}
    return Site(layout, ports, Credentials())


def programs(site: Site) -> list[Program]:
    service = application.programs(
        site, lambda role: environment.of_processes(site, {}, role), replicas=REPLICAS, has_own_broker=True
    )
    return [
        *rabbitmq.programs(site),
        mariadb.program(site),
        redis.program(site),
        smtp.program(site),
        *service,
    ]


def test_no_password_is_in_an_argument(site: Site) -> None:
    users = (
        site.credentials.of(server, user)
        for server in ("mariadb", "rabbitmq", "redis")
        for user in (*OF_DATABASES.values(), *rabbitmq.PERMISSIONS)
    )
    secrets = {*vars(site.credentials).values(), *users}
    arguments = [argument for program in programs(site) for argument in program.command]
    assert not [argument for argument in arguments if any(secret in argument for secret in secrets)]


def test_no_log_grows_for_ever(site: Site) -> None:
    supervisor.Supervisor(site).configure(programs(site))
    found = configparser.RawConfigParser()
    found.read(site.layout.supervisor_config)
    sections = [found[name] for name in found.sections() if name.startswith("program:")]
    assert len(sections) == len(programs(site))
    assert {(each["stdout_logfile_maxbytes"], each["stdout_logfile_backups"]) for each in sections} == {("10MB", "2")}
    assert all(each["redirect_stderr"] == "true" for each in sections)
    assert (found["supervisord"]["logfile_maxbytes"], found["supervisord"]["logfile_backups"]) == ("5MB", "2")


def test_each_process_tells_its_figures_on_a_port_of_its_own(site: Site) -> None:
    ports = {each.name: each.environment.get("SLUICE_METRICS_PORT") for each in programs(site)}
    told = {name: port for name, port in ports.items() if port}
    assert told.keys() == {"data", "data-2", "email", "file", "monitor", "webhooks"}
    assert len(set(told.values())) == len(told)
    assert application.figures_url(site, "data-2") == f"http://127.0.0.1:{told['data-2']}/metrics"


def test_each_kind_of_process_logs_in_as_itself(site: Site) -> None:
    roles = {"api": API, "data": WORKER, "data-2": WORKER, "email": WORKER, "file": WORKER, "monitor": MONITOR}
    service = {each.name: each.environment for each in programs(site)}
    for name, role in {**roles, "flower": FLOWER}.items():
        for variable, user in {
            "LEDGER_DATABASE_URL": role.ledger,
            "DATA_DATABASE_URL": role.data,
            "CELERY_BROKER_URL": role.broker,
            "CELERY_RESULT_BACKEND": role.redis,
        }.items():
            assert urlsplit(service[name][variable]).username == user, (name, variable)
        assert "RABBITMQ_MANAGEMENT_URL" not in service[name], name


def test_nobody_has_anothers_password(site: Site) -> None:
    found = [
        site.credentials.of(server, user)
        for server in ("mariadb", "mysql", "rabbitmq", "redis")
        for user in {user for role in (SET_UP, API, WORKER, MONITOR, FLOWER) for user in vars(role).values()}
    ]
    assert len(set(found)) == len(found)


def test_rabbitmqs_users_know_our_names(site: Site) -> None:
    """The patterns of `rabbitmq.PERMISSIONS` against the names in `celery_config`."""

    def may(user: str, what: int, name: str) -> bool:
        return re.fullmatch(rabbitmq.PERMISSIONS[user][what], name) is not None

    configure, write, read = range(3)
    exchanges = [each.name for each in (celery_config.TICKETS, celery_config.DOORBELL, celery_config.DEAD_LETTERS)]
    for name in (*(queue.name for queue in celery_config.all_queues()), *exchanges):
        assert may(WORKER.broker, configure, name) and may(MONITOR.broker, configure, name)
        assert not any(may(each.broker, configure, name) for each in (API, FLOWER)), name
        assert may(API.broker, write, name) == (name in exchanges[:2]), name
        assert may(MONITOR.broker, write, name)
        assert not may(API.broker, read, name)
        assert may(MONITOR.broker, read, name) == (name != celery_config.DOORBELL.name), name
        assert not may(FLOWER.broker, read, name)
    assert not any(may(each.broker, write, "celery.pidbox") for each in (API, MONITOR, WORKER))
    assert not any(may(each.broker, write, "amq.default") for each in (API, MONITOR, WORKER, FLOWER))


def test_flower_shows_and_changes_nothing(site: Site) -> None:
    [flower] = [each.environment for each in programs(site) if each.name == "flower"]
    assert flower["FLOWER_READ_ONLY"] == "true"
    assert flower["FLOWER_BASIC_AUTH"].endswith(site.credentials.flower)
    assert flower["FLOWER_ADDRESS"] == "127.0.0.1"


def test_flower_remembers_so_much_and_no_more_in_the_stacks_own_folder(site: Site) -> None:
    [flower] = [each for each in programs(site) if each.name == "flower"]
    assert flower.environment["FLOWER_PERSISTENT"] == "true"
    folder = Path(flower.environment["FLOWER_DB"]).parent
    assert site.layout.state in folder.parents
    subprocess.run(["/bin/sh", "-c", flower.first], check=True)
    assert folder.is_dir()
    assert int(flower.environment["FLOWER_MAX_TASKS"]) <= 10_000


def test_what_rabbitmq_left_in_a_boot_that_never_ended_is_forgotten(site: Site) -> None:
    data = site.layout.server(rabbitmq.NAME) / "data"
    (data / "quorum").mkdir(parents=True)
    subprocess.run(["/bin/sh", "-c", rabbitmq.forget_unfinished(site)], check=True)
    assert list(data.iterdir()) == []
    (data / "quorum").mkdir()
    rabbitmq.keep_data(site)
    subprocess.run(["/bin/sh", "-c", rabbitmq.forget_unfinished(site)], check=True)
    assert (data / "quorum").exists()


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
    overrides = {"SLUICE_SHUTDOWN_GRACE_SECONDS": "30"}
    variables = partial(environment.of_processes, site, overrides)
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
