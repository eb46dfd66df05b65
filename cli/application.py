"""The processes of the service itself: API, workers, monitor, webhooks and Flower."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from cli import roles
from cli.layout import CHECKOUT, VENV
from cli.ports import Wanted
from cli.program import Program
from cli.roles import USER, Role
from cli.servers import rabbitmq
from cli.site import Site

API = "api"
WORKERS = ("data", "email", "file")
MONITOR = "monitor"
WEBHOOKS = "webhooks"
FLOWER = "flower"

#: What Flower remembers: its memory grows with it.
FLOWERS_TASKS = 10_000
FLOWERS_WORKERS = 100

#: Seconds that a worker has beyond its own bound before it is killed.
_MERCY_SECONDS = 5
_DEFAULT_SHUTDOWN_GRACE_SECONDS = 10.0


def wanted_ports(api: int | None, flower: int | None, replicas: Mapping[str, int]) -> tuple[Wanted, ...]:
    pages = (Wanted(API, usual=5000, fixed=api), Wanted(FLOWER, usual=5555, fixed=flower))
    return (*pages, *(Wanted(figures_port(name)) for name in with_figures(replicas)))


def with_figures(replicas: Mapping[str, int]) -> tuple[str, ...]:
    """The processes that tell Prometheus of themselves on a port of their own."""
    return (*worker_names(replicas), *_names(MONITOR, replicas), WEBHOOKS)


def figures_port(name: str) -> str:
    return f"{name}-figures"


def api_url(site: Site) -> str:
    return f"http://127.0.0.1:{site.ports[API]}"


def flower_url(site: Site) -> str:
    return f"http://{USER}:{site.credentials.flower}@127.0.0.1:{site.ports[FLOWER]}"


def figures_url(site: Site, name: str) -> str:
    """Where Prometheus finds a process's own figures; empty when it tells none."""
    port = site.ports.get(figures_port(name))
    return f"http://127.0.0.1:{port}/metrics" if port else ""


def programs(
    site: Site,
    variables: Callable[[Role], Mapping[str, str]],
    *,
    replicas: Mapping[str, int],
    has_own_broker: bool,
) -> list[Program]:
    """`variables` are what the processes of a kind get in their environment."""
    version, figures = code_version(), with_figures(replicas)
    seconds = math.ceil(_shutdown_grace_seconds(variables(roles.WORKER))) + _MERCY_SECONDS

    def python(
        name: str, role: Role, *command: str, stop_seconds: int = seconds, ports: tuple[str, ...] = ()
    ) -> Program:
        environment = dict(variables(role))
        if name in figures:
            ports = (*ports, figures_port(name))
            environment |= {"SLUICE_METRICS_PORT": str(site.ports[figures_port(name)])}
        return Program(name, command, environment, ports=ports, stop_seconds=stop_seconds, version=version)

    api = python(
        API,
        roles.API,
        *(*_GUNICORN, "--bind", f"127.0.0.1:{site.ports[API]}", _DOOR),
        stop_seconds=35,
        ports=(API,),
    )
    workers = [
        python(name, roles.WORKER, _venv("celery"), "-A", f"workers.{kind}", "worker", "-n", f"{name}@%h")
        for name, kind in worker_names(replicas).items()
    ]
    monitors = [
        python(name, roles.MONITOR, _venv("python"), "-m", "workers.monitor") for name in _names(MONITOR, replicas)
    ]
    # It lets go of a receiver after ten seconds.
    webhooks = python(WEBHOOKS, roles.WEBHOOKS, _venv("python"), "-m", "workers.webhooks", stop_seconds=15)
    return [api, *workers, *monitors, webhooks, _flower(site, variables(roles.FLOWER), version, has_own_broker)]


def worker_names(replicas: Mapping[str, int]) -> dict[str, str]:
    """The workers by name, each with its kind: `data`, `data-2`, `email`, `file`."""
    return {name: kind for kind in WORKERS for name in _names(kind, replicas)}


def _names(kind: str, replicas: Mapping[str, int]) -> list[str]:
    return [kind if number == 1 else f"{kind}-{number}" for number in range(1, replicas.get(kind, 1) + 1)]


def is_worker(name: str) -> bool:
    return name.partition("-")[0] in WORKERS


def _shutdown_grace_seconds(environment: Mapping[str, str]) -> float:
    text = environment.get("SLUICE_SHUTDOWN_GRACE_SECONDS", "")
    try:
        return float(text)
    except ValueError:
        # The service itself says what is wrong with it, when it starts.
        return _DEFAULT_SHUTDOWN_GRACE_SECONDS


def _flower(site: Site, environment: Mapping[str, str], version: str, has_own_broker: bool) -> Program:
    """Its options come by its environment: in its arguments everybody could read the password.

    Read-only, because by its buttons and its API whoever has the password could end workers and send tasks past the
    ledger. Its /metrics and /healthcheck ask nobody for a password, whatever is set. It remembers so many tasks, also
    when it is started anew; who wants to know of more asks the API.
    """
    folder = site.layout.server(FLOWER)
    options = {
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(folder / "seen"),
        "FLOWER_STATE_SAVE_INTERVAL": str(60_000),
        "FLOWER_MAX_TASKS": str(FLOWERS_TASKS),
        "FLOWER_MAX_WORKERS": str(FLOWERS_WORKERS),
        "FLOWER_READ_ONLY": "true",
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(site.ports[FLOWER]),
        "FLOWER_BASIC_AUTH": f"{USER}:{site.credentials.flower}",
    }
    if has_own_broker:
        options["FLOWER_BROKER_API"] = f"{rabbitmq.management_url(site)}/api/"
    return Program(
        FLOWER,
        (_venv("celery"), "-A", "tasks", "flower"),
        {**environment, **options},
        ports=(FLOWER,),
        first=f"mkdir -p {shlex.quote(str(folder))}",
        # Without its broker it does not end by itself.
        stop_seconds=5,
        version=version,
    )


def migration(environment: Mapping[str, str]) -> Program:
    return Program("migrate", ledger_command("migrate"), environment)


def check(environment: Mapping[str, str]) -> Program:
    """Ends well when the API can be loaded."""
    return Program("check", (*_GUNICORN, "--check-config", _DOOR), environment)


def ledger_command(*arguments: str) -> tuple[str, ...]:
    return (_venv("python"), "-m", "ledger", *arguments)


def _venv(command: str) -> str:
    return str(VENV / "bin" / command)


_GUNICORN = (_venv("gunicorn"), "--config", "file:api/gunicorn_config.py")
_DOOR = "api:create_app()"


def code_version() -> str:
    """Changes with the code, so that `up` starts the processes anew after an edit or a `git pull`."""
    files = [CHECKOUT / "settings.py", CHECKOUT / "celery_config.py", CHECKOUT / "requirements.txt"]
    for room in ("api", "ledger", "tasks", "workers"):
        files += sorted((CHECKOUT / room).rglob("*"))
    digest = hashlib.sha256()
    for path in files:
        if _is_code(path):
            stat = path.stat()
            digest.update(f"{path.relative_to(CHECKOUT)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _is_code(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts
