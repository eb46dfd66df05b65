"""What an operator does about tasks that ended without their effects: try them again, or note that it is dealt with."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api import answers, auth, reading, schemas, told
from api.described import describe
from ledger import queries
from ledger.callers import Scope
from ledger.states import State
from tasks import replay
from tasks.revoke import UnknownTask

blueprint = Blueprint("failures", __name__, url_prefix="/api/tasks")


@blueprint.post("/<task_id>/retry")
@describe({202: answers.Retried}, body=schemas.RetryBody, faults=[409])
@auth.needs(Scope.WRITE)
def retry(task_id: str) -> tuple[Response, int, dict[str, str]]:
    """Queue a task that failed, was stopped or expired again: same id, next attempt, retries counted anew.

    It wants the scope that a submission of its task type wants.
    """
    task_id = reading.task_id(task_id)
    note = reading.body(schemas.RetryBody).note
    ticket = replay.one(task_id, by="POST /api/tasks/<id>/retry", note=note, caller=auth.caller())
    answer: answers.Retried = {
        "task_id": task_id,
        "state": State.QUEUED,
        "status": told.status_of(State.QUEUED),
        "message": f"Task queued again; attempt {ticket.attempt} follows.",
        "attempt": ticket.attempt,
        "links": told.links(task_id),
    }
    return jsonify(answer), 202, {"Location": f"/api/tasks/{task_id}", "Retry-After": "1"}


@blueprint.post("/retry")
@describe({200: answers.RetriedMany}, body=schemas.RetryManyBody)
@auth.needs(Scope.WRITE)
def retry_many() -> Response:
    """Queue the tasks that fit again, at most 1,000 with one call; `more` says whether to call again.

    `dry_run` only counts them. Tasks that somebody dealt with, and those of which nobody knows whether they took
    effect, are left out unless `resolved` or `uncertain` asks for them. Left out are also tasks of a type that this key
    may not submit; asked for by its id, such a task is refused (403).
    """
    asked = reading.body(schemas.RetryManyBody)
    wanted = asked.wanted()
    answer: answers.RetriedMany
    if asked.dry_run:
        answer = {"dry_run": True, "matching": replay.count(wanted, caller=auth.caller())}
    else:
        done = replay.many(wanted, by="POST /api/tasks/retry", note=asked.note, caller=auth.caller())
        answer = {
            "dry_run": False,
            "replayed": len(done.tickets),
            "more": done.more,
            "task_ids": [ticket.task_id for ticket in done.tickets],
        }
    return jsonify(answer)


@blueprint.post("/<task_id>/resolve")
@describe({200: answers.Summary}, body=schemas.ResolveBody, faults=[409])
@auth.needs(Scope.WRITE)
def resolve(task_id: str) -> Response:
    """Note that a failed task has been dealt with. It stays failed, and its replay forgets the note."""
    task_id = reading.task_id(task_id)
    note, caller = reading.body(schemas.ResolveBody).note, auth.caller()
    replay.resolve(task_id, by="POST /api/tasks/<id>/resolve", note=note, caller=caller)
    row = queries.task(task_id, caller=caller)
    if row is None:
        raise UnknownTask(task_id)
    return jsonify(told.summary(row))
