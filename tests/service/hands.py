"""Workers under test: start them, feed them with tickets, read what they recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amqp import Message
from amqp.exceptions import NotFound
from kombu import Connection

import celery_config
from cli.roles import WORKER
from cli.stack import Stack
from ledger.tickets import Ticket
from tasks.message import message_of
from tests.conftest import CHECKOUT, eventually
from tests.system.processes import children, is_alive

#: Some type that data workers know; `tests.service.recorder` does not do what it stands for.
TYPE = "data_processing"
GRACE_SECONDS = 2


class Hands:
    """The workers of one test, and what they recorded."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.record = folder / uuid.uuid4().hex
        self.record.touch()
        self.folder = folder
        self.environment = environment
        self.url = environment["CELERY_BROKER_URL"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str = "data", *, concurrency: int = 1, **environment: str
    ) -> subprocess.Popen[bytes]:
        """A worker that has reported ready."""
        log = self.folder / f"{name}-{len(self.workers)}.log"
        with log.open("wb") as file:
            worker = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.service.recorder", "worker"),
                    *("-c", str(concurrency), "-n", f"{name}@%h"),
                ],
                cwd=CHECKOUT,
                env=self._environment() | environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.workers.append(worker)
        eventually(lambda: b"ready." in log.read_bytes(), within=30, what=f"{name} ready")
        eventually(lambda: len(children(worker.pid)) == concurrency, what="its children")
        return worker

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.environment,
            "RECORD": str(self.record),
            "SLUICE_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
        }

    def end(self) -> None:
        """Politely first: what a killed worker holds may come back only after the next test has emptied the queues."""
        for worker in self.workers:
            worker.send_signal(signal.SIGQUIT)
        for worker in self.workers:
            try:
                worker.wait(GRACE_SECONDS + 5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    # What they do

    def hang(self, seconds: float = 60) -> None:
        """Wait until a worker's event loop stands still, which it then does for so long: more than any grace."""
        self.record.with_name(f"{self.record.name}.hang").write_text(str(seconds))
        self.await_("hangs")

    @contextmanager
    def slow_ledger(self) -> Iterator[None]:
        """Whoever tells the ledger of a death in here waits for its answer until the end."""
        slow = self.record.with_name(f"{self.record.name}.slow")
        slow.touch()
        try:
            yield
        finally:
            slow.unlink()

    def recorded(self, what: str = "", task: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.record.read_text().splitlines()]
        return [line for line in lines if what in ("", line["what"]) and task in line["task"]]

    def order(self, what: str = "started") -> list[str]:
        """The names of the tasks of which something was recorded, in order."""
        return [line["task"].split(":")[2] for line in self.recorded(what)]

    def await_(
        self, what: str, task: str = "", *, times: int = 1, within: float = 30
    ) -> list[dict[str, Any]]:
        return eventually(
            lambda: found if len(found := self.recorded(what, task)) >= times else [],
            within=within,
            every=0.01,
            what=f"{times} x {what} {task}",
        )

    def story(self) -> str:
        """All that they recorded and said, for who wonders what went wrong."""
        logs = [path.read_text() for path in sorted(self.folder.glob("*.log"))]
        return "\n".join([self.record.read_text(), *logs])

    # Their queues

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with Connection(self.url) as connection, connection.channel() as channel:
            yield channel

    def send(self, tickets: Sequence[Ticket | tuple[str, Message]]) -> None:
        """Publish tickets, or raw messages for a queue, and wait until RabbitMQ has each in a queue.

        Again and again, since a queue that is being declared anew is there for a moment before it is bound.
        """
        with Connection(self.url) as connection:
            channel: Any = connection.channel()
            channel.confirm_select()
            confirmed: list[int] = []
            returned: list[tuple[str, Message]] = []
            channel.events["basic_ack"].add(lambda number, multiple: confirmed.append(number))
            channel.events["basic_return"].add(lambda error, exchange, queue, body: returned.append((queue, body)))
            left = [
                (each.queue, message_of(each)) if isinstance(each, Ticket) else each for each in tickets
            ]
            sent = 0

            def nothing_left() -> bool:
                nonlocal left, sent
                for queue, message in left:
                    channel.basic_publish(
                        message, exchange=celery_config.TICKETS.name, routing_key=queue, mandatory=True
                    )
                sent += len(left)
                while max(confirmed, default=0) < sent:
                    connection.drain_events(timeout=10)
                left = returned.copy()
                returned.clear()
                return not left

            eventually(nothing_left, what="each ticket in a queue")

    def ring(self, queue: str = "") -> None:
        with self.channel() as channel:
            channel.basic_publish(Message(queue), exchange=celery_config.DOORBELL.name, routing_key="data")

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue; -1 when there is none of that name."""
        try:
            with self.channel() as channel:
                return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            return -1

    def empty_queues(self) -> None:
        with self.channel() as channel:
            for queue in celery_config.all_queues():
                bound = queue(channel)
                bound.declare()
                bound.purge()


def at_work(servers: Stack, tmp_path: Path) -> Iterator[Hands]:
    """The fixture: empty queues, and no worker left at the end."""
    hands = Hands(tmp_path, servers.environment())
    hands.environment |= servers.environment(WORKER)
    hands.empty_queues()
    yield hands
    hands.end()


def ticket(task_id: str, priority: str = "normal", *, timeout_seconds: int = 600) -> Ticket:
    return Ticket(task_id, 1, TYPE, celery_config.queue_name("data", priority), timeout_seconds)


def nobody_left(pids: Sequence[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)
