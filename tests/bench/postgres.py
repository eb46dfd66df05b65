"""A PostgreSQL of our own for whoever keeps its queue there, with Debian's settings but for where it listens."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg

from tests.conftest import eventually

#: Debian's own user for it: PostgreSQL refuses to run as root.
USER = "postgres"


class Postgres:
    """On a socket in a folder of its own, which is gone at the end."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        self.programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._url("peer")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def up(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)
        data = self.folder / "data"
        options = ["--auth=trust", f"--username={USER}", "--no-sync", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            [*self._as_somebody(), self.programs / "initdb", *options, data], check=True, stdout=subprocess.DEVNULL
        )
        listens = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}"]
        self.process = subprocess.Popen(
            [*self._as_somebody(), self.programs / "postgres", "-D", data, *listens],
            env={**os.environ, **self.variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, what="PostgreSQL answers")

    def down(self) -> None:
        if self.process is not None:
            # It waits for its clients when it is asked otherwise.
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
        shutil.rmtree(self.folder)

    def empty(self) -> None:
        """A database with nothing in it."""
        with psycopg.connect(self._url(USER), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS peer WITH (FORCE)")
            connection.execute("CREATE DATABASE peer")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url(USER)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self.folder), safe='')}"

    def _as_somebody(self) -> list[str]:
        if os.geteuid():
            return []
        account = pwd.getpwnam(USER)
        return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
