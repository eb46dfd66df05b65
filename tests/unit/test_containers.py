"""Reads Dockerfile and docker-compose.yml: who runs as whom, with what, and what may be reached; without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import celery_config
import settings
from api import health as readiness
from api import schemas, streams
from cli import roles
from cli.containers import health, secrets
from cli.credentials import Credentials
from ledger import presence
from tests.conftest import CHECKOUT
from tests.containers import engine

DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")
DOCKERIGNORE = [
    line for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]
MODEL: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = MODEL["services"]
#: What is laid over it for a cluster.
CLUSTER = engine.cluster_model()
NGINX = (CHECKOUT / "containers/nginx.conf").read_text(encoding="utf-8")
#: Prometheus and Grafana, and what they change about the others.
WATCHING: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.monitoring.yml").read_text(encoding="utf-8"))
SET_UP = "migrate"
OURS = [name for name, service in SERVICES.items() if service["image"] == MODEL["x-images"]["sluice"]]
#: Pages besides the API.
PUBLISHED = {"api", "flower", "rabbitmq", "mail"}
#: Of others, and what the images of the servers are told.
FOREIGN = re.compile(r"FLOWER_\w+|TMPDIR|MYSQL_\w+")
every_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def seconds(duration: str) -> int:
    number, unit = duration[:-1], duration[-1]
    return int(number) * {"s": 1, "m": 60}[unit]


def words(service: dict[str, Any]) -> str:
    return " ".join(map(str, service.get("command", [])))


def environment(name: str) -> dict[str, Any]:
    return dict(SERVICES[name].get("environment", {}))


# --- the image -----------------------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_in_particular() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    [user] = re.findall(r"^USER (\S+)$", last, re.MULTILINE)
    assert all(int(number) >= 10_000 for number in user.split(":"))


def test_the_image_installs_by_hashes_and_leaves_the_tools_behind() -> None:
    assert "--require-hashes --only-binary :all: -r requirements.txt" in DOCKERFILE
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert "--without-pip" in DOCKERFILE


def test_signals_reach_the_process_itself() -> None:
    [command] = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert isinstance(json.loads(command), list)
    assert "ENTRYPOINT" not in DOCKERFILE
    for name, service in SERVICES.items():
        assert isinstance(service.get("command", []), list), name


def test_a_worker_is_not_asked_what_the_api_is_asked() -> None:
    """What the image has for a health check, every container inherits."""
    assert not re.search(r"^HEALTHCHECK", DOCKERFILE, re.MULTILINE)


def test_no_secret_can_get_into_a_layer() -> None:
    assert DOCKERIGNORE[0] == "*"
    for path in (line[1:] for line in DOCKERIGNORE if line.startswith("!")):
        assert (CHECKOUT / path).exists(), path
        assert not re.search(r"secret|\.env|\.git|credential", path), path
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|SECRET|TOKEN|KEY|URL)", DOCKERFILE, re.MULTILINE)


def test_all_that_is_imported_in_the_image_is_in_it() -> None:
    let_in = [CHECKOUT / line[1:] for line in DOCKERIGNORE if line.startswith("!")]
    for path in (path for each in let_in for path in ([each] if each.is_file() else each.rglob("*.py"))):
        for module in re.findall(r"^(?:from|import) ([\w.]+)", path.read_text("utf-8"), re.MULTILINE):
            place = CHECKOUT / module.replace(".", "/")
            for found in (place, place.with_suffix(".py")):
                assert not found.exists() or {found, *found.parents} & {*let_in}, (path, module)


# --- the containers ------------------------------------------------------------------------------------------------


def test_every_queue_has_a_worker() -> None:
    started = {name: words(SERVICES[name]) for name in OURS}
    for kind in celery_config.WORKERS:
        assert [name for name, command in started.items() if f"workers.{kind} worker" in command], kind
    for part in ("workers.monitor", "workers.webhooks", "tasks flower"):
        assert [name for name, command in started.items() if part in command], part


@every_service
def test_a_container_has_nothing_but_what_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"} & service.keys()
    assert all(mount.partition(":")[0] in MODEL["volumes"] for mount in service.get("volumes", []))
    assert any(folder.startswith("/tmp:size=") for folder in service["tmpfs"])
    assert name in OURS or service["user"].partition(":")[0] not in ("", "root", "0")


@every_service
def test_a_container_cannot_eat_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit", "logging"} <= service.keys()
    assert service["logging"]["options"]["max-size"]


@every_service
def test_a_container_can_end_in_its_own_time(name: str) -> None:
    grace = seconds(SERVICES[name]["stop_grace_period"])
    drain = settings.Settings.model_fields["shutdown_grace_seconds"].default
    assert grace >= (drain + 5 if "workers." in words(SERVICES[name]) else 10)
    assert name != "api" or grace > 30  # gunicorn's graceful_timeout


@every_service
def test_a_container_says_whether_it_is_well(name: str) -> None:
    service = SERVICES[name]
    if name == SET_UP:
        assert service["restart"] == "no"
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]["test"]
    assert check[0] in ("CMD", "CMD-SHELL")
    assert name not in OURS or check[-1] in health.CHECKS
    assert name not in OURS or check[-1] == name


@each_of_ours
def test_the_service_starts_after_its_set_up(name: str) -> None:
    waits = SERVICES[name]["depends_on"]
    if name == SET_UP:
        assert waits == {"mysql": {"condition": "service_healthy"}}
    else:
        assert waits[SET_UP] == {"condition": "service_completed_successfully"}


@every_service
def test_only_the_api_and_the_pages_are_published_and_to_this_machine_only(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert bool(ports) == (name in PUBLISHED)
    assert all(port.startswith("127.0.0.1:") for port in ports)


@each_of_ours
def test_a_server_that_is_gone_is_soon_given_up(name: str) -> None:
    """Nobody knows the name of a container that is down, and the usual ten seconds would pass before that is said."""
    assert SERVICES[name]["dns_opt"] == ([] if name == "webhooks" else ["timeout:1", "attempts:1"])


def test_who_speaks_to_strangers_reaches_only_the_ledger() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert networks["webhooks"] == {"apart", "receivers"}
    assert [name for name, joined in networks.items() if "receivers" in joined] == ["webhooks"]
    assert [name for name, joined in networks.items() if "apart" in joined] == ["mysql", "webhooks"]
    assert {name for name, joined in networks.items() if "ledger" in joined} - set(OURS) == {"mysql"}
    open_ones = {name for name, network in MODEL["networks"].items() if not (network or {}).get("internal")}
    assert open_ones == {"pages", "mails", "receivers"}


def test_images_are_pinned_by_tag_in_one_place() -> None:
    assert {service["image"] for service in SERVICES.values()} == set(MODEL["x-images"].values())
    text = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
    assert len(re.findall(r"^    image: (?!\*)", text, re.MULTILINE)) == 0
    for name, image in MODEL["x-images"].items():
        assert name == "sluice" or re.search(r":v?\d", image), image
        assert ":latest" not in image
    assert re.search(r"^ARG PYTHON=python:\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]


# --- settings and secrets ------------------------------------------------------------------------------------------


@each_of_ours
def test_every_variable_is_a_setting(name: str) -> None:
    known = settings.variables() | {"SLUICE_API_KEY"}
    told = {each.removesuffix("_FILE") for each in environment(name) if not FOREIGN.fullmatch(each)}
    assert told <= known


@each_of_ours
def test_every_setting_reaches_the_containers(name: str) -> None:
    told = {each.removesuffix("_FILE") for each in environment(name)}
    # The monitor asks RabbitMQ by its own protocol, and failpoints are for tests.
    assert settings.variables() - told <= {"SLUICE_FAILPOINT_DIR", "RABBITMQ_MANAGEMENT_URL", "DATA_DATABASES"}


@every_service
def test_no_secret_stands_in_the_file(name: str) -> None:
    service = SERVICES[name]
    for variable, value in environment(name).items():
        if variable.endswith("_FILE"):
            assert str(value).removeprefix("/run/secrets/") in service["secrets"], variable
        elif value is not None:
            assert not re.search(r"://[^/@]+:[^/@]+@", str(value)), variable
            assert not re.search(r"PASSWORD|KEY|AUTH", variable), variable
    assert "guest" not in json.dumps(service)


def test_the_command_writes_each_secret_that_is_named() -> None:
    named = [secret for model in (MODEL, CLUSTER, WATCHING) for secret in model["secrets"].values()]
    written = set(secrets.files(Credentials()))
    assert {secret["file"] for secret in named} == {f"./{secrets.FOLDER.name}/{name}" for name in written}
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(MODEL["secrets"])
    watching = {secret for service in WATCHING["services"].values() for secret in service.get("secrets", [])}
    assert watching == set(WATCHING["secrets"])


def test_each_process_logs_in_as_itself() -> None:
    kept = Credentials()
    written = secrets.files(kept)
    for name, role in {
        "api": roles.API,
        **dict.fromkeys(celery_config.WORKERS, roles.WORKER),
        "monitor": roles.MONITOR,
        "webhooks": roles.WEBHOOKS,
        "flower": roles.FLOWER,
        SET_UP: roles.Role(roles.USER, roles.USER, roles.NOBODY, roles.NOBODY),
    }.items():
        found = environment(name)
        for variable, user in {
            "LEDGER_DATABASE_URL": role.ledger,
            "DATA_DATABASE_URL": role.data,
            "CELERY_BROKER_URL": role.broker,
            "CELERY_RESULT_BACKEND": role.redis,
        }.items():
            file = str(found.get(f"{variable}_FILE", "")).removeprefix("/run/secrets/")
            url = written[file] if file else found[variable]
            assert re.search(rf"://{user}[:@]", url), (name, variable)


def test_only_the_set_up_may_be_root_on_mysql() -> None:
    knowing = {name for name, service in SERVICES.items() if "mysql_root" in service.get("secrets", [])}
    assert knowing == {"mysql", SET_UP}


def test_secrets_are_written_before_there_is_a_virtual_environment() -> None:
    command = [sys.executable, "-S", "-c", "import cli.containers.secrets"]
    subprocess.run(command, cwd=CHECKOUT, env={}, check=True)


def test_secrets_are_for_their_owner_and_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert secrets.write(folder)
    held = {path.name: path.read_text() for path in folder.iterdir()}
    assert not secrets.write(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == held
    assert folder.stat().st_mode & 0o777 == 0o700
    # The processes in the containers are others than who owns the files.
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != secrets.KEPT} == {0o444}


def test_servers_know_the_passwords_by_their_hashes_only() -> None:
    kept = Credentials()
    written = secrets.files(kept)
    for role in secrets.ROLES.values():
        assert kept.of("rabbitmq", role.broker) not in written["rabbitmq_definitions.json"]
        assert kept.of("redis", role.redis) not in written["redis_users.acl"]
    assert not [user for user in json.loads(written["rabbitmq_definitions.json"])["users"] if user["name"] == "guest"]


def test_health_is_judged_by_the_bounds_of_the_house() -> None:
    assert presence.GONE_SECONDS == health.GONE_SECONDS
    assert readiness._SUCCESSION_SECONDS == health.SUCCESSION_SECONDS


# --- the cluster ---------------------------------------------------------------------------------------------------


def test_the_cluster_has_three_nodes_that_know_of_each_other() -> None:
    options = (CHECKOUT / "containers/rabbitmq-cluster.conf").read_text(encoding="utf-8")
    found = re.findall(r"^cluster_formation.classic_config.nodes.\d = rabbit@(\S+)$", options, re.MULTILINE)
    assert tuple(found) == secrets.NODES
    assert f"{len(found)} = length(rabbit_nodes:list_members())" in json.dumps(CLUSTER["x-node"]["healthcheck"])
    for node in secrets.NODES[1:]:
        assert CLUSTER["services"][node]["hostname"] == node
        assert CLUSTER["services"][node]["volumes"] == [f"{node}:/var/lib/rabbitmq"]


def test_who_makes_queues_waits_for_all_nodes() -> None:
    """A queue gets its members when it is made."""
    for name in {*celery_config.WORKERS, "api", "monitor", "flower"}:
        waits = CLUSTER["services"][name]["depends_on"]
        assert set(waits) == set(secrets.NODES[1:]), name
        assert all(each == {"condition": "service_healthy"} for each in waits.values()), name


def test_all_of_the_cluster_know_all_nodes() -> None:
    kept = Credentials()
    written = secrets.files(kept)
    for name, secret in CLUSTER["secrets"].items():
        if name.endswith("_broker_url"):
            urls = written[secret["file"].rpartition("/")[2]].split(";")
            assert urls[0] == written[name]
            assert [url.rpartition("@")[2] for url in urls] == [f"{node}/sluice" for node in secrets.NODES]
    assert {name for name in MODEL["secrets"] if name.endswith("_broker_url")} <= set(CLUSTER["secrets"])


def test_the_clusters_one_door_is_on_this_machine_only() -> None:
    published = {name: each["ports"] for name, each in CLUSTER["services"].items() if each.get("ports")}
    assert published == {"nginx": ["127.0.0.1:${SLUICE_API_PORT:-5000}:8080"]}
    assert all(CLUSTER["services"][name]["ports"] == [] for name in ("api", *secrets.NODES[1:]))


def test_nginx_has_nothing_but_what_it_needs() -> None:
    nginx = CLUSTER["services"]["nginx"]
    assert nginx["read_only"] and nginx["cap_drop"] == ["ALL"] and nginx["user"] == "nginx"
    assert nginx["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "logging", "healthcheck"} <= nginx.keys()
    assert not nginx.get("secrets") and set(nginx["networks"]) == {"front", "door"}
    with_it = [name for name, each in CLUSTER["services"].items() if "door" in each.get("networks", [])]
    assert sorted(with_it) == ["api", "nginx"]


def test_only_who_shares_a_network_with_nginx_is_believed_about_addresses() -> None:
    subnet = CLUSTER["networks"]["door"]["ipam"]["config"][0]["subnet"]
    assert CLUSTER["services"]["api"]["environment"] == {"SLUICE_PROXIES": f"{subnet},${{SLUICE_PROXIES:-}}"}
    assert "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;" in NGINX


def test_nginx_waits_longer_than_the_api_and_lets_through_more() -> None:
    [read] = re.findall(r"proxy_read_timeout (\d+)s;", NGINX)
    assert int(read) > max(schemas.LONGEST_WAIT_SECONDS, 2 * streams.PING_SECONDS)
    [most] = re.findall(r"client_max_body_size (\d+)m;", NGINX)
    assert int(most) << 20 > settings.Settings.model_fields["body_bytes"].default
    assert "resolve " in NGINX and "non_idempotent" not in NGINX


def test_nginx_begins_nothing_anew_but_reads_and_answers_with_their_own_status() -> None:
    assert "error_page 502 504 = @again;" in NGINX
    [begun] = re.findall(r"\$begins_anew \{\s+\"(\S+ \S+)\" 1;", NGINX)
    told = [f"{method} {time}" for method in ("GET", "HEAD", "POST", "PUT", "DELETE") for time in ("2.004", "30.001")]
    assert [line for line in told if re.search(begun.removeprefix("~"), line)] == ["GET 2.004", "HEAD 2.004"]


# --- Prometheus and Grafana ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_who_watches_has_nothing_but_what_it_needs_either(name: str) -> None:
    service = WATCHING["services"][name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "logging", "healthcheck"} <= service.keys()
    assert service["user"].partition(":")[0] not in ("", "root", "0")
    assert re.search(r":v?\d", service["image"])
    assert service.get("ports", []) == ([] if name == "prometheus" else ["127.0.0.1:${SLUICE_GRAFANA_PORT:-3000}:3000"])


def test_prometheus_looks_where_figures_are_told() -> None:
    jobs = yaml.safe_load((CHECKOUT / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    looked_at = {job["job_name"].removeprefix("sluice-") for job in jobs}
    told = {
        name
        for name, service in WATCHING["services"].items()
        if "SLUICE_METRICS_PORT" in service.get("environment", {})
        and {*service["networks"]} <= {*WATCHING["services"]["prometheus"]["networks"]}
    }
    assert looked_at == told | {"api"} == set(OURS) - {SET_UP, "flower"}
    port = int(WATCHING["services"]["data"]["environment"]["SLUICE_METRICS_PORT"])
    assert {found["port"] for job in jobs for found in job.get("dns_sd_configs", [])} == {port}
    assert WATCHING["networks"] == {key: {"internal": True} for key in ("watch", "watch-webhooks")}


def test_who_speaks_to_strangers_reaches_nobody_else_for_being_watched() -> None:
    joined = [name for name, service in WATCHING["services"].items() if "watch-webhooks" in service.get("networks", ())]
    assert joined == ["prometheus", "webhooks"]
    assert WATCHING["services"]["webhooks"]["networks"] == ["watch-webhooks"]
