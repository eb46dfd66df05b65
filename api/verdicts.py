"""What a stop's verdict looks like over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Response, jsonify

from api import auth, reading, told, waiting
from api.problems import problem
from tasks import revoke
from tasks.revoke import Stop, Verdict

_SAID = {
    Verdict.STOPPED_BEFORE_START: "Task stopped: no attempt was running, and none will.",
    Verdict.ROLLED_BACK: "Task stopped; everything it did was rolled back.",
    Verdict.STOPPING: "Task is being stopped; none of its work will stay.",
    Verdict.ALREADY_FINISHED: "Task had already finished; nothing was changed.",
    Verdict.TOO_LATE_COMMITTED: "Too late: the task was already being committed; its work stays.",
}


def stop(task_id: str, *, by: str, seen_at: datetime | None = None) -> Stop:
    """Take a task back, and wait for the undoing as long as the client prefers. Raises Stale when it has moved since
    it was seen."""
    usual = revoke.WAIT_SECONDS
    with waiting.allowed(reading.preferred_wait(usual), otherwise=usual) as seconds:
        return revoke.stop(task_id, by=by, wait_seconds=seconds, seen_at=seen_at, caller=auth.caller())


def answer(stop: Stop, **more: Any) -> Response:
    """200 when the task is out of the world, 202 while it is still being undone, 409 when the stop changed nothing."""
    said = _said(stop) | more
    if not stop.took_effect:
        return problem(409, "Not stopped", said["message"], kind=f"/problems/{stop.verdict}", **said)
    response = jsonify(said)
    if stop.verdict is Verdict.STOPPING:
        response.status_code = 202
        response.headers["Location"] = f"/api/tasks/{stop.task_id}"
        response.headers["Retry-After"] = "1"
    return response


def _said(stop: Stop) -> dict[str, Any]:
    said: dict[str, Any] = {
        "task_id": stop.task_id,
        "verdict": stop.verdict,
        "state": stop.state,
        "message": _SAID[stop.verdict],
        "links": told.links(stop.task_id),
    }
    if stop.rows_undone is not None:
        said |= {"rows_undone": stop.rows_undone, "rows_remaining": stop.rows_remaining}
    return said
