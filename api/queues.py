"""`/api/queues`: what waits and runs in each queue, who serves it, and whether it is paused."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, jsonify

import celery_config
from api import answers, auth, reading, schemas, told
from api.described import describe
from api.problems import UnknownQueue
from ledger import backlog, pauses, presence
from ledger.callers import Scope

blueprint = Blueprint("queues", __name__, url_prefix="/api/queues")


@blueprint.get("")
@describe({200: answers.Queues}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def index() -> Response:
    """Every queue, those of one kind of worker together, best first."""
    reading.query(schemas.NoQuery)
    return jsonify({"items": _queues(celery_config.queue_names())})


@blueprint.post("/<queue>/pause")
@describe({200: answers.Pauses}, body=schemas.PauseBody, faults=[404])
@auth.needs(Scope.ADMIN)
def pause(queue: str) -> Response:
    """Let none of a queue's tasks start. Those that run go on, and so do other queues; a pause outlives any restart."""
    names = _named(queue)
    pauses.pause(names, reason=reading.body(schemas.PauseBody).reason)
    return jsonify({"message": f"No task of {', '.join(names)} starts until you resume it.", "items": _queues(names)})


@blueprint.post("/<queue>/resume")
@describe({200: answers.Pauses}, faults=[404])
@auth.needs(Scope.ADMIN)
def resume(queue: str) -> Response:
    """Let a queue's tasks start again."""
    names = _named(queue)
    pauses.resume(names)
    return jsonify({"message": f"Tasks of {', '.join(names)} start.", "items": _queues(names)})


def _named(word: str) -> tuple[str, ...]:
    """A queue, or all of one kind of worker."""
    names = celery_config.queue_names()
    found = tuple(name for name in names if word in (name, celery_config.worker_of(name)))
    if not found:
        raise UnknownQueue(word, [*names, *celery_config.WORKERS])
    return found


def _queues(names: Sequence[str]) -> list[answers.Queue]:
    queues, workers, paused = backlog.by_queue(names), presence.here(), pauses.paused()
    return [
        _queue(name, queues[name], len(presence.serving(name, workers)), paused.get(name)) for name in names
    ]


def _queue(name: str, queue: backlog.Queue, workers: int, pause: pauses.Pause | None) -> answers.Queue:
    oldest = queue.oldest_seconds
    return {
        "name": name,
        "kind": celery_config.worker_of(name),
        "ready": queue.ready,
        "scheduled": queue.scheduled,
        "retrying": queue.retrying,
        "throttled": queue.throttled,
        "running": queue.running,
        "oldest_seconds": None if oldest is None else round(oldest, 1),
        "workers": workers,
        "paused_at": told.moment(pause.since) if pause else None,
        "pause_reason": pause.reason if pause else None,
    }
