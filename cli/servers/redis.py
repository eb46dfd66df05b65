"""The private Redis: its users in its configuration, by the hashes of their passwords, and its program."""

from __future__ import annotations

import hashlib

from cli import roles
from cli.credentials import Credentials
from cli.layout import write_private
from cli.ports import Wanted
from cli.program import Program
from cli.roles import USER
from cli.site import Site

NAME = "redis"
PORTS = (Wanted(NAME),)

#: What each user may do with keys that begin with `sluice:`, besides logging in. The door reads results and counts
#: requests, by scripts; who finishes a task writes its result.
_RIGHTS = {
    roles.API.redis: "+get +ttl +incrby +expire +eval +evalsha +script|load",
    roles.WORKER.redis: "+set",
    roles.MONITOR.redis: "+set",
}


def url(site: Site, user: str = USER) -> str:
    return f"redis://{user}:{site.credentials.of(NAME, user)}@127.0.0.1:{site.ports[NAME]}/0"


def program(site: Site) -> Program:
    return Program(
        name=NAME,
        command=("redis-server", str(site.layout.server(NAME) / "redis.conf")),
        ports=(NAME,),
        # It reads them only at its start.
        version=hashlib.sha256(_options(site).encode()).hexdigest()[:12],
    )


def prepare(site: Site) -> None:
    folder = site.layout.server(NAME)
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "redis.conf", _options(site))


def _options(site: Site) -> str:
    return "\n".join(
        [
            "# Written anew by every `sluice up`.",
            "bind 127.0.0.1",
            f"port {site.ports[NAME]}",
            *users(site.credentials),
            f'dir "{site.layout.server(NAME) / "data"}"',
            "daemonize no",
            "# A changed title overwrites the environment, by which the stack recognises its processes.",
            "set-proc-title no",
            'save ""',
            "appendonly yes",
            "maxmemory-policy noeviction",
            "",
        ]
    )


def users(credentials: Credentials) -> list[str]:
    """The lines that say who may come in, and to do what."""

    def login(user: str) -> str:
        return f"user {user} on #{hashlib.sha256(credentials.of(NAME, user).encode()).hexdigest()}"

    return [
        "user default off",
        f"{login(USER)} allchannels ~* +@all",
        *(
            f"{login(user)} resetchannels ~sluice:* -@all +@connection {rights} -@dangerous"
            for user, rights in _RIGHTS.items()
        ),
    ]
