"""Flask and Celery: `apply_async` in the request, results in Redis.

With PEER_DURABLE=1 as its documentation advises for tasks that must not be lost: quorum queue, late acknowledgement.
Otherwise as in its tutorial.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from flask import Flask
from kombu import Queue
from redis import Redis

IS_DURABLE = os.environ.get("PEER_DURABLE") == "1"
REDIS_URL = os.environ["PEER_REDIS_URL"]
#: Where a result is a key, and hardly anything else is.
redis = Redis.from_url(REDIS_URL)

celery = Celery("peer", broker=os.environ["PEER_BROKER_URL"], backend=REDIS_URL)
if IS_DURABLE:
    celery.conf.update(
        task_queues=[Queue("durable", queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue="durable",
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        broker_transport_options={"confirm_publish": True},
        worker_prefetch_multiplier=16,
        worker_detect_quorum_queues=True,
    )
door = Flask(__name__)


@celery.task
def look_at_the_clock() -> float:
    return time.time()


@door.post("/tasks")
def submit() -> tuple[dict[str, str], int]:
    return {"id": look_at_the_clock.apply_async().id}, 202


@door.get("/tasks/<task_id>")
def result(task_id: str) -> dict[str, Any]:
    found = celery.AsyncResult(task_id)
    return {"result": found.result if found.successful() else None}


def prepare() -> None:
    """Nothing: it makes what it needs."""


def fill(number: int) -> None:
    for _ in range(number):
        look_at_the_clock.apply_async()


def finished() -> int:
    return redis.dbsize()
