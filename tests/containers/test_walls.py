"""What a process that was taken over finds in its container: nothing to write, its own secrets, few to speak to."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO

import pytest

from cli import credentials
from cli.containers import secrets
from tests.conftest import CHECKOUT, Tell
from tests.containers import engine
from tests.containers.engine import OURS, SERVERS

pytestmark = pytest.mark.usefixtures("containers")



def inside(service: str, *command: str) -> str:
    return engine.compose("exec", "--no-TTY", service, *command)


@pytest.mark.parametrize("service", [*OURS, *SERVERS])
def test_nobody_is_root_or_may_become_it(service: str) -> None:
    lines = inside(service, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("service", [*OURS, *SERVERS])
def test_what_runs_cannot_be_changed_where_it_runs(service: str) -> None:
    for path in ("/app/settings.py", "/usr/bin/new", "/etc/passwd"):
        with pytest.raises(engine.Failed, match=r"Read-only file system|cannot create|denied|No such"):
            inside(service, "sh", "-c", f"echo x >> {path}")


def test_a_container_has_the_secrets_of_its_process_only() -> None:
    for service, told in engine.model()["services"].items():
        if service != "migrate" and told.get("secrets"):
            assert inside(service, "ls", "/run/secrets").split() == sorted(told["secrets"]), service


def test_no_password_is_in_a_variable_an_argument_or_a_log() -> None:
    known = passwords()
    for service in (*OURS, *SERVERS, "migrate"):
        shown = json.dumps(engine.inspect(service)) + engine.compose("logs", "--no-color", service)
        assert not [password for password in known if password in shown], service


def test_no_password_is_in_the_image(tell: Tell) -> None:
    known = [password.encode() for password in passwords()]
    packed = engine.saved("sluice")
    layers = 0
    with tarfile.open(fileobj=BytesIO(packed)) as image:
        for member in image:
            layers += member.size > 1_000_000
            held = file.read() if (file := image.extractfile(member)) else b""
            assert not any(password in held for password in known), member.name
    [found] = json.loads(engine.docker("image", "inspect", "sluice"))
    tell(f"image: {found['Size'] / 1e6:.0f} MB, user {found['Config']['User']}")
    assert layers
    assert found["Config"]["User"] == "10001:10001"


def passwords() -> list[str]:
    kept = credentials.load(secrets.FOLDER / secrets.KEPT)
    assert kept is not None
    users = {user for role in secrets.ROLES.values() for user in vars(role).values()} | {secrets.ROOT}
    servers = ("mysql", "rabbitmq", "redis")
    return [kept.api_key, kept.flower, kept.users, *(kept.of(server, user) for server in servers for user in users)]


def test_only_the_api_and_the_pages_are_published_and_to_this_machine_only() -> None:
    published: dict[str, str] = {}
    for service in (*OURS, *SERVERS):
        for port, bindings in engine.inspect(service)["NetworkSettings"]["Ports"].items():
            assert all(each["HostIp"] == "127.0.0.1" for each in bindings or ()), service
            published |= {service: port} if bindings else {}
    assert published == {"api": "5000/tcp", "flower": "5555/tcp", "rabbitmq": "15672/tcp", "mail": "8025/tcp"}


REACH = """
import socket, sys
for word in sys.argv[1:]:
    host, port = word.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
        print(word)
    except OSError:
        pass
"""
ALL = ("mysql:3306", "rabbitmq:5672", "rabbitmq:15672", "redis:6379", "mail:1025", "api:5000", "flower:5555")


@pytest.mark.parametrize(
    ("service", "reached"),
    {
        "webhooks": {"mysql:3306"},
        "data": {"mysql:3306", "rabbitmq:5672", "rabbitmq:15672", "redis:6379"},
        "email": {"mysql:3306", "rabbitmq:5672", "rabbitmq:15672", "redis:6379", "mail:1025"},
    }.items(),
)
def test_a_process_reaches_the_servers_that_it_needs(service: str, reached: set[str]) -> None:
    found = set(inside(service, "python", "-c", REACH, *ALL).split())
    # The data and the email worker share networks with the API and Flower, which listen there too.
    beside = set() if service == "webhooks" else {"api:5000", "flower:5555"}
    assert found - beside == reached


def test_the_walls_are_those_of_the_engine_too() -> None:
    for service in (*OURS, *SERVERS):
        host = engine.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["Memory"] and host["NanoCpus"] and host["PidsLimit"], service


def test_the_image_holds_what_is_listed_and_nothing_else() -> None:
    there = set(inside("api", "sh", "-c", "ls -A /app").split())
    lines = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    listed = {line[1:].partition("/")[0] for line in lines if line.startswith("!")}
    assert there - {"__pycache__"} == listed
