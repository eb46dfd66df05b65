"""Writes the secrets of the compose files: passwords that are made up once, and the URLs and files that have them in.

    make secrets        or python3 -m cli.containers.secrets

They lie in `.sluice-secrets`, a folder that only its owner may enter. The files in it may be read by everybody, because
each is mounted into containers whose processes are somebody else than that owner. Docker mounts the one file and not
the folder, so that a process has the secrets that docker-compose.yml names for it and no other. RabbitMQ and Redis get
the hashes of their users' passwords.

A second run changes nothing, unless this version wants more or other secrets than the last one. Runs before there is a
virtual environment, so it uses the standard library only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from cli import credentials, placement, roles
from cli.credentials import Credentials
from cli.layout import CHECKOUT, write_private
from cli.output import Output
from cli.roles import NOBODY, USER, WATCH, Role
from cli.servers import mysql, rabbitmq, redis

FOLDER = CHECKOUT / ".sluice-secrets"
#: From which all others follow; no container gets it.
KEPT = "credentials.json"
#: Each kind of process with its user on every server. Those on business databases are shared, see `_databases`.
ROLES: Mapping[str, Role] = {
    "set_up": roles.SET_UP,
    "api": roles.API,
    "worker": roles.WORKER,
    "monitor": roles.MONITOR,
    "webhooks": roles.WEBHOOKS,
    "flower": roles.FLOWER,
}
#: The one who makes the others, on MySQL.
ROOT = "root"
#: The nodes of docker-compose.cluster.yml, the first of which is the one of docker-compose.yml.
NODES = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
#: What the nodes know each other by.
COOKIE = "cookie"


def files(kept: Credentials) -> dict[str, str]:
    """The text of each secret, by the name of its file in the compose files."""
    page = f"http://{WATCH}:{kept.of(rabbitmq.NAME, WATCH)}@rabbitmq:15672"
    return {
        "api_key": kept.api_key,
        "metrics_key": kept.metrics_key,
        "grafana_password": kept.grafana,
        "mysql_root": kept.of(mysql.NAME, ROOT),
        "mysql_users.sql": mysql.first_statements(kept, placement.SCHEMAS.values(), host="%"),
        "rabbitmq_definitions.json": json.dumps(rabbitmq.definitions(kept), indent=2),
        "redis_users.acl": "\n".join([*redis.users(kept), ""]),
        "rabbitmq_page_url": page,
        "rabbitmq_cookie": kept.of(rabbitmq.NAME, COOKIE),
        # Flower has no other way to be told without the environment or its arguments.
        "flower.py": f"basic_auth = [{f'{USER}:{kept.flower}'!r}]\nbroker_api = {f'{page}/api/'!r}\n",
        **dict(_urls(kept)),
    }


def _urls(kept: Credentials) -> Iterator[tuple[str, str]]:
    """Who has no business on a server gets no URL of it."""
    for name, role in ROLES.items():
        if role.ledger != NOBODY:
            yield f"{name}_ledger_url", _database(kept, role.ledger, "ledger")
        if role.broker not in (NOBODY, USER):
            nodes = [_broker(kept, role.broker, node) for node in NODES]
            yield f"{name}_broker_url", nodes[0]
            yield f"{name}_brokers_url", ";".join(nodes)
        if role.redis not in (NOBODY, USER):
            yield f"{name}_redis_url", f"redis://{role.redis}:{kept.of(redis.NAME, role.redis)}@redis/0"
    for name, user in {"set_up": roles.SET_UP.data, "tasks": roles.OF_DATABASES["tasks"]}.items():
        yield f"{name}_data_url", _database(kept, user, "data")
        yield f"{name}_databases", f"archive={_database(kept, user, 'archive')}"


def _broker(kept: Credentials, user: str, node: str) -> str:
    return f"amqp://{user}:{kept.of(rabbitmq.NAME, user)}@{node}/{rabbitmq.VHOST}"


def _database(kept: Credentials, user: str, database: str) -> str:
    return f"mysql+pymysql://{user}:{kept.of(mysql.NAME, user)}@mysql/{placement.SCHEMAS[database]}"


def write(folder: Path = FOLDER) -> bool:
    """Write what is missing or was otherwise; returns whether there was anything to write."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    wanted = files(credentials.keep(folder / KEPT))
    changed = {name: text for name, text in wanted.items() if _held(folder / name) != text}
    for name, text in changed.items():
        write_private(folder / name, text, mode=0o444)
    return bool(changed)


def _held(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> int:
    output = Output.terminal()
    output.done("secrets", f"{'written into' if write() else 'all there, in'} {FOLDER.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
