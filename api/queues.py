"""`/api/queues`: what waits and runs in each queue, and who serves it."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

import celery_config
from api import answers, reading, schemas
from api.described import describe
from ledger import backlog, presence

blueprint = Blueprint("queues", __name__, url_prefix="/api/queues")


@blueprint.get("")
@describe({200: answers.Queues}, query=schemas.NoQuery)
def index() -> Response:
    """Every queue, those of one kind of worker together, best first."""
    reading.query(schemas.NoQuery)
    names = celery_config.queue_names()
    queues, workers = backlog.by_queue(names), presence.here()
    return jsonify({"items": [_queue(name, queues[name], len(presence.serving(name, workers))) for name in names]})


def _queue(name: str, queue: backlog.Queue, workers: int) -> answers.Queue:
    oldest = queue.oldest_seconds
    return {
        "name": name,
        "kind": celery_config.worker_of(name),
        "ready": queue.ready,
        "scheduled": queue.scheduled,
        "retrying": queue.retrying,
        "running": queue.running,
        "oldest_seconds": None if oldest is None else round(oldest, 1),
        "workers": workers,
    }
