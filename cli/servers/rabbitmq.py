"""The private RabbitMQ with its management page, and the epmd that it needs.

The server's own script under /usr/lib is called, not the wrapper in /usr/sbin, which refuses most users and leaves the
server running when it is ended. A NOTIFY_SOCKET that does not exist lets that script `exec` the server, so that the pid
is the server's. epmd is a program of its own: RabbitMQ would start a daemon that outlives it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex

from cli import roles
from cli.credentials import Credentials
from cli.layout import write_private
from cli.ports import Wanted
from cli.program import Program
from cli.roles import USER, WATCH
from cli.site import Site

NAME = "rabbitmq"
EPMD = "epmd"
VHOST = "sluice"
SCRIPTS = "/usr/lib/rabbitmq/bin"

#: Lies in the data folder of a server that has been ready.
_BOOTED = "booted"

#: Ports in a row that rabbitmqctl may use for its end of a conversation.
CONTROL_PORTS = 10


def wanted_ports(management: int | None) -> tuple[Wanted, ...]:
    return (
        Wanted(NAME),
        Wanted("rabbitmq-ui", usual=15672, fixed=management),
        Wanted("rabbitmq-distribution"),
        Wanted("rabbitmq-control", span=CONTROL_PORTS),
        Wanted(EPMD),
    )


#: Names of ours, as `celery_config` gives them; a test compares the two.
_TICKETS = r"(data|email|file)\.(high|normal|low)"
_DEAD = r"(data|email|file)\.dead"
_OURS = rf"{_TICKETS}|{_DEAD}|sluice\.(tickets|dead|doorbell)"
#: Where tickets and rings are published.
_SEND = r"sluice\.(tickets|doorbell)"

#: What each user may configure, write to and read from, in RabbitMQ's sense: to bind a queue is to write to it and to
#: read from its exchange. Workers make the queues, again after a broker has lost them, and the monitor those that it
#: could not bring back. The API only sends, for which the exchanges will do, and nobody but the set-up publishes
#: past them. Celery's own names are those of its remote control and of its events; Flower may ask by the first, and the
#: workers answer.
PERMISSIONS = {
    USER: (".*", ".*", ".*"),
    roles.API.broker: ("", _SEND, ""),
    roles.MONITOR.broker: (
        _OURS,
        rf"{_SEND}|{_TICKETS}|{_DEAD}|sluice\.dead",
        rf"{_TICKETS}|{_DEAD}|sluice\.(tickets|dead)",
    ),
    roles.WORKER.broker: (
        rf"{_OURS}|amq\.gen-.*|.+@.+\.celery\.pidbox|(reply\.)?celery\.pidbox|celeryev",
        rf"{_TICKETS}|{_DEAD}|sluice\.dead|amq\.gen-.*|.+@.+\.celery\.pidbox|reply\.celery\.pidbox|celeryev",
        rf"{_TICKETS}|sluice\.(tickets|dead|doorbell)|amq\.gen-.*|.+@.+\.celery\.pidbox|celery\.pidbox",
    ),
    roles.FLOWER.broker: (
        r"celeryev(\..+)?|(.+\.)?reply\.celery\.pidbox|celery\.pidbox",
        r"celeryev\..+|.+\.reply\.celery\.pidbox|celery\.pidbox",
        r"celeryev(\..+)?|(.+\.)?reply\.celery\.pidbox",
    ),
    WATCH: ("", "", ""),
}


def url(site: Site, user: str = USER) -> str:
    return f"amqp://{user}:{site.credentials.of(NAME, user)}@127.0.0.1:{site.ports[NAME]}/{VHOST}"


def management_url(site: Site) -> str:
    """For looking only."""
    return f"http://{WATCH}:{site.credentials.of(NAME, WATCH)}@127.0.0.1:{site.ports['rabbitmq-ui']}"


def programs(site: Site) -> tuple[Program, Program]:
    port = str(site.ports[EPMD])
    epmd = Program(
        name=EPMD,
        command=("epmd", "-port", port, "-address", "127.0.0.1"),
        ports=(EPMD,),
        stop_seconds=5,
    )
    server = Program(
        name=NAME,
        command=(f"{SCRIPTS}/rabbitmq-server",),
        environment=environment(site),
        ports=(NAME, "rabbitmq-ui", "rabbitmq-distribution", "rabbitmq-control"),
        first=f"{forget_unfinished(site)}; until epmd -names > /dev/null 2>&1; do sleep 0.1; done",
        # An orderly stop takes 6 s with the management page, and gains nothing: the queues are quorum queues, whose
        # every confirmed message is on disk, and the stack stops what publishes and consumes before.
        stop_signal="KILL",
        # It reads them only at its start.
        version=hashlib.sha256(_options(site).encode()).hexdigest()[:12],
    )
    return epmd, server


def forget_unfinished(site: Site) -> str:
    """A line of shell. Killed in its very first boot, RabbitMQ leaves data from which it starts again and in which it
    can make no quorum queue. Nothing was ever sent to such a one."""
    data = shlex.quote(str(site.layout.server(NAME) / "data"))
    return f"[ -e {data}/{_BOOTED} ] || rm -rf {data}/*"


def keep_data(site: Site) -> None:
    """It has been ready: from now on its data stay."""
    (site.layout.server(NAME) / "data" / _BOOTED).touch()


def environment(site: Site) -> dict[str, str]:
    """For the server, and for rabbitmqctl."""
    folder, ports = site.layout.server(NAME), site.ports
    control = ports["rabbitmq-control"]
    return {
        "HOME": str(folder / "home"),  # the Erlang cookie lies there
        "RABBITMQ_NODENAME": "sluice@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(ports["rabbitmq-distribution"]),
        "RABBITMQ_CTL_DIST_PORT_MIN": str(control),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(control + CONTROL_PORTS - 1),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(ports[EPMD]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP": str(folder / "log" / "erl_crash.dump"),
        "NOTIFY_SOCKET": str(folder / "none"),
    }


def prepare(site: Site) -> None:
    folder = site.layout.server(NAME)
    for each in (folder / "home", folder / "data", folder / "log"):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "rabbitmq.conf", _options(site))
    write_private(folder / "enabled_plugins", "[rabbitmq_management].\n")
    write_private(folder / "definitions.json", json.dumps(definitions(site.credentials), indent=2))


def _options(site: Site) -> str:
    definitions = site.layout.server(NAME) / "definitions.json"
    return f"""\
