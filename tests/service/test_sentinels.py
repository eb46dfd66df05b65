"""Results and quotas find Redis's primary by its sentinels, and the new one after it died."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import redis

from api import quotas
from ledger.callers import Scope
from tasks import results
from tests.conftest import eventually
from tests.doors import door_for, key

NAME = "results"
USER, PASSWORD = "sluice_tests", "a-word"


class Watched:
    """Two servers, the second a copy of the first, and a sentinel that decides alone."""

    def __init__(self, folder: Path, run: ExitStack) -> None:
        self._folder, self._run = folder, run
        with ExitStack() as probes:
            probed = [probes.enter_context(create_server(("127.0.0.1", 0))) for _ in range(3)]
            self.first, self.second, self.sentinel = (probe.getsockname()[1] for probe in probed)
        login = [f"user {USER} on >{PASSWORD} ~* &* +@all", f"masteruser {USER}", f"masterauth {PASSWORD}"]
        self.processes = {
            self.first: self._start(self.first, *login),
            self.second: self._start(self.second, *login, f"replicaof 127.0.0.1 {self.first}"),
        }
        self._start(
            self.sentinel,
            f"sentinel monitor {NAME} 127.0.0.1 {self.first} 1",
            f"sentinel auth-user {NAME} {USER}",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} 300",
            f"sentinel failover-timeout {NAME} 2000",
            options=("--sentinel",),
        )

    @property
    def url(self) -> str:
        # Nobody is at the first address: the next sentinel is asked.
        return f"redis+sentinel://{USER}:{PASSWORD}@127.0.0.1:1,127.0.0.1:{self.sentinel}/{NAME}/0"

    def says(self, port: int) -> bool:
        """Whether the sentinel calls that server the primary, and knows of a copy that could follow it."""
        try:
            states: Any = redis.Redis(port=self.sentinel, decode_responses=True).sentinel_masters()
        except redis.ConnectionError:
            return False
        return bool(states[NAME]["port"] == port and (port != self.first or states[NAME]["num-slaves"] == 1))

    def _start(self, port: int, *lines: str, options: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        folder = self._folder / str(port)
        folder.mkdir()
        text = [f"port {port}", "bind 127.0.0.1", f"dir {folder}", f"logfile {folder}/log", *lines]
        of_server = [] if options else ['save ""', "repl-diskless-sync-delay 0"]
        (folder / "redis.conf").write_text("\n".join([*text, *of_server, ""]))
        process = subprocess.Popen(["redis-server", str(folder / "redis.conf"), *options])
        self._run.callback(process.wait)
        self._run.callback(process.kill)
        return process


@pytest.fixture
def watched(tmp_path: Path, configured: Callable[..., None]) -> Iterator[Watched]:
    with ExitStack() as run:
        found = Watched(tmp_path, run)
        eventually(lambda: found.says(found.first), within=30, what="a sentinel that knows both servers")
        configured(CELERY_RESULT_BACKEND=found.url)
        forget()
        yield found
    forget()


def forget() -> None:
    results._forget()
    results._rests_until = 0.0
    quotas.forget()


def counted(port: int) -> int:
    """The requests that a server has counted."""
    client = redis.Redis(port=port, username=USER, password=PASSWORD, decode_responses=True)
    return sum(int(client.get(name) or 0) for name in client.keys("sluice:limits*"))


def test_results_and_quotas_follow_the_primary(watched: Watched) -> None:
    door = door_for(key("ada", Scope.READ, requests_per_minute=1000))

    # A primary that is late for a moment, on a busy machine, is gone for its sentinel.
    def is_there(task_id: str) -> bool:
        results._rests_until = 0.0
        return results.fetch(task_id, 1) == (True, {"rows": 1})

    def is_kept(task_id: str) -> bool:
        results._rests_until = 0.0
        results.keep(task_id, 1, {"rows": 1})
        return is_there(task_id)

    def is_counted(port: int) -> bool:
        quotas.forget()
        before = counted(port)
        assert door.get("/api/tasks").status_code == 200
        return counted(port) == before + 1

    eventually(lambda: is_kept("one"), within=30, what="a result in the primary")
    eventually(lambda: is_counted(watched.first), within=30, what="a request that the primary has counted")
    eventually(lambda: json.dumps({"rows": 1}).encode() == copied(watched, "one"), what="the copy")
    watched.processes[watched.first].kill()
    eventually(lambda: watched.says(watched.second), within=60, what="another primary")

    eventually(lambda: is_kept("two"), within=30, what="a result in the new primary")
    eventually(lambda: is_there("one"), within=30, what="the result from before")
    eventually(lambda: is_counted(watched.second), within=30, what="a request that the new primary has counted")


def copied(watched: Watched, task_id: str) -> object:
    client = redis.Redis(port=watched.second, username=USER, password=PASSWORD)
    return client.get(results.key(task_id, 1))
