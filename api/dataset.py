"""The endpoints of the sample table: insert rows in bulk, stop it, look at the table.

Routes that change something want POST or DELETE. Their GET forms, which the first clients used, work where the operator
switched them on (SLUICE_LEGACY_GET), and never for a page that a browser was tricked into asking.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api import answers, auth, browsers, reading, schemas, told, verdicts, waiting
from api.described import describe
from api.problems import BadRequest, problem
from ledger import db, queries
from ledger.callers import Scope
from ledger.states import State
from tasks import outcome, submit
from tasks.revoke import UnknownTask
from tasks.submit import Submission
from tasks.types import dataset

blueprint = Blueprint("dataset", __name__)

#: Seconds that the endpoints which answer with an outcome wait for it.
DELETE_SECONDS = 4.0
INSERT_SECONDS = 30.0

#: What becomes of a GET that changes something: see `browsers`.
_BY_GET = frozenset({403, 405})


@blueprint.get("/")
@describe({200: answers.Index}, needs_ledger=False)
@auth.public
def index() -> Response:
    """Who is here, and where to go."""
    return jsonify(
        {
            "success": True,
            "status": "ok",
            "message": "Sluice is running.",
            "endpoints": {
                "submit_task": "POST /api/tasks",
                "submit_batch": "POST /api/tasks/batch",
                "get_task": "GET /api/tasks/<task_id>",
                "follow_task": "GET /api/tasks/<task_id>/events",
                "stop_task": "POST /api/tasks/<task_id>/stop",
                "list_tasks": "GET /api/tasks",
                "upload_file": "POST /api/files",
                "insert": "POST /insert/<num>",
                "stop": "POST /stop/<task_id>",
                "status": "GET /status/<task_id>",
                "get_data": "GET /get_data",
                "count": "GET /get_data/count",
                "delete_all": "DELETE /delete_all",
                "health": "GET /readyz",
                "ui": "GET /ui",
                "docs": "GET /docs",
                "openapi": "GET /openapi.json",
            },
        }
    )


@blueprint.route("/insert", methods=["GET", "POST"])
@blueprint.route("/insert/<num>", methods=["GET", "POST"])
@describe({202: answers.InsertStarted}, faults=_BY_GET | {422}, deprecated=["GET"])
@auth.needs(Scope.WRITE)
def insert(num: str | None = None) -> Response:
    """Insert random rows in the background, all or none."""
    browsers.refuse_unless_meant()
    task_id = _submit_insert(num)
    response = jsonify(
        {
            "success": True,
            "message": "Insert started; all rows appear at once when it succeeds.",
            "task_id": task_id,
            "links": told.links(task_id),
        }
    )
    response.status_code = 202
    response.headers["Location"] = f"/api/tasks/{task_id}"
    return response


@blueprint.route("/dpd_insert", methods=["GET", "POST"])
@blueprint.route("/dpd_insert/<num>", methods=["GET", "POST"])
@describe(
    {200: answers.Inserted, 202: answers.InsertStarted}, faults=_BY_GET | {409, 422}, deprecated=["GET", "POST"]
)
@auth.needs(Scope.WRITE)
def dpd_insert(num: str | None = None) -> Response:
    """Insert random rows and wait for it. Deprecated: a request should not last as long as its work."""
    browsers.refuse_unless_meant()
    task_id = _submit_insert(num)
    response = _insert_outcome(task_id)
    response.headers["Link"] = '</insert>; rel="successor-version"'
    return response


def _submit_insert(num: str | None) -> str:
    parameters = {} if num is None else {"rows": _rows(num)}
    [task] = submit.submit([Submission("bulk_insert", parameters)], caller=auth.caller())
    return task.task_id


def _rows(num: str) -> int:
    if not (num.isascii() and num.isdigit() and 0 < len(num) <= 12):
        raise BadRequest("#/num", f"num must be a number from 1 to {dataset.MOST_ROWS:,}")
    rows = int(num)
    if not 1 <= rows <= dataset.MOST_ROWS:
        raise BadRequest("#/num", f"num must be a number from 1 to {dataset.MOST_ROWS:,}")
    return rows


def _insert_outcome(task_id: str) -> Response:
    with waiting.allowed(INSERT_SECONDS) as seconds:
        row = _outcome(task_id, seconds)
    if row is None:
        return _still_running(task_id, "The insert is still running; ask for its status.")
    if row.state != State.SUCCEEDED:
        return problem(409, "Not inserted", _why(row), success=False, task_id=task_id)
    inserted = row.result["inserted"]
    return jsonify(
        {"success": True, "message": f"{inserted:,} rows inserted.", "task_id": task_id, "num_rows_inserted": inserted}
    )


@blueprint.route("/stop/<task_id>", methods=["GET", "POST"])
@describe(
    {200: answers.Stopped, 202: answers.Stopped},
    headers=["Prefer"],
    faults=_BY_GET | {409},
    deprecated=["GET"],
)
@auth.needs(Scope.STOP)
def stop(task_id: str) -> Response:
    """Take a task back, with a verdict."""
    browsers.refuse_unless_meant()
    verdict = verdicts.stop(reading.task_id(task_id), by="/stop")
    return verdicts.answer(verdict, success=verdict.took_effect)


@blueprint.get("/status/<task_id>")
@describe({200: answers.Status})
@auth.needs(Scope.READ)
def status(task_id: str) -> Response:
    """A task's state in a word."""
    row = queries.task(reading.task_id(task_id), caller=auth.caller())
    if row is None:
        raise UnknownTask(task_id)
    state = State(row.state)
    return jsonify({"success": True, "task_id": row.id, "status": told.status_of(state), "state": state})


