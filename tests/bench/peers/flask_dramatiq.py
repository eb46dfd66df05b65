"""Flask and Dramatiq: RabbitMQ, results in Redis, as in its user guide."""

from __future__ import annotations

import os
import time
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend
from flask import Flask
from redis import Redis

REDIS_URL = os.environ["PEER_REDIS_URL"]
#: Where a result is a key, and hardly anything else is.
redis = Redis.from_url(REDIS_URL)

broker = RabbitmqBroker(url=os.environ["PEER_BROKER_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL), result_ttl=3_600_000))
dramatiq.set_broker(broker)
door = Flask(__name__)


@dramatiq.actor(store_results=True)
def look_at_the_clock() -> float:
    return time.time()


@door.post("/tasks")
def submit() -> tuple[dict[str, str], int]:
    return {"id": look_at_the_clock.send().message_id}, 202


@door.get("/tasks/<task_id>")
def result(task_id: str) -> dict[str, Any]:
    message = look_at_the_clock.message().copy(message_id=task_id)
    try:
        return {"result": message.get_result()}
    except ResultMissing:
        return {"result": None}


def prepare() -> None:
    """Nothing: it makes what it needs."""


def fill(number: int) -> None:
    for _ in range(number):
        look_at_the_clock.send()


def finished() -> int:
    return redis.dbsize()
