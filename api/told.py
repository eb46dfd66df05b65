"""How rows of the ledger become what clients are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from api import answers
from ledger.firings import Firing
from ledger.queries import Kin
from ledger.states import FINAL, State
from tasks.submit import Accepted

#: The words that clients of older interfaces know, beside our own in `state`.
_STATUS: dict[State, answers.StatusWord] = {
    State.SCHEDULED: "pending",
    State.BLOCKED: "pending",
    State.QUEUED: "pending",
    State.THROTTLED: "pending",
    State.RUNNING: "processing",
    State.COMMITTING: "processing",
    State.REVOKING: "canceling",
    State.RETRYING: "retrying",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.REVOKED: "canceled",
    State.EXPIRED: "expired",
}


def status_of(state: State) -> answers.StatusWord:
    return _STATUS[state]


def links(task_id: str) -> answers.Links:
    here = f"/api/tasks/{task_id}"
    return {
        "self": here,
        "history": f"{here}/history",
        "explain": f"{here}/explain",
        "stop": f"{here}/stop",
        "retry": f"{here}/retry",
        "resolve": f"{here}/resolve",
        "deliveries": f"{here}/deliveries",
    }


def accepted(new: Accepted) -> answers.Accepted:
    """What the client of a fresh task is told."""
    task = new.task
    return {
        "task_id": task.task_id,
        "state": new.state,
        "status": status_of(new.state),
        "message": f"Task submitted successfully. {_prospect(new)}",
        "task_type": task.task_type,
        "priority": task.priority,
        "links": links(task.task_id),
    }


def accepted_batch(new: Sequence[Accepted]) -> answers.AcceptedBatch:
    return {
        "task_ids": [each.task_id for each in new],
        "count": len(new),
        "items": [accepted(each) for each in new],
    }


def _prospect(new: Accepted) -> str:
    task = new.task
    start = f"at {task.run_at.isoformat()}" if task.run_at else f"in {task.delay_seconds:g} seconds"
    if new.state is State.BLOCKED:
        return "Will start when the tasks that it depends on have succeeded."
    if new.state is State.FAILED:
        return "It failed at once: a task that it depends on did not succeed."
    return f"Will start {start}."


def summary(row: Row[Any]) -> answers.Summary:
    """A task in a list."""
    state = State(row.state)
    return {
        "task_id": row.id,
        "task_type": row.task_type,
        "priority": row.priority,
        "queue": row.queue,
        "tags": row.tags or [],
        "state": state,
        "status": status_of(state),
        "progress": progress(row),
        "error": row.error,
        "attempt": row.attempt,
        "retries": row.retries,
        "max_retries": row.max_retries,
        "timeout": row.timeout_seconds,
        "worker": row.worker,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "due_at": moment(row.due_at),
        "expires_at": moment(row.expires_at),
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "resolved": _resolved(row),
        "links": links(row.id),
    }


def _resolved(row: Row[Any]) -> answers.Resolved | None:
    if row.resolved_at is None:
        return None
    return {"at": moment(row.resolved_at), "by": row.resolved_by, "note": row.resolved_note}


def whole(
    row: Row[Any], result: Any, events: list[Row[Any]], kin: Kin, firing: Firing | None
) -> answers.Whole:
    """A task with all that there is to tell."""
    return {
        **summary(row),
        "parameters": row.parameters,
        "result": result,
        "undone": row.undone,
        "depends_on": _states(kin.parents),
        "on_parent_failure": row.on_parent_failure,
        "webhook": row.webhook,
        "dependents": _states(kin.children),
        "schedule": None if firing is None else fired(firing),
        "attempts": _attempts(events),
        "remarks": [
            {"at": moment(event.at), "event": event.event, "attempt": event.attempt, "text": event.remark}
            for event in events
            if event.remark
        ],
    }


def fired(firing: Firing) -> answers.Fired:
    """The schedule that submitted a task. The tick is null when somebody asked for the task beside the ticks."""
    return {"schedule_id": firing.schedule_id, "name": firing.name, "tick": moment(firing.tick)}


def _states(tasks: Sequence[Any]) -> list[answers.Relative]:
    """A state is null for a task that is not kept any more."""
    return [{"task_id": task.id, "state": task.state} for task in tasks]


def progress(row: Row[Any]) -> answers.Progress | None:
    if row.progress_done is None:
        return None
    done, total = row.progress_done, row.progress_total
    return {"done": done, "total": total, "percent": round(100 * done / total, 1) if total else None}


_ENDINGS = {
    "finished": "succeeded",
    "retried": "failed",
    "given_up": "failed",
    "rolled_back": "stopped",
    "handed_back": "handed back",
}


def _attempts(events: list[Row[Any]]) -> list[answers.Attempted]:
    found: dict[int, answers.Attempted] = {}
    for event in events:
        if event.event == "claimed":
            found[event.attempt] = {
                "number": event.attempt,
                "worker": event.detail["worker"],
                "started_at": moment(event.at),
                "ended_at": None,
                "outcome": None,
                "error": None,
            }
        elif event.event in _ENDINGS and event.attempt in found:
            found[event.attempt] |= {
                "ended_at": moment(event.at),
                "outcome": _ENDINGS[event.event],
                "error": event.detail if event.event in ("retried", "given_up") else None,
            }
    return list(found.values())


def history(events: list[Row[Any]]) -> list[answers.Happened]:
    """The audit trail of a task, oldest first."""
    return [
        {
            "seq": event.seq,
            "at": moment(event.at),
            "event": event.event,
            "state": event.state,
            "attempt": event.attempt,
            "remark": event.remark,
            "detail": event.detail,
        }
        for event in events
    ]


def moment(at: datetime | None) -> str | None:
    """A time of the ledger, which is UTC without saying so."""
    return at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z" if at else None


def is_over(row: Row[Any]) -> bool:
    return row.state in FINAL
