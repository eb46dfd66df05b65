"""`/api/tasks`: submit, read, list, stop."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request
from pydantic import ValidationError

from api import reading, schemas, verdicts
from api.errors import faults_of, invalid
from ledger import queries
from ledger.states import State
from tasks import results, submit
from tasks.revoke import Stop, UnknownTask

blueprint = Blueprint("tasks", __name__, url_prefix="/api/tasks")

#: Tasks in one page of a list.
MOST_LISTED = 200
_FILTERS = ("state", "status", "task_type", "priority", "created_after", "created_before", "cursor", "limit", "counts")


@blueprint.post("")
def create() -> tuple[Response, int, dict[str, str]] | Response:
    """Accept a task. The 202 means that it is on disk."""
    try:
        body = schemas.SubmitBody.model_validate(reading.json_object())
    except ValidationError as error:
        return invalid(faults_of(error, schemas.SubmitBody))
    [task] = submit.submit([body.submission()])
    return jsonify(schemas.accepted(task)), 202, {"Location": f"/api/tasks/{task.task_id}", "Retry-After": "1"}


@blueprint.get("")
def index() -> Response:
    """Tasks, newest first, a page at a time."""
    reading.only_arguments(_FILTERS)
    page = queries.page(
        states=_states(),
        task_types=request.args.getlist("task_type"),
        priorities=reading.choices("priority", ("high", "normal", "low")),
        created_after=reading.time("created_after"),
        created_before=reading.time("created_before"),
        cursor=request.args.get("cursor"),
        limit=reading.number("limit", default=50, least=1, most=MOST_LISTED),
    )
    answer: dict[str, Any] = {"items": [schemas.summary(row) for row in page.rows], "next_cursor": page.next_cursor}
    if reading.flag("counts"):
        answer["counts"] = queries.counts()
    response = jsonify(answer)
    if page.next_cursor:
        response.headers["Link"] = _next(page.next_cursor)
    return response


@blueprint.get("/<task_id>")
def show(task_id: str) -> Response:
    """One task, with its result once it has succeeded."""
    return _shown(reading.task_id(task_id))


@blueprint.get("/<task_id>/history")
def history(task_id: str) -> Response:
    """Everything that happened to a task."""
    task_id = reading.task_id(task_id)
    events = list(queries.history(task_id))
    if not events:
        raise UnknownTask(task_id)
    return jsonify({"task_id": task_id, "items": schemas.history(events)})


@blueprint.patch("/<task_id>")
def change(task_id: str) -> Response:
    """`{"status": "canceled"}` takes a task back."""
    task_id = reading.task_id(task_id)
    try:
        schemas.PatchBody.model_validate(reading.json_object())
    except ValidationError as error:
        return invalid(faults_of(error, schemas.PatchBody))
    stop = verdicts.stop(task_id, by="PATCH /api/tasks")
    return _shown(task_id, verdict=stop) if stop.took_effect else verdicts.answer(stop)


@blueprint.post("/<task_id>/stop")
def stop(task_id: str) -> Response:
    """Take a task back, with a verdict."""
    return verdicts.answer(verdicts.stop(reading.task_id(task_id), by="POST /api/tasks/<id>/stop"))


def _shown(task_id: str, verdict: Stop | None = None) -> Response:
    row = queries.task(task_id)
    if row is None:
        raise UnknownTask(task_id)
    answer = schemas.whole(row, _result(row), list(queries.history(task_id)))
    if verdict is not None:
        answer |= {"verdict": verdict.verdict}
    response = jsonify(answer)
    if not schemas.is_over(row):
        response.headers["Retry-After"] = "1"
    return response


def _result(row: Any) -> Any:
    """From Redis while it has it, from the ledger otherwise. Before success there is none to show."""
    if row.state != State.SUCCEEDED:
        return None
    found, result = results.fetch(row.id, row.attempt)
    return result if found else row.result


def _states() -> list[str]:
    """`state` in the ledger's words, `status` in the older ones."""
    states = reading.choices("state", tuple(State))
    statuses = reading.choices("status", tuple(sorted({schemas.status_of(state) for state in State})))
    return states + [state for state in State if schemas.status_of(state) in statuses]


def _next(cursor: str) -> str:
    arguments = request.args.to_dict(flat=False) | {"cursor": [cursor]}
    return f'<{request.path}?{urlencode(arguments, doseq=True)}>; rel="next"'
