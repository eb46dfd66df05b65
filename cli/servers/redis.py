"""The private Redis: its configuration with the password in a file, and its program."""

from __future__ import annotations

from cli.layout import write_private
from cli.ports import Wanted
from cli.program import Program
from cli.site import Site

NAME = "redis"
PORTS = (Wanted(NAME),)


def url(site: Site) -> str:
    return f"redis://:{site.credentials.redis}@127.0.0.1:{site.ports[NAME]}/0"


def program(site: Site) -> Program:
    return Program(
        name=NAME,
        command=("redis-server", str(site.layout.server(NAME) / "redis.conf")),
        ports=(NAME,),
    )


def prepare(site: Site) -> None:
    folder = site.layout.server(NAME)
    (folder / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(
        folder / "redis.conf",
        f"""\
# Written anew by every `sluice up`.
bind 127.0.0.1
port {site.ports[NAME]}
requirepass {site.credentials.redis}
dir "{folder / "data"}"
daemonize no
# A changed title overwrites the environment, by which the stack recognises its processes.
set-proc-title no
save ""
appendonly yes
maxmemory-policy noeviction
""",
    )
