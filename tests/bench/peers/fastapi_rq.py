"""FastAPI and RQ: queue and results in Redis, as in RQ's documentation."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI
from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job

from tests.bench.peers.clock import look_at_the_clock

redis = Redis.from_url(os.environ["PEER_REDIS_URL"])
queue = Queue(connection=redis)
door = FastAPI()


@door.post("/tasks", status_code=202)
def submit() -> dict[str, str]:
    return {"id": queue.enqueue(look_at_the_clock, result_ttl=3_600).id}


@door.get("/tasks/{task_id}")
def result(task_id: str) -> dict[str, Any]:
    try:
        return {"result": Job.fetch(task_id, connection=redis).return_value()}
    except NoSuchJobError:
        return {"result": None}


def prepare() -> None:
    """Nothing: it makes what it needs."""


def fill(number: int) -> None:
    for _ in range(number):
        queue.enqueue(look_at_the_clock, result_ttl=3_600)


def finished() -> int:
    return len(queue.finished_job_registry)
