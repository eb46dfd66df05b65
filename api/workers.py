"""`/api/workers`: which worker processes there are, and what they are at."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api import answers, auth, reading, schemas, told
from api.described import describe
from ledger import backlog, presence
from ledger.callers import Scope
from ledger.presence import Worker

blueprint = Blueprint("workers", __name__, url_prefix="/api/workers")


@blueprint.get("")
@describe({200: answers.Workers}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def index() -> Response:
    """The workers that were heard of within the last seconds."""
    reading.query(schemas.NoQuery)
    held: dict[str, list[answers.Held]] = {}
    for row in backlog.held(caller=auth.caller()):
        held.setdefault(row.worker, []).append(_task(row))
    return jsonify({"items": [_worker(each, held.get(each.said.name, [])) for each in presence.here()]})


def _worker(worker: Worker, running: list[answers.Held]) -> answers.Worker:
    said = worker.said
    return {
        "name": said.name,
        "kind": said.kind,
        "queues": list(said.queues),
        "concurrency": said.concurrency,
        "free": said.free,
        "reaches_broker": said.reaches_broker,
        "leaving": said.leaving,
        "started_at": told.moment(worker.started_at),
        "seen_at": told.moment(worker.seen_at),
        "seen_seconds_ago": round(worker.silent_seconds, 1),
        "running": running,
    }


def _task(row: Any) -> answers.Held:
    return {
        "task_id": row.id,
        "task_type": row.task_type,
        "state": row.state,
        "attempt": row.attempt,
        "started_at": told.moment(row.started_at),
        "progress": told.progress(row),
        "links": told.links(row.id),
    }
