"""Who is measured: Sluice and its peers, each behind the same few verbs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import requests
from kombu import Connection
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import and_, create_engine, func, select, text

import celery_config
from cli.layout import CHECKOUT, VENV
from ledger.models import tasks
from tests.bench.ground import Ground
from tests.conftest import eventually
from tests.system.books import Books

#: Processes that serve the door, and threads in each, of everybody.
DOOR_PROCESSES, DOOR_THREADS = 2, 32
#: Tasks that everybody's workers do side by side.
WORKERS = 2
DOOR_PORT = 15_990
PEERS = "tests.bench.peers"


class Contender(Protocol):
    name: str
    #: What it is that a 202 says: whether the task is on disk.
    promise: str

    def door(self) -> Any:
        """The door is open in here."""

    def workers(self) -> Any:
        """Workers are there in here."""

    #: Where to post, what, and with which key.
    url: str
    body: str
    key: str

    def pids(self) -> dict[str, list[int]]:
        """The processes that are there now: door, workers."""

    def submit(self, session: requests.Session) -> str:
        """One task through the door; its id."""

    def began(self, session: requests.Session, task_id: str) -> float | None:
        """When the task was begun, once it has ended."""

    def fill(self, number: int) -> None:
        """Queue tasks, with nobody there to do them."""

    def finished(self) -> int:
        """How many have ended."""

    def forget(self) -> None:
        """Everything."""


class Sluice:
    name = "Sluice"
    promise = "on disk"

    def __init__(self, ground: Ground, **task: Any) -> None:
        """`task` is what a submission has, as far as it is not the usual one."""
        self.body = json.dumps({"task_type": "look_at_the_clock", "parameters": {}, "priority": "normal"} | task)
        self._stack = ground.stack
        variables = self._stack.environment()
        self.key = variables["SLUICE_API_KEY"]
        self._service = variables["SLUICE_URL"]
        self.url = f"{self._service}/api/tasks"
        self._headers = {"X-API-Key": self.key}
        #: What was found wrong after a case.
        self.faults: list[str] = []
        self._ledger = create_engine(variables["LEDGER_DATABASE_URL"], isolation_level="AUTOCOMMIT")

    @contextmanager
    def door(self) -> Iterator[None]:
        with self._present("api"):
            yield

    @contextmanager
    def workers(self) -> Iterator[None]:
        with self._present("data", "monitor"):
            yield

    @contextmanager
    def monitor(self) -> Iterator[None]:
        """The monitor is there in here, and no worker."""
        with self._present("monitor"):
            yield

    @contextmanager
    def _present(self, *names: str) -> Iterator[None]:
        self._stack.up(parts=names)
        try:
            yield
        finally:
            for name in names:
                self._stack.stop(name)

    def pids(self) -> dict[str, list[int]]:
        running = {part.name: part.pid for part in self._stack.status() if part.pid}
        return {
            "door": [running[name] for name in ("api",) if name in running],
            "workers": [running[name] for name in ("data", "monitor") if name in running],
        }

    def submit(self, session: requests.Session) -> str:
        answer = session.post(self.url, data=self.body, headers=self._headers | _JSON)
        return str(answer.json()["task_id"])

    def submit_many(self, bodies: Sequence[Mapping[str, Any]]) -> list[str]:
        """Up to a thousand in one post."""
        answer = requests.post(f"{self.url}/batch", json={"tasks": bodies}, headers=self._headers, timeout=30)
        answer.raise_for_status()
        return list(answer.json()["task_ids"])

    def upload(self, name: str, file: BinaryIO) -> None:
        answer = requests.post(
            f"{self._service}/api/files", files={"file": (name, file)}, headers=self._headers, timeout=120
        )
        answer.raise_for_status()

    def ask(self, path: str) -> float:
        """Milliseconds until the answer to a GET is there."""
        answer = requests.get(f"{self._service}{path}", headers=self._headers, timeout=60)
        answer.raise_for_status()
        return answer.elapsed.total_seconds() * 1e3

    def round_seconds(self) -> float:
        """What the rounds of the monitor have taken since it was started."""
        url = next(part.url for part in self._stack.status() if part.name == "monitor")
        families = text_string_to_metric_families(requests.get(url, timeout=10).text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "sluice_monitor_round_seconds_sum"
        )

    def task(self, session: requests.Session, task_id: str) -> dict[str, Any]:
        return dict(session.get(f"{self.url}/{task_id}", headers=self._headers).json())

    def stop(self, session: requests.Session, task_id: str) -> dict[str, Any]:
        return dict(session.post(f"{self.url}/{task_id}/stop", headers=self._headers).json())

    def began(self, session: requests.Session, task_id: str) -> float | None:
        task = self.task(session, task_id)
        return float(task["result"]) if task["state"] == "succeeded" else None

    def fill(self, number: int) -> None:
        with self._present("api", "monitor"):
            for begun in range(0, number, 1_000):
                self.submit_many([json.loads(self.body)] * min(1_000, number - begun))
            eventually(lambda: self._count(tasks.c.dispatched_at.is_(None)) == 0, within=120, what="tickets are out")

    def _let_the_monitor_send(self) -> None:
        """What a door leaves to the monitor, when it is stopped or cannot keep up, while there was none."""
        without_ticket = and_(tasks.c.state == "queued", tasks.c.dispatched_at.is_(None))
        if self._count(without_ticket):
            with self.monitor():
                eventually(lambda: self._count(without_ticket) == 0, within=120, what="tickets are out")

    def finished(self) -> int:
        return self._count(tasks.c.state == "succeeded")

    def remember(self, number: int) -> None:
        """Write that many tasks into the ledger that ended some time ago, each with its events."""
        with self._ledger.connect() as connection:
            for statement in _OLD_TASKS:
                connection.execute(text(statement.format(number=number)))

    def waiting(self) -> int:
        return self._count(tasks.c.state == "queued")

    def _count(self, condition: Any) -> int:
        with self._ledger.connect() as connection:
            return int(connection.execute(select(func.count()).where(condition)).scalar_one())

    def forget(self) -> None:
        self._let_the_monitor_send()
        self.verify()
        with Connection(self._stack.environment()["CELERY_BROKER_URL"]) as connection:
            for queue in celery_config.all_queues():
                queue(connection.default_channel).purge()
        Books(self._stack.environment()).empty()

    def verify(self) -> None:
        """Remember what `verify` finds wrong in the ledger."""
        done = self._stack.ledger_command("verify")
        if done.returncode:
            self.faults.append((done.stdout + done.stderr).strip())


@dataclass
class Peer:
    """A module of `tests.bench.peers`, with the commands that its documentation gives for production."""

    name: str
    promise: str
    module: str
    ground: Ground
    workers_command: Sequence[str]
    #: How often it is started: some run one process however many tasks they do at once.
    times: int = 1
    door_command: Sequence[str] = ()
    #: Beside the addresses of the servers.
    options: Mapping[str, str] = field(default_factory=dict)
    url: str = f"http://127.0.0.1:{DOOR_PORT}/tasks"
    body: str = "{}"
    key: str = ""
    _running: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    _counts: subprocess.Popen[str] | None = None

    @contextmanager
    def door(self) -> Iterator[None]:
        with self._present("door", [self.door_command or gunicorn(f"{PEERS}.{self.module}:door")]):
            eventually(self._answers, within=30, what=f"{self.name} answers")
            yield

    @contextmanager
    def workers(self) -> Iterator[None]:
        with self._present("workers", [self.workers_command] * self.times), self._counter() as self._counts:
            yield

    @contextmanager
    def _counter(self) -> Iterator[subprocess.Popen[str]]:
        """A process that says for each line how many tasks have ended: to start one each time would cost more than the
        tasks."""
        words = f"import sys, {PEERS}.{self.module} as peer\nfor line in sys.stdin: print(peer.finished(), flush=True)"
        with subprocess.Popen(
            [sys.executable, "-c", words],
            cwd=CHECKOUT,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield process

    @contextmanager
    def _present(self, what: str, commands: Sequence[Sequence[str]]) -> Iterator[None]:
        with (self.ground.stack.layout.run / f"{self.module}-{what}.log").open("ab") as log:
            self._running[what] = [
                subprocess.Popen(command, cwd=CHECKOUT, env=self._environment(), stdout=log, stderr=log)
                for command in commands
            ]
        try:
            yield
        finally:
            for process in self._running.pop(what):
                _end(process)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.ground.for_peers(), **self.options, "PYTHONPATH": str(CHECKOUT)}

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/1", timeout=5).status_code < 500
        except requests.RequestException:
            return False

    def pids(self) -> dict[str, list[int]]:
        return {what: [each.pid for each in self._running.get(what, [])] for what in ("door", "workers")}

    def submit(self, session: requests.Session) -> str:
        return str(session.post(self.url, data=self.body).json()["id"])

    def began(self, session: requests.Session, task_id: str) -> float | None:
        result = session.get(f"{self.url}/{task_id}").json()["result"]
        return None if result is None else float(result)

    def fill(self, number: int) -> None:
        self._do(f"peer.fill({number})")

    def finished(self) -> int:
        assert self._counts is not None
        assert self._counts.stdin is not None
        assert self._counts.stdout is not None
        print(file=self._counts.stdin, flush=True)
        return int(self._counts.stdout.readline())

    def forget(self) -> None:
        self.ground.forget_peers()
        self._do("peer.prepare()")

    def _do(self, words: str) -> None:
        """In a process of its own: each of these libraries takes what imports it for its own."""
        subprocess.run(
            [sys.executable, "-c", f"import {PEERS}.{self.module} as peer\n{words}"],
            cwd=CHECKOUT,
            env=self._environment(),
            check=True,
        )


def peers(ground: Ground) -> list[Peer]:
    """Each as its documentation builds it for production."""
    on_redis = {"PEER_BROKER_URL": ground.for_peers()["PEER_REDIS_URL"]}
    celery = (
        *(venv("celery"), "-A", f"{PEERS}.flask_celery:celery", "worker"),
        *("--concurrency", str(WORKERS), "--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
    )
    dramatiq = (venv("dramatiq"), f"{PEERS}.flask_dramatiq", "--processes", str(WORKERS), "--threads", "8")
    rq = (venv("rq"), "worker-pool", "--num-workers", str(WORKERS), "--logging-level", "WARNING")
    procrastinate = (
        *(venv("procrastinate"), "--app", f"{PEERS}.flask_procrastinate.app", "worker"),
        *("--concurrency", "10"),
    )
    return [
        Peer("Celery", "in memory", "flask_celery", ground, celery),
        Peer("Celery, durable", "in memory", "flask_celery", ground, celery, options={"PEER_DURABLE": "1"}),
        Peer("Celery on Redis", "in memory", "flask_celery", ground, celery, options=on_redis),
        Peer("Dramatiq", "in memory", "flask_dramatiq", ground, dramatiq),
        Peer(
            *("RQ", "in memory", "fastapi_rq", ground, rq),
            door_command=uvicorn(f"{PEERS}.fastapi_rq:door"),
            options={"RQ_REDIS_URL": ground.for_peers()["PEER_REDIS_URL"]},
        ),
        Peer("Procrastinate", "on disk", "flask_procrastinate", ground, procrastinate, times=WORKERS),
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def gunicorn(door: str) -> tuple[str, ...]:
    return (
        *(venv("gunicorn"), "--bind", f"127.0.0.1:{DOOR_PORT}", "--worker-class", "gthread"),
        *("--workers", str(DOOR_PROCESSES), "--threads", str(DOOR_THREADS), "--no-control-socket", door),
    )


def uvicorn(door: str) -> tuple[str, ...]:
    return (
        *(venv("uvicorn"), "--port", str(DOOR_PORT), "--workers", str(DOOR_PROCESSES), "--no-access-log"),
        *("--log-level", "warning", door),
    )


def venv(command: str) -> str:
    return str(VENV / "bin" / command)


#: MariaDB's own numbers. A tenth of them failed, as in a ledger with a past.
_OLD_TASKS = (
    """
    INSERT INTO tasks (id, owner, task_type, priority, queue, state, parameters, attempt, max_retries, timeout_seconds,
        dispatches, worker, result, created_at, updated_at, started_at, finished_at, dispatched_at)
    SELECT CONCAT('01900000-0000-7000-8000-', LPAD(seq, 12, '0')), 'local', 'look_at_the_clock', 'normal',
        'data.normal', IF(seq % 10, 'succeeded', 'failed'), '{{}}', 1, 3, 600, 1, 'data@somewhere', '1.5',
        UTC_TIMESTAMP(6) - INTERVAL seq SECOND, UTC_TIMESTAMP(6) - INTERVAL seq SECOND,
        UTC_TIMESTAMP(6) - INTERVAL seq SECOND, UTC_TIMESTAMP(6) - INTERVAL seq SECOND,
        UTC_TIMESTAMP(6) - INTERVAL seq SECOND
    FROM seq_1_to_{number}
    """,
    *(
        f"""
        INSERT INTO task_events (task_id, at, event, state, attempt)
        SELECT id, created_at, '{event}', '{state}', {attempt} FROM tasks WHERE state IN ({ended})
        """
        for event, state, attempt, ended in (
            ("accepted", "queued", 0, "'succeeded', 'failed'"),
            ("claimed", "running", 1, "'succeeded', 'failed'"),
            ("finished", "succeeded", 1, "'succeeded'"),
            ("given_up", "failed", 1, "'failed'"),
        )
    ),
    # The monitor has added them up long ago.
    """
    INSERT INTO counters (name, value) SELECT 'events_added_up', MAX(seq) FROM task_events
    ON DUPLICATE KEY UPDATE value = (SELECT MAX(seq) FROM task_events)
    """,
)

_JSON = {"Content-Type": "application/json"}
