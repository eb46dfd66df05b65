"""A private MySQL from the packages that `make mysql` brought: its options, its data folder, its users.

The server is newer than the C library of this system. It is started through the loader that was unpacked with it, with
the libraries from there and no change of root, so that its files lie where everybody else's do and its pid is its own.
root has no password, and a login from nowhere but the socket in the data folder, whose owner runs the stack.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cli import mysql_packages, placement, roles
from cli.credentials import Credentials
from cli.layout import MYSQL, write_private
from cli.program import Program
from cli.site import Site
from cli.trouble import Trouble

NAME = placement.MYSQL


class InstallError(Trouble):
    """MySQL cannot be started, or its data folder could not be made."""


def program(site: Site, server: str = NAME) -> Program:
    return Program(
        name=server,
        command=(*_mysqld(), f"--defaults-file={site.layout.server(server) / 'my.cnf'}"),
        ports=(server,),
        stop_seconds=60,
        # It reads both only at its start.
        version=sha256((_options(site, server) + _first_statements(site, server)).encode()).hexdigest()[:12],
    )


def prepare(site: Site, server: str = NAME) -> None:
    """Write the configuration, and make the data folder when there is none."""
    folder = site.layout.server(server)
    write_private(folder / "init.sql", _first_statements(site, server))
    write_private(folder / "my.cnf", _options(site, server))
    if not (folder / "data").exists():
        _install(folder)


def _mysqld() -> tuple[str, ...]:
    """The server, started by its own loader; its processor's name is in the loader's and in the folder's."""
    if not mysql_packages.is_there():
        raise InstallError("MySQL is not here: `make mysql` brings its packages")
    loaders = sorted((MYSQL / "usr" / "lib").glob("*-linux-gnu*/ld-linux*.so.*"))
    if not loaders:
        raise InstallError(f"there is no loader below {MYSQL}: remove the folder, and run `make mysql` again")
    loader = str(loaders[0])
    libraries = str(loaders[0].parent)
    return (loader, "--inhibit-cache", "--library-path", libraries, str(MYSQL / mysql_packages.SERVER))


def _install(folder: Path) -> None:
    """Beside its place first, so that an interrupted installation never looks like a finished one."""
    unfinished = folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    done = subprocess.run(
        [
            *_mysqld(),
            "--no-defaults",
            "--initialize-insecure",
            f"--basedir={MYSQL / 'usr'}",
            f"--datadir={unfinished}",
            f"--user={_user()}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise InstallError(f"mysqld could not make the data folder:\n{said}")
    unfinished.rename(folder / "data")


def _options(site: Site, server: str) -> str:
    folder = site.layout.server(server)
    return f"""\
# Written anew by every `sluice up`.
[mysqld]
user = {_user()}
basedir = {MYSQL / "usr"}
datadir = {folder / "data"}
bind-address = 127.0.0.1
port = {site.ports[server]}
mysqlx = OFF
# In the data folder: a longer path might not fit into the 107 characters of a socket's name.
socket = mysql.sock
pid-file = mysql.pid
init-file = {folder / "init.sql"}
skip-name-resolve
local-infile = 0
secure-file-priv = NULL

character-set-server = utf8mb4
collation-server = utf8mb4_unicode_ci
max-connections = 300

innodb-buffer-pool-size = 256M
innodb-redo-log-capacity = 128M
# A decision that a power cut can take back is no decision.
innodb-flush-log-at-trx-commit = 1
sync-binlog = 1
# Nobody copies from this server: what its binary log is for here is the order of prepares and commits.
max-binlog-size = 64M
binlog-expire-logs-seconds = 3600
"""


def _first_statements(site: Site, server: str) -> str:
    """Run by every start before the first connection."""
    return first_statements(site.credentials, placement.schemas(site.databases, server), host="127.0.0.1")


def first_statements(credentials: Credentials, schemas: Iterable[str], *, host: str) -> str:
    """The databases and the users: one statement per line, each harmless when repeated.

    The pattern lets the set-up make and drop databases of its own kind, as the tests do, and pass on rights in them to
    the service's users, who begin with none.
    """
    users = {user: f"'{user}'@'{host}'" for user in (roles.USER, *roles.OF_DATABASES.values())}
    return "\n".join(
        [
            *(f"CREATE DATABASE IF NOT EXISTS {schema};" for schema in schemas),
            *(
                f"{verb} {account} IDENTIFIED WITH caching_sha2_password BY '{credentials.of(NAME, user)}';"
                for user, account in users.items()
                for verb in ("CREATE USER IF NOT EXISTS", "ALTER USER")
            ),
            f"GRANT ALL PRIVILEGES ON `sluice\\_%`.* TO {users[roles.USER]} WITH GRANT OPTION;",
            # Without it nobody sees the prepared branches that an attempt left.
            f"GRANT XA_RECOVER_ADMIN ON *.* TO {users[roles.USER]}, {users[roles.OF_DATABASES['tasks']]};",
            "",
        ]
    )


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
