"""A private MariaDB: its options, its data folder, its users, and the databases that `sluice` owns.

Nobody logs in as root over the network: root is whoever runs the stack, through the socket in the data folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from cli import placement, roles
from cli.layout import write_private
from cli.program import Program
from cli.site import Site
from cli.trouble import Trouble

NAME = placement.MARIADB


class InstallError(Trouble):
    """MariaDB's data folder could not be made."""


def program(site: Site, server: str = NAME) -> Program:
    folder = site.layout.server(server)
    return Program(
        name=server,
        command=(_find("mariadbd"), f"--defaults-file={folder / 'my.cnf'}"),
        ports=(server,),
        stop_seconds=60,
        # It reads both only at its start.
        version=sha256((_options(site, server) + _first_statements(site, server)).encode()).hexdigest()[:12],
    )


def prepare(site: Site, server: str = NAME) -> None:
    """Write the configuration, and make the data folder when there is none."""
    folder = site.layout.server(server)
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    write_private(folder / "init.sql", _first_statements(site, server))
    write_private(folder / "my.cnf", _options(site, server))
    if not (folder / "data").exists():
        _install(folder)


def _install(folder: Path) -> None:
    """Beside its place first, so that an interrupted installation never looks like a finished one."""
    unfinished = folder / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    user = pwd.getpwuid(os.getuid()).pw_name
    done = subprocess.run(
        [
            _find("mariadb-install-db"),
            "--no-defaults",
            f"--user={user}",
            f"--datadir=./{unfinished.name}",  # relative, since the script splits a path with spaces
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={user}",
            "--skip-test-db",
            "--innodb-undo-tablespaces=3",
        ],
        cwd=folder,
        # The installing server ends at its first temporary table that another one, starting, cleared out of /tmp.
        env=os.environ | {"TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise InstallError(f"mariadb-install-db could not make the data folder:\n{said}")
    unfinished.rename(folder / "data")


def _options(site: Site, server: str) -> str:
    folder = site.layout.server(server)
    return f"""\
# Written anew by every `sluice up`.
[mariadbd]
user = {pwd.getpwuid(os.getuid()).pw_name}
datadir = {folder / "data"}
# Not the system's: a server that starts clears away there what it takes for its own, and others' queries fail.
tmpdir = {folder / "tmp"}
bind-address = 127.0.0.1
port = {site.ports[server]}
# In the data folder: a longer path might not fit into the 107 characters of a socket's name.
socket = mariadb.sock
pid-file = mariadb.pid
init-file = {folder / "init.sql"}
skip-name-resolve
local-infile = 0

character-set-server = utf8mb4
collation-server = utf8mb4_unicode_ci
max-connections = 300

innodb-buffer-pool-size = 256M
# A decision that a power cut can take back is no decision.
innodb-flush-log-at-trx-commit = 1
# The undo of a big insert that was rolled back is given back to the disk.
innodb-undo-tablespaces = 3
innodb-undo-log-truncate = ON
"""


def _first_statements(site: Site, server: str) -> str:
    """Run by every start before the first connection: one statement per line, each harmless when repeated.

    The pattern lets the set-up make and drop databases of its own kind, as the tests do, and pass on rights in them to
    the service's users, who begin with none.
    """
    users = {user: f"'{user}'@'127.0.0.1'" for user in (roles.USER, *roles.OF_DATABASES.values())}
    return "\n".join(
        [
            *(
                f"CREATE DATABASE IF NOT EXISTS {schema};"
                for schema in placement.schemas(site.databases, server)
            ),
            *(
                f"{verb} {account} IDENTIFIED BY '{site.credentials.of(NAME, user)}';"
                for user, account in users.items()
                for verb in ("CREATE USER IF NOT EXISTS", "ALTER USER")
            ),
            f"GRANT ALL PRIVILEGES ON `sluice\\_%`.* TO {users[roles.USER]} WITH GRANT OPTION;",
            "",
        ]
    )


def _find(command: str) -> str:
    found = shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise InstallError(f"{command} is not installed")
    return found
