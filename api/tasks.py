"""`/api/tasks`: submit, read, list, stop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request
from pydantic_core import to_json

from api import answers, auth, batch, reading, schemas, told, verdicts, waiting
from api.described import describe
from ledger import db, firings, queries
from ledger.callers import Scope
from ledger.states import State
from settings import settings
from tasks import edit, outcome, results, submit
from tasks.revoke import Stop, UnknownTask

blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")

#: Keys in all objects of a batch together.
MOST_KEYS_IN_BATCH = 50_000



@blueprint.post("")
@describe(
    {200: answers.Whole, 202: answers.Accepted}, body=schemas.SubmitBody, headers=["Idempotency-Key", "Prefer"]
)
@auth.needs(Scope.WRITE)
def create() -> Response:
    """Accept a task. The 202 means that it is on disk.

    With `Prefer: wait=10` it is answered 200 with the whole task if it ends within that time.
    """
    given = reading.json_object()
    submission = reading.checked(given, schemas.SubmitBody).submission()
    caller = auth.caller()
    [task] = submit.submit([submission], caller=caller, once=reading.once(given, owner=caller.owner))
    seconds = reading.asked_wait()
    if seconds and (response := _ended(task.task_id, seconds)):
        response.headers["Preference-Applied"] = f"wait={seconds}"
        return response
    return _accepted(told.accepted(task), [task], location=f"/api/tasks/{task.task_id}")


def _ended(task_id: str, seconds: float) -> Response | None:
    """The whole of a task that was just accepted, if it ends within that time. A ledger that goes away meanwhile does
    not make it any less accepted."""
    with suppress(db.Unavailable):
        if _ends_within(task_id, seconds) and auth.still_opens():
            return _shown(task_id)
    return None


@blueprint.post("/batch")
@describe({202: answers.AcceptedBatch}, body=schemas.BatchBody, headers=["Idempotency-Key"])
@auth.needs(Scope.WRITE)
def create_many() -> Response:
    """Accept up to 1,000 tasks, all or none.

    A fault is told with its place, such as `#/tasks/17/parameters/to`. The body may be larger here than elsewhere.
    """
    given = reading.json_object(most_bytes=settings().batch_bytes, most_keys=MOST_KEYS_IN_BATCH)
    caller = auth.caller()
    new = batch.checked(reading.checked(given, schemas.BatchBody), caller=caller)
    accepted = submit.accept(new, caller=caller, once=reading.once(given, owner=caller.owner))
    return _accepted(told.accepted_batch(accepted), accepted, location="/api/tasks")


def _accepted(answer: Any, accepted: Sequence[submit.Accepted], *, location: str) -> Response:
    # By hand: for a hundred tasks Flask's encoder takes as long as the database's driver.
    response = Response(to_json(answer) + b"\n", status=202, mimetype="application/json")
    response.headers["Location"] = location
    response.headers["Retry-After"] = "1"
    if accepted[0].replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@blueprint.get("")
@describe({200: answers.Page}, query=schemas.ListQuery)
@auth.needs(Scope.READ)
def index() -> Response:
    """Tasks, newest first, a page at a time."""
    asked = reading.query(schemas.ListQuery)
    wanted = asked.wanted()
    page = queries.page(wanted, cursor=asked.cursor, limit=asked.limit, caller=auth.caller())
    answer: answers.Page = {
        "items": [told.summary(row) for row in page.rows],
        "next_cursor": page.next_cursor,
    }
    if asked.with_counts:
        answer["counts"] = queries.counts(asked.tag, wanted.schedule, caller=auth.caller())
    response = jsonify(answer)
    if page.next_cursor:
        response.headers["Link"] = _next(page.next_cursor)
    return response


@blueprint.get("/<task_id>")
@describe({200: answers.Whole, 304: None}, query=schemas.ShowQuery, headers=["Prefer", "If-None-Match"])
@auth.needs(Scope.READ)
def show(task_id: str) -> Response:
    """One task, with its result once it has succeeded.

    With `?wait=30`, or `Prefer: wait=30`, it is answered when the task ends, or after that time. When too many wait
    already, it is answered at once.
    """
    task_id = reading.task_id(task_id)
    asked = reading.query(schemas.ShowQuery).wait
    seconds = reading.preferred_wait(0) if asked is None else asked
    if seconds:
        _ends_within(task_id, seconds)
        auth.insist()
    response = _shown(task_id)
    response.make_conditional(request)
    return response


def _ends_within(task_id: str, seconds: float) -> bool:
    with waiting.allowed(seconds) as allowed:
        return outcome.wait(task_id, allowed, caller=auth.caller(), unless=waiting.leaving()) is not None


@blueprint.get("/<task_id>/history")
@describe({200: answers.History})
@auth.needs(Scope.READ)
def history(task_id: str) -> Response:
    """Everything that happened to a task."""
    task_id = reading.task_id(task_id)
    events = list(queries.history(task_id, caller=auth.caller()))
    if not events:
        raise UnknownTask(task_id)
    return jsonify({"task_id": task_id, "items": told.history(events)})


@blueprint.patch("/<task_id>")
@describe({200: answers.Changed}, body=schemas.PatchBody, headers=["Prefer", "If-Match"], faults=[409, 412])
@auth.needs(Scope.STOP)
def change(task_id: str) -> Response:
    """Change a task that waits, or take a task back with `{"status": "canceled"}`.

    A change, other than that, also wants the scope `write`. A task that runs or is over cannot be changed (409). With
    `If-Match` and the `ETag` of an answer before, nothing is changed when the task has changed since (412).
    """
    task_id = reading.task_id(task_id)
    asked = reading.body(schemas.PatchBody)
    seen_at = _seen_at(task_id)
    if not asked.status:
        auth.also_needs(Scope.WRITE)
        edit.edit(task_id, asked.change(), by="PATCH /api/tasks", seen_at=seen_at, caller=auth.caller())
        return _shown(task_id)
    stop = verdicts.stop(task_id, by="PATCH /api/tasks", seen_at=seen_at)
    if stop.took_effect:
        # It has, also when the ledger goes away before the task can be shown.
        with suppress(db.Unavailable):
            return _shown(task_id, verdict=stop)
    return verdicts.answer(stop)


@blueprint.post("/<task_id>/stop")
@describe({200: answers.Stopped, 202: answers.Stopped}, headers=["Prefer"], faults=[409])
@auth.needs(Scope.STOP)
def stop(task_id: str) -> Response:
    """Take a task back, with a verdict."""
    return verdicts.answer(verdicts.stop(reading.task_id(task_id), by="POST /api/tasks/<id>/stop"))


def _seen_at(task_id: str) -> datetime | None:
    """The row's last move, when the client says that it has seen the task as it is now."""
    if "If-Match" not in request.headers:
        return None
    row = queries.task(task_id, caller=auth.caller())
    if row is None:
        raise UnknownTask(task_id)
    etag, _ = _shown(task_id).get_etag()
    if not request.if_match.contains(etag or ""):
        raise edit.Stale
    moved_at: datetime = row.updated_at
    return moved_at


def _shown(task_id: str, verdict: Stop | None = None) -> Response:
    row = queries.task(task_id, caller=auth.caller())
    if row is None:
        raise UnknownTask(task_id)
    events = list(queries.history(task_id, caller=auth.caller()))
    kin, firing = queries.kin(task_id, caller=auth.caller()), firings.of(task_id, caller=auth.caller())
    answer = told.whole(row, _result(row), events, kin, firing)
    response = jsonify(answer if verdict is None else {**answer, "verdict": verdict.verdict})
    if not told.is_over(row):
        response.headers["Retry-After"] = "1"
    # Of all that is told: a task changes with its progress, its remarks and those it depends on too.
    response.set_etag(f"{task_id}-{hashlib.sha256(response.get_data()).hexdigest()[:16]}")
    return response


def _result(row: Any) -> Any:
    """From Redis while it has it, from the ledger otherwise. Before success there is none to show."""
    if row.state != State.SUCCEEDED:
        return None
    found, result = results.fetch(row.id, row.attempt)
    return result if found else row.result


def _next(cursor: str) -> str:
    arguments = request.args.to_dict(flat=False) | {"cursor": [cursor]}
    return f'<{request.path}?{urlencode(arguments, doseq=True)}>; rel="next"'
