"""`/api/tasks/<id>/events`: what happens to a task, as it happens (Server-Sent Events).

Every event of the ledger is a frame with its `seq` as the id, so that a client that was cut off goes on where it was
(`Last-Event-ID`). Progress comes in between, without an id. After the end of the task comes `event: end`; a client that
connects again after that is answered 204, which is what keeps a browser from coming back for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, json, request

from api import auth, reading, told, waiting
from api.described import Media, describe
from api.problems import BadRequest, problem
from ledger import db, queries
from ledger.callers import Caller, Scope
from ledger.states import FINAL
from tasks.revoke import UnknownTask

blueprint = Blueprint("streams", __name__, url_prefix="/api/tasks")

#: Seconds between two looks into the ledger, and between two signs of life.
LOOK_SECONDS = 0.5
PING_SECONDS = 15.0
#: How often it is seen whether this process is to end.
_PAUSE_SECONDS = 0.1
#: Milliseconds after which a client that was cut off comes back.
_RETRY_MILLISECONDS = 3_000


#: What each frame holds.
_EVENTS = Media(
    "text/event-stream",
    {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}},
)


@blueprint.get("/<task_id>/events")
@describe({200: _EVENTS, 204: None}, headers=["Last-Event-ID"], faults=[400])
@auth.needs(Scope.READ)
def stream(task_id: str) -> Response:
    """Follow a task while it goes on, as Server-Sent Events.

    Frames are `event: task.<state>` with the id of the ledger's event, `event: progress`, and at last `event: end`.
    Connecting again after that is answered with 204. When too many follow already, the answer is 503.
    """
    task_id, seen, caller = reading.task_id(task_id), _last_seen(), auth.caller()
    state = queries.state(task_id, caller=caller)
    if state is None:
        raise UnknownTask(task_id)
    if seen and state in FINAL and not queries.events_after(task_id, seen, caller=caller):
        return Response(status=204)
    if not waiting.streams.take():
        return problem(503, "Too many streams", "too many clients follow tasks here already; ask for the task instead")
    frames = _frames(task_id, seen, caller, is_leaving=waiting.leaving(), still_opens=auth.lasting())
    response = Response(frames, content_type="text/event-stream")
    # Not in the generator: one that was never begun does not reach its `finally`.
    response.call_on_close(waiting.streams.give_back)
    response.headers["Cache-Control"] = "no-cache, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _last_seen() -> int:
    word = request.headers.get("Last-Event-ID", "0")
    if not (word.isascii() and word.isdigit() and len(word) < 19):
        raise BadRequest("Last-Event-ID", "Last-Event-ID must be the id of an event of this stream", status=400)
    return int(word)


def _frames(
    task_id: str, seen: int, caller: Caller, *, is_leaving: Callable[[], bool], still_opens: Callable[[], bool]
) -> Iterator[str]:
    yield f"retry: {_RETRY_MILLISECONDS}\n\n"
    progress, told_at = None, time.monotonic()
    while not is_leaving():
        try:
            if not still_opens():
                return  # the client comes back, and is refused
            # The row first: what happened before it was read is among the events that are read after it.
            row = queries.task(task_id, caller=caller)
            events = queries.events_after(task_id, seen, caller=caller)
        except db.Unavailable:
            return  # the client comes back, and goes on where it was
        frames = [_frame(f"task.{each.state}", *told.history([each]), seq=each.seq) for each in events]
        seen = events[-1].seq if events else seen
        if row is not None and (now := told.progress(row)) != progress:
            progress = now
            frames += [_frame("progress", now)] if now else []
        if row is None or (row.state in FINAL and not events):
            yield _frame("end", {"task_id": task_id, "state": row.state if row else None})
            return
        if not frames and time.monotonic() - told_at > PING_SECONDS:
            frames = [": ping\n\n"]
        if frames:
            told_at = time.monotonic()
            yield "".join(frames)
        else:
            _pause(is_leaving)


def _frame(name: str, data: Any, *, seq: int | None = None) -> str:
    place = "" if seq is None else f"id: {seq}\n"
    return f"{place}event: {name}\ndata: {json.dumps(data)}\n\n"


def _pause(is_leaving: Callable[[], bool]) -> None:
    until = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < until and not is_leaving():
        time.sleep(_PAUSE_SECONDS)
