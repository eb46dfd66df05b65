"""Docker's command line, for the tests: one project of ours, with ports of its own, that is taken down in the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
import yaml

from cli.containers import secrets
from tests.conftest import CHECKOUT, PORTS

PROJECT = "sluice-tests"
CLUSTER = "docker-compose.cluster.yml"
WATCHING = "docker-compose.monitoring.yml"
#: Away from those of a stack that somebody runs here.
ENVIRONMENT = {
    "SLUICE_API_PORT": str(PORTS[0]),
    "SLUICE_FLOWER_PORT": str(PORTS[1]),
    "SLUICE_RABBITMQ_UI_PORT": str(PORTS[2]),
    "SLUICE_MAIL_UI_PORT": str(PORTS[3]),
    "SLUICE_DOOR_NETWORK": "10.213.78.0/24",
    "COMPOSE_FILE": "docker-compose.yml",
}


OURS = ("api", "data", "email", "file", "monitor", "webhooks", "flower")
SERVERS = ("rabbitmq", "redis", "mysql", "mail")
#: The label of an image that is not what its name says.
STANDIN = "sluice.standin"


class Failed(Exception):
    """Docker's command line ended otherwise than by success."""


def why_not() -> str:
    """Why there is nothing to test with; empty when there is."""
    if shutil.which("docker") is None:
        return "there is no docker here"
    needed = {"info": "no Docker Engine answers", "compose version": "docker has no compose plugin"}
    for command, what in needed.items():
        done = subprocess.run(["docker", *command.split()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"{what}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
    return ""


def docker(*arguments: str, stdin: IO[bytes] | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command printed."""
    done = subprocess.run(
        ["docker", *arguments],
        stdin=stdin,
        cwd=CHECKOUT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"docker {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def compose(*arguments: str) -> str:
    return docker("compose", "--project-name", PROJECT, *arguments, environment=ENVIRONMENT)


def shell(line: str) -> None:
    """A line as somebody pastes it."""
    told = {**os.environ, **ENVIRONMENT, "COMPOSE_PROJECT_NAME": PROJECT}
    done = subprocess.run(
        ["/bin/bash", "-ec", line], cwd=CHECKOUT, env=told, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"{line}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")


def told(section: str) -> list[str]:
    """The lines of a section of the how-to that one pastes."""
    page = (CHECKOUT / "docs/howto/run-with-docker.md").read_text(encoding="utf-8")
    block = page.partition(f"# {section}\n")[2].partition("```sh\n")[2].partition("```")[0]
    return block.splitlines()


@contextmanager
def laid_over(file: str) -> Iterator[None]:
    """Until the end of the block the project is made of docker-compose.yml and this file."""
    before = ENVIRONMENT["COMPOSE_FILE"]
    ENVIRONMENT["COMPOSE_FILE"] = f"{before}:{file}"
    try:
        yield
    finally:
        ENVIRONMENT["COMPOSE_FILE"] = before


def ids(service: str) -> list[str]:
    """Its containers, whether they run or not."""
    return compose("ps", "--all", "--quiet", service).split()


@contextmanager
def up(*of_it: str) -> Iterator[float]:
    """A new project, all or this much of it healthy, until the end of the block; the seconds that its start took."""
    if reason := why_not():
        pytest.skip(f"the containers are not tried: {reason}")
    secrets.write()
    compose("down", "--volumes", "--remove-orphans")
    began = time.monotonic()
    try:
        try:
            compose("up", "--build", "--wait", "--wait-timeout", "600", *of_it)
        except Failed as failed:
            raise AssertionError(f"{failed}\n{compose('logs', '--tail', '30')}") from failed
        yield time.monotonic() - began
    finally:
        compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def kill(container: str) -> None:
    docker("kill", "--signal", "KILL", container)


def ledger(*arguments: str) -> str:
    """One of the operator's commands, as the how-to runs them; Failed when it finds something wrong."""
    return compose("run", "--rm", "--no-deps", "--no-TTY", "migrate", "python", "-m", "ledger", *arguments)


def has_image(name: str) -> bool:
    return bool(docker("images", "--quiet", name).strip())


def url() -> str:
    return f"http://127.0.0.1:{PORTS[0]}"


def key() -> str:
    return (secrets.FOLDER / "api_key").read_text(encoding="utf-8")


def watcher() -> tuple[str, str]:
    """Who may look at RabbitMQ's page."""
    found = urlsplit((secrets.FOLDER / "rabbitmq_page_url").read_text(encoding="utf-8"))
    return str(found.username), str(found.password)


def is_standin(image: str) -> bool:
    [found] = json.loads(docker("image", "inspect", image))
    return STANDIN in (found["Config"].get("Labels") or {})


def inspect(service: str) -> dict[str, Any]:
    [container] = ids(service)
    [found] = json.loads(docker("inspect", container))
    return dict(found)


def model() -> dict[str, Any]:
    """docker-compose.yml."""
    return dict(yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")))


def cluster_model() -> dict[str, Any]:
    """What docker-compose.cluster.yml lays over it, as far as the tags of Docker Compose let others read it."""
    return dict(yaml.load((CHECKOUT / CLUSTER).read_text(encoding="utf-8"), _Overlay))


def watching_model() -> dict[str, Any]:
    """What docker-compose.monitoring.yml lays over it."""
    return dict(yaml.safe_load((CHECKOUT / WATCHING).read_text(encoding="utf-8")))


class _Overlay(yaml.SafeLoader):  # type: ignore[misc]
    """Takes what is marked `!override` or `!reset` as it stands."""


def _as_it_stands(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


for _tag in ("!override", "!reset"):
    _Overlay.add_constructor(_tag, _as_it_stands)


def image_names() -> dict[str, str]:
    """The images that others make, by our names for them."""
    named = re.search(r"^ARG PYTHON=(\S+)$", (CHECKOUT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    images = model()["x-images"] | cluster_model()["x-images"] | watching_model()["x-images"]
    return {name: image for name, image in images.items() if name != "sluice"} | {"python": named[1]}


def saved(image: str) -> bytes:
    """All layers of an image."""
    return subprocess.run(["docker", "save", image], stdout=subprocess.PIPE, check=True).stdout
