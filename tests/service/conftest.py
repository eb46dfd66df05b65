"""Real servers, without our processes: a private database, RabbitMQ, Redis and SMTP sink, started for the session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

import settings
from api import auth, quotas
from cli.stack import Stack
from ledger import db, keys, schema, webhook_secrets
from ledger.callers import EVERYBODY, Scope
from ledger.models import api_keys, leadership, marker
from ledger.models import ledger as ledgers
from tasks import catalog
from tasks.types.dataset import data
from tests import receiver
from tests.conftest import CHECKOUT, PORTS, databases, eventually, state
from tests.doors import MASTER, door_for
from tests.receiver import Receiver
from tests.recording import configure


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[Stack]:
    stack = Stack(
        state("service"),
        overrides={"SLUICE_LEASE_SECONDS": "2", "SLUICE_RABBITMQ_UI_PORT": str(PORTS[3])},
        databases=databases(pytestconfig),
    )
    # RabbitMQ begins anew: what an earlier run deleted, declared and killed it over, it may not be able to recover.
    stack.down()
    shutil.rmtree(stack.layout.server("rabbitmq") / "data", ignore_errors=True)
    stack.up(parts=[*stack.databases.values(), "rabbitmq", "redis", "smtp"])
    os.environ.update(stack.environment())
    settings.settings.cache_clear()
    schema.migrate()
    stack.grant()
    keys.add(MASTER, owner="tests", scopes=[Scope.ADMIN])
    catalog.load()
    yield stack
    stack.down()


@pytest.fixture(autouse=True)
def empty(servers: Stack) -> None:
    """Every test begins with empty tables, and with the patience of a worker: a door of an earlier one had less."""
    db.be_patient(10)
    with db.ledger().begin() as connection:
        for table in set(ledgers.tables.values()) - {leadership, api_keys}:
            connection.execute(table.delete())
        connection.execute(api_keys.delete().where(api_keys.c.id != MASTER.key_id))
    for name in db.data_names():
        with db.data(name).begin() as connection:
            for table in (marker, data):
                connection.execute(table.delete())
    auth.forget()
    quotas.forget()


@pytest.fixture
def door(servers: Stack) -> FlaskClient:
    """The HTTP door, in this process, for somebody who may do everything."""
    return door_for()


@pytest.fixture
def configured(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Changes settings for one test, by the names of their variables; the engines follow."""

    def change(**variables: Any) -> None:
        configure(monkeypatch, **variables)
        db.be_patient(10)

    yield change
    monkeypatch.undo()
    settings.settings.cache_clear()
    db.be_patient(10)


@pytest.fixture(params=["unreachable", "unknown"])
def database_away(configured: Callable[..., None], request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a business database that does not answer, or that the operator has struck off the list."""
    others = os.environ["DATA_DATABASES"]
    if request.param == "unreachable":
        configured(DATA_DATABASES=f"{request.param}=mysql+pymysql://nobody@127.0.0.1:1/none,{others}")
    yield request.param
    configured(DATA_DATABASES=others)


@pytest.fixture
def gunicorn(servers: Stack, free_port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real server, and its address."""
    with serving(free_port) as found:
        yield found


@contextmanager
def serving(port: int, *, processes: int = 1) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    url = f"http://127.0.0.1:{port}"
    command = [f"{sys.prefix}/bin/gunicorn", "--config", "file:api/gunicorn_config.py", "--workers", str(processes)]
    with subprocess.Popen([*command, "--bind", url[7:], "api:create_app()"], cwd=CHECKOUT) as process:
        try:
            eventually(lambda: answers_at(f"{url}/livez"), within=60)
            yield process, url
        finally:
            process.kill()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def answers_at(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:  # it does not listen yet, or has more to load than there is time for
        return False


@pytest.fixture
def secret(servers: Stack, empty: None) -> str:
    """What webhooks of tasks that nobody owns are signed with."""
    return webhook_secrets.make(overlap_seconds=60, caller=EVERYBODY).words


@pytest.fixture
def hook(secret: str) -> Iterator[Receiver]:
    """A receiver on this machine."""
    with receiver.receiving() as found:
        yield found