# Written anew by every `sluice up`.
listeners.tcp.1 = 127.0.0.1:{site.ports[NAME]}
management.tcp.ip = 127.0.0.1
management.tcp.port = {site.ports["rabbitmq-ui"]}
# With definitions to load there is no guest user.
load_definitions = {definitions}
log.console = true
log.file = false
# The default of 30 minutes would take a long task away from the worker that is at it.
consumer_timeout = 86400000
raft.wal_max_size_bytes = 16777216
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 200MB
"""


def definitions(credentials: Credentials) -> dict[str, object]:
    """Its users and their permissions, in the form in which it loads them."""
    return {
        "users": [
            {
                "name": user,
                "password_hash": password_hash(credentials.of(NAME, user)),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                # Without a tag nobody is let in to the page.
                "tags": ["monitoring"] if user == WATCH else [],
            }
            for user in PERMISSIONS
        ],
        "vhosts": [{"name": VHOST}],
        "permissions": [
            {"user": user, "vhost": VHOST, "configure": _whole(configure), "write": _whole(write), "read": _whole(read)}
            for user, (configure, write, read) in PERMISSIONS.items()
        ],
    }


def _whole(pattern: str) -> str:
    """RabbitMQ is content when a part of a name fits."""
    return f"^({pattern})$"


def password_hash(password: str) -> str:
    """RabbitMQ's own form. The salt follows from the password, which is random, so that the file stays the same."""
    salt = hashlib.sha256(b"salt of " + password.encode()).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
