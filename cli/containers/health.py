"""Whether the process of a container does its work, asked by Docker's health checks.

    python -m cli.containers.health data        exit code 1 and a sentence when it does not

It runs every few seconds beside a process that has better things to do. So it loads neither settings nor SQLAlchemy: it
takes 0.24 s of a processor, where those two alone take 0.75 and `celery inspect ping` 1.9. It logs in as the user whose
rights are in question.

  - The API and Flower are asked by HTTP. `/readyz` answers for the ledger, and that all can be accepted.
  - A worker has to have been heard of by the ledger lately: it can log in, and its event loop turns.
  - Of monitors one has to lead, and the process here has to be awake: it may be one of those that wait.
  - The webhooks process has to be awake, and its user has to be let in.
"""

from __future__ import annotations

import http.client
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql

#: Seconds for one answer.
PATIENCE = 3
#: Seconds without a word after which a worker counts as gone, and for which nobody may lead: those of `ledger.presence`
#: and of `api.health`. A test compares them.
GONE_SECONDS = 8.0
SUCCESSION_SECONDS = 5.0
#: Seconds in which a main thread that is well wakes up at least once.
AWAKE_SECONDS = 2.5


class Ill(Exception):
    """It does not do its work, and why."""


def page(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(500).decode(errors="replace")
    except OSError as error:
        raise Ill(f"port {port} does not answer ({type(error).__name__})") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise Ill(f"{path} answers {answer.status}: {said}")


def worker(kind: str) -> None:
    name = f"{kind}@{socket.gethostname()}"
    silent = _ask("SELECT TIMESTAMPDIFF(MICROSECOND, seen_at, UTC_TIMESTAMP(6)) FROM workers WHERE name = %s", name)
    if silent is None:
        raise Ill(f"the ledger has never heard of {name}")
    if silent > GONE_SECONDS * 1_000_000:
        raise Ill(f"the ledger has heard nothing of {name} for {silent / 1_000_000:.0f} s")


def monitor() -> None:
    awake()
    left = _ask("SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), lease_until) FROM leadership")
    if left is None or left < -SUCCESSION_SECONDS * 1_000_000:
        raise Ill("no monitor leads")


def webhooks() -> None:
    awake()
    _ask("SELECT 1")


def awake() -> None:
    """The process that the container is there for; one that is frozen or waits for ever does not wake up."""
    before = _wakings()
    until = time.monotonic() + AWAKE_SECONDS
    while _wakings() == before:
        if time.monotonic() > until:
            raise Ill(f"the process has not woken for {AWAKE_SECONDS} s")
        time.sleep(0.1)


def _wakings() -> int:
    status = Path(f"/proc/{_main_process()}/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def _main_process() -> str:
    """The child of Docker's init, or the first process where there is no init."""
    children = Path("/proc/1/task/1/children").read_text(encoding="ascii").split()
    return children[0] if "docker-init" in Path("/proc/1/cmdline").read_text(encoding="utf-8") and children else "1"


def _ask(statement: str, *values: Any) -> Any:
    """The first value of the first row; None when there is none."""
    try:
        connection = pymysql.connect(**_login(), connect_timeout=PATIENCE, read_timeout=PATIENCE)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
    except (OSError, pymysql.MySQLError) as error:
        raise Ill(f"the ledger does not answer: {error}") from error
    return row[0] if row else None


def _login() -> dict[str, Any]:
    url = urlsplit(Path(os.environ["LEDGER_DATABASE_URL_FILE"]).read_text(encoding="utf-8").strip())
    return {
        "host": url.hostname,
        "port": url.port or 3306,
        "user": unquote(url.username or ""),
        "password": unquote(url.password or ""),
        "database": url.path.lstrip("/"),
    }


CHECKS: Mapping[str, Callable[[], None]] = {
    "api": partial(page, 5000, "/readyz"),
    "flower": partial(page, 5555, "/healthcheck"),
    **{kind: partial(worker, kind) for kind in ("data", "email", "file")},
    "monitor": monitor,
    "webhooks": webhooks,
}


def main(name: str) -> int:
    try:
        CHECKS[name]()
    except Ill as ill:
        print(ill)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
