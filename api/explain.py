"""`/api/tasks/<id>/explain`: why a task is where it is, in a sentence, with evidence."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from api import answers, auth, reading, schemas
from api.described import describe
from ledger.callers import Scope
from tasks import evidence, explain, inquiry
from tasks.revoke import UnknownTask

blueprint = Blueprint("explain", __name__, url_prefix="/api/tasks")


@blueprint.get("/<task_id>/explain")
@describe({200: answers.Explained}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def show(task_id: str) -> Response:
    """One cause with a stable code; the others that hold as well stand in `also`."""
    task_id = reading.task_id(task_id)
    reading.query(schemas.NoQuery)
    found = inquiry.about(task_id, caller=auth.caller())
    if found is None:
        raise UnknownTask(task_id)
    reason = explain.explain(found)
    answer: answers.Explained = {
        "task_id": task_id,
        "state": found.task.state,
        "cause": reason.cause,
        "sentence": reason.sentence,
        "next": reason.next,
        "also": list(reason.also),
        "evidence": evidence.told(found),
    }
    return jsonify(answer)