@blueprint.route("/delete_all", methods=["GET", "DELETE"])
@describe({200: answers.Deleted, 202: answers.InsertStarted}, faults=_BY_GET | {409}, deprecated=["GET"])
@auth.needs(Scope.ADMIN)
def delete_all() -> Response:
    """Empty the table, all or nothing."""
    browsers.refuse_unless_meant()
    [task] = submit.submit(
        [Submission("truncate_table", {"table": "data"}, priority="high", max_retries=0)], caller=auth.caller()
    )
    row = _outcome(task.task_id, DELETE_SECONDS)
    if row is None:
        return _still_running(task.task_id, "The rows are still being deleted; ask for its status.")
    if row.state != State.SUCCEEDED:
        return problem(409, "Not deleted", _why(row), success=False, task_id=row.id, num_rows_deleted=0)
    deleted = row.result["deleted"]
    return jsonify(
        {"success": True, "message": f"{deleted:,} rows deleted.", "num_rows_deleted": deleted, "task_id": row.id}
    )


@blueprint.get("/get_data")
@describe({200: answers.DataPage}, query=schemas.DataQuery)
@auth.needs(Scope.READ)
def get_data() -> Response:
    """Rows of the table by id, a page at a time: `?limit=` and `?after=<id>`."""
    asked = reading.query(schemas.DataQuery)
    rows = dataset.page(asked.after, asked.limit)
    full = len(rows) == asked.limit
    return jsonify(
        {"success": True, "count": len(rows), "data": rows, "next_after": rows[-1]["id"] if full else None}
    )


@blueprint.get("/get_data/count")
@describe({200: answers.Count})
@auth.needs(Scope.READ)
def get_data_count() -> Response:
    """How many rows the table has."""
    return jsonify({"success": True, "count": dataset.count()})


def _outcome(task_id: str, seconds: float) -> Any:
    """The task once it is over. None when it is not in time, or when the ledger goes away meanwhile: it is accepted."""
    try:
        return outcome.wait(task_id, seconds, caller=auth.caller(), unless=waiting.leaving())
    except db.Unavailable:
        return None


def _still_running(task_id: str, message: str) -> Response:
    response = jsonify({"success": True, "message": message, "task_id": task_id, "links": told.links(task_id)})
    response.status_code = 202
    response.headers["Location"] = f"/api/tasks/{task_id}"
    response.headers["Retry-After"] = "1"
    return response


def _why(row: Any) -> str:
    return row.error["message"] if row.error else f"the task is {row.state}"
