"""Nothing that is secret is seen anywhere: parameters, the passwords of every server, API keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from kombu import Connection
from sqlalchemy import Engine, text

from cli import credentials, roles
from cli.servers import rabbitmq
from cli.stack import Stack
from settings import Settings
from tests.system.books import Books
from tests.system.patience import until
from tests.system.service import Service

CANARY = "canary5e7a19"


def test_no_parameter_password_or_key_is_seen_anywhere(service: Service, stack: Stack, books: Books) -> None:
    made = service.ask("POST", "/api/keys", json={"owner": "ada", "scopes": ["read"], "note": "a canary"}).json()["key"]
    assert Service(service.url, made).ask("GET", "/api/tasks").status_code == 200
    assert Service(service.url, made[:-2] + "xx").ask("GET", "/api/tasks").status_code == 401
    stack.stop("email")
    waiting = service.post("email_sending", {"to": f"{CANARY}@example.com", "subject": CANARY, "body": CANARY})
    done = service.post("data_processing", {"data": f"{CANARY} {CANARY}"})
    failed = service.post("file_processing", {"filename": f"{CANARY}.txt"}, max_retries=0)
    retried = service.post("csv_import", {"filename": f"{CANARY}.csv", "table": "data"}, max_retries=1)
    refused = service.ask("POST", "/api/tasks", json={"task_type": "bulk_insert", "parameters": {"rows": [CANARY]}})
    service.succeeded(done)
    for each in (failed, retried):
        assert CANARY in str(service.ended(each)["error"]), "who may see the task is told"
    until(lambda: books.dispatched([waiting]), "the ticket in RabbitMQ")
    flower = stack.environment()["FLOWER_URL"]
    until(lambda: done in requests.get(f"{flower}/api/tasks", timeout=10).text, "the task in Flower")

    places = dict(pages(service, stack, done)) | {"RabbitMQ's queue": peek(stack, "email.normal")}
    assert waiting in places["RabbitMQ's queue"], places["RabbitMQ's queue"]
    places["an answer that refuses"] = refused.text
    stack.start("email")
    service.succeeded(waiting)
    places |= dict(logs(stack)) | dict(command_lines()) | {"settings": told_of_settings(stack)}
    of_parameters = [place for place, words in places.items() if CANARY in words]
    places |= {"the ledger": everything_in(books.ledger), "the data": everything_in(books.data)}
    secrets = passwords(stack) | {"the key of another": made, "the other key's secret": made.split("_", 2)[2]}
    of_secrets = [
        (name, place) for name, secret in secrets.items() for place, words in places.items() if secret in words
    ]
    assert (of_parameters, of_secrets) == ([], [])
    assert len(secrets) > 20
    assert len(places) > 20


def passwords(stack: Stack) -> dict[str, str]:
    """Whatever the stack keeps secret, by its name."""
    kept = credentials.load(stack.layout.credentials)
    assert kept is not None
    users = {*roles.OF_DATABASES.values(), *rabbitmq.PERMISSIONS, roles.API.redis, roles.WORKER.redis}
    own = {name: str(value) for name, value in vars(kept).items() if name != "stack_id"}
    servers = ("mariadb", "mysql", "rabbitmq", "redis")
    return own | {f"{user} on {server}": kept.of(server, user) for user in users for server in servers}


def pages(service: Service, stack: Stack, task_id: str) -> Iterator[tuple[str, str]]:
    """What may be looked at by HTTP."""
    flower, page = stack.environment()["FLOWER_URL"], stack.environment()["RABBITMQ_URL"]
    of_task = (f"/task/{task_id}", f"/api/task/info/{task_id}")
    for path in ("/api/tasks", *of_task, "/workers", "/broker", "/api/workers", "/metrics"):
        yield f"Flower's {path}", requests.get(flower + path, timeout=10).text
    for path in ("/api/overview", "/api/queues", "/api/connections", "/api/channels", "/api/definitions"):
        yield f"RabbitMQ's {path}", requests.get(page + path, timeout=10).text
    for path in ("/metrics", "/readyz", "/openapi.json", "/api/workers", "/api/queues", "/api/keys", "/nowhere"):
        yield path, service.ask("GET", path).text


def peek(stack: Stack, queue: str) -> str:
    """What a message of a queue holds, headers included; it goes back to where it was."""
    with Connection(stack.environment()["CELERY_BROKER_URL"]) as connection:
        channel: Any = connection.channel()
        message = until(lambda: channel.basic_get(queue), f"a message in {queue}")
        return json.dumps([message.body, message.properties, message.headers], default=str)


def logs(stack: Stack) -> Iterator[tuple[str, str]]:
    servers = [path for path in stack.layout.state.glob("*/log/*") if path.is_file()]
    for path in [*stack.layout.run.glob("*.log*"), *servers]:
        yield f"the log {path.name}", path.read_text(errors="replace")


def command_lines() -> Iterator[tuple[str, str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield f"arguments of {path.parent.name}", path.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue


def told_of_settings(stack: Stack) -> str:
    """What settings say of themselves, and of what is wrong with them."""
    found = Settings.model_validate(stack.environment(roles.API))
    return f"{found!r} {found}"


def everything_in(database: Engine) -> str:
    """A dump of a database, as text, without what tasks were asked to do."""
    with database.connect() as connection:
        tables = connection.execute(text("SHOW TABLES")).scalars().all()
        return "\n".join(str(row) for table in tables for row in connection.execute(text(f"SELECT * FROM `{table}`")))
