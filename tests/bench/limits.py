"""What the database and the broker take when nothing but rows and tickets goes in: no door, no checks, no relay."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import pymysql
from uuid_utils import uuid7

from tests.bench.bench import Bench
from tests.bench.contenders import DOOR_PROCESSES

QUEUE = "limit"
TICKET = '[[1], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_ROW = (
    "INSERT INTO limit_tasks (id, owner, task_type, priority, queue, state, parameters)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
_TERMS = ("somebody", "look_at_the_clock", "normal", "data.normal", "queued", "{}")
_EVENT = "INSERT INTO limit_events (task_id, event, state, attempt) VALUES (%s, %s, %s, %s)"
_TABLES = (
    "DROP TABLE IF EXISTS limit_tasks, limit_events",
    "CREATE TABLE limit_tasks (id CHAR(36) CHARACTER SET ascii PRIMARY KEY, owner VARCHAR(64), task_type VARCHAR(64),"
    " priority VARCHAR(8), queue VARCHAR(32), state VARCHAR(16), parameters JSON)",
    "CREATE TABLE limit_events (seq BIGINT AUTO_INCREMENT PRIMARY KEY, task_id CHAR(36) CHARACTER SET ascii,"
    " event VARCHAR(32), state VARCHAR(16), attempt INT)",
)


def accept_limit(bench: Bench, batch: int) -> float:
    """Tasks a second of as many processes as a door has: a row and an event each, committed; a ticket each, confirmed;
    a hundred at a time."""
    variables, seconds = bench.ground.stack.environment(), bench.of(5, least=2)
    with _database(variables) as connection, connection.cursor() as cursor:
        for statement in _TABLES:
            cursor.execute(statement)
    with get_context("spawn").Pool(DOOR_PROCESSES) as processes:
        done = processes.starmap(_accept, [(variables, batch, seconds)] * DOOR_PROCESSES)
    with _database(variables) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES[0])
    Queue(variables).delete()
    return sum(done) / seconds


def _accept(variables: dict[str, str], batch: int, seconds: float) -> int:
    queue, done, until = Queue(variables), 0, time.monotonic() + seconds
    with _database(variables) as connection, connection.cursor() as cursor:
        while time.monotonic() < until:
            ids = [str(uuid7()) for _ in range(batch)]
            cursor.executemany(_ROW, [(each, *_TERMS) for each in ids])
            cursor.executemany(_EVENT, [(each, "accepted", "queued", 0) for each in ids])
            connection.commit()
            queue.take(ids)
            done += batch
    return done


class Queue:
    """A quorum queue that confirms."""

    def __init__(self, variables: dict[str, str]) -> None:
        url = urlsplit(variables["CELERY_BROKER_URL"])
        connection = amqp.Connection(
            host=f"{url.hostname}:{url.port}",
            userid=url.username or "",
            password=unquote(url.password or ""),
            virtual_host=unquote(url.path[1:]) or "/",
        )
        connection.connect()
        channel: Any = connection.channel()
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        self._channel, self._last, self._waiting = channel, 0, set[int]()

    def take(self, ids: Sequence[str]) -> None:
        """A ticket for each, all of them confirmed."""
        for task_id in ids:
            message = amqp.Message(
                TICKET,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                correlation_id=task_id,
            )
            self._channel.basic_publish(message, routing_key=QUEUE, mandatory=True)
            self._last += 1
            self._waiting.add(self._last)
        while self._waiting:
            self._channel.connection.drain_events(timeout=10)

    def delete(self) -> None:
        self._channel.queue_delete(QUEUE)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._waiting -= {each for each in self._waiting if each <= tag} if multiple else {tag}


def _database(variables: dict[str, str]) -> Any:
    url = urlsplit(variables["LEDGER_DATABASE_URL"])
    return pymysql.connect(
        host=url.hostname,
        port=url.port or 3306,
        user=url.username,
        password=unquote(url.password or ""),
        database=url.path.strip("/"),
    )
