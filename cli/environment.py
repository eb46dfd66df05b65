"""Which variable comes from where: the real environment, then `.env`, then the stack itself.

A server whose address the operator gave is not started. The addresses that `env` printed into a shell are the stack's
own and not the operator's: they are recognised, or the next `up` from that shell would leave out the servers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cli import placement
from cli.placement import ALL_ON_MARIADB
from cli.roles import SET_UP, Role
from cli.servers import databases as database_servers
from cli.servers import rabbitmq, redis, smtp
from cli.site import Site

#: The variables with one address each, by the databases that they are of.
_DATABASES = {"ledger": "LEDGER_DATABASE_URL", "data": "DATA_DATABASE_URL"}

API_PORT = "SLUICE_API_PORT"
FLOWER_PORT = "SLUICE_FLOWER_PORT"
RABBITMQ_UI_PORT = "SLUICE_RABBITMQ_UI_PORT"
STATE_DIR = "SLUICE_STATE_DIR"

#: Settings of the stack; no process of the service is told of them.
STACK_ONLY = frozenset({API_PORT, FLOWER_PORT, RABBITMQ_UI_PORT, STATE_DIR})

_FILE = "_FILE"


def chosen(
    *,
    dotenv: Mapping[str, str],
    environ: Mapping[str, str],
    known: Iterable[str],
    printed: Mapping[str, str],
) -> dict[str, str]:
    """What the operator chose. `known` are the service's variables, `printed` is what `env` printed into this shell."""
    names = {*known, *STACK_ONLY}
    real = {
        name: value
        for name, value in environ.items()
        if value and name.removesuffix(_FILE) in names and printed.get(name) != value
    }
    overruled = {name.removesuffix(_FILE) for name in real}
    return {name: value for name, value in dotenv.items() if name.removesuffix(_FILE) not in overruled} | real


def addresses(databases: Mapping[str, str] = ALL_ON_MARIADB) -> dict[str, tuple[str, ...]]:
    """The variables that say where a server is; with all of them given, it is not ours to start."""
    return {
        **{
            server: tuple(name for each, name in _DATABASES.items() if databases[each] == server)
            for server in placement.servers(databases)
        },
        rabbitmq.NAME: ("CELERY_BROKER_URL",),
        redis.NAME: ("CELERY_RESULT_BACKEND",),
        smtp.NAME: ("SMTP_URL",),
    }


def is_given(overrides: Mapping[str, str], name: str) -> bool:
    return name in overrides or name + _FILE in overrides


def given(overrides: Mapping[str, str]) -> list[str]:
    """The addresses that the operator gave."""
    return [name for names in addresses().values() for name in names if is_given(overrides, name)]


def is_external(
    overrides: Mapping[str, str], server: str, databases: Mapping[str, str] = ALL_ON_MARIADB
) -> bool:
    names = addresses(databases).get(server, ())
    return bool(names) and all(is_given(overrides, name) for name in names)


def is_database_given(overrides: Mapping[str, str], database: str) -> bool:
    """Whether the operator said where a database lies."""
    return is_given(overrides, _DATABASES.get(database, "DATA_DATABASES"))


def private(site: Site, role: Role = SET_UP) -> dict[str, str]:
    """The variables of the service as the stack would have them, for one kind of process."""
    # Only the operator's commands ask RabbitMQ's page.
    of_operator = {"RABBITMQ_MANAGEMENT_URL": rabbitmq.management_url(site)} if role is SET_UP else {}
    return {
        "DATA_DATABASES": f"archive={database_servers.url(site, 'archive', role.data)}",
        "LEDGER_DATABASE_URL": database_servers.url(site, "ledger", role.ledger),
        "DATA_DATABASE_URL": database_servers.url(site, "data", role.data),
        "CELERY_BROKER_URL": rabbitmq.url(site, role.broker),
        **of_operator,
        "CELERY_RESULT_BACKEND": redis.url(site, role.redis),
        "SMTP_URL": smtp.url(site),
        "SLUICE_STORAGE_DIR": str(site.layout.storage),
        "SLUICE_LEGACY_GET": "1",
        "SLUICE_HOSTS": "127.0.0.1,localhost",
        # Receivers on one's own machine.
        "SLUICE_WEBHOOK_SCHEMES": "https,http",
        "SLUICE_WEBHOOK_PORTS": "1-65535",
        "SLUICE_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
    }


def of_processes(site: Site, overrides: Mapping[str, str], role: Role = SET_UP) -> dict[str, str]:
    """What the processes of a kind get."""
    own = {name: value for name, value in private(site, role).items() if not is_given(overrides, name)}
    if is_external(overrides, site.databases["archive"], site.databases):
        # It lies on a private server that is not started then.
        own.pop("DATA_DATABASES", None)
    if is_given(overrides, "CELERY_BROKER_URL"):
        own.pop("RABBITMQ_MANAGEMENT_URL", None)
    return own | {name: value for name, value in overrides.items() if name not in STACK_ONLY}


def value(variables: Mapping[str, str], name: str) -> str | None:
    """A variable's value, also when it lies in the file that `NAME_FILE` names."""
    if name in variables:
        return variables[name]
    path = variables.get(name + _FILE)
    return Path(path).read_text(encoding="utf-8").strip() if path else None


def without_password(url: str) -> str:
    """For people to read. The nodes of a broker are several URLs in one."""
    return "; ".join(map(_without_password, url.split(";")))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        return url
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"


def exports(variables: Mapping[str, str]) -> str:
    """Lines for a shell to evaluate."""
    return "\n".join(f"export {name}={shlex.quote(text)}" for name, text in variables.items())
