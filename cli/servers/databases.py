"""The private database servers of a stack, of whichever kind: their ports, programs and files, and the URLs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy

from cli import placement
from cli.placement import MARIADB, MYSQL
from cli.ports import Wanted
from cli.program import Program
from cli.roles import USER
from cli.servers import mariadb, mysql
from cli.site import Site

_PROGRAMS = {MARIADB: mariadb.program, MYSQL: mysql.program}
_PREPARATIONS = {MARIADB: mariadb.prepare, MYSQL: mysql.prepare}


def wanted_ports(databases: Mapping[str, str]) -> list[Wanted]:
    return [Wanted(server) for server in placement.servers(databases)]


def programs(site: Site) -> list[Program]:
    return [
        _PROGRAMS[placement.kind_of(server)](site, server) for server in placement.servers(site.databases)
    ]


def prepare(site: Site, server: str) -> None:
    """Write the configuration, and make the data folder when there is none."""
    folder = site.layout.server(server)
    folder.mkdir(mode=0o700, exist_ok=True)
    _PREPARATIONS[placement.kind_of(server)](site, server)


def url(site: Site, database: str, user: str = USER) -> str:
    server = site.databases[database]
    password = site.credentials.of(placement.kind_of(server), user)
    return f"mysql+pymysql://{user}:{password}@127.0.0.1:{site.ports[server]}/{placement.SCHEMAS[database]}"


def urls(site: Site, server: str) -> list[str]:
    """Of what a server keeps."""
    return [url(site, database) for database, where in site.databases.items() if where == server]


def execute(site: Site, database: str, statements: Iterable[str]) -> None:
    """As the set-up."""
    engine = sqlalchemy.create_engine(url(site, database), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
