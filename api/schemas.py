"""What clients send, as models, and what they get, as plain dictionaries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator
from sqlalchemy import Row

from ledger.states import FINAL, State
from ledger.transitions import NewTask
from tasks import retry
from tasks.catalog import LONGEST_TIMEOUT_SECONDS
from tasks.submit import LONGEST_DELAY_SECONDS, Submission


class SubmitBody(BaseModel):
    """`POST /api/tasks`."""

    model_config = ConfigDict(extra="forbid")

    task_type: Annotated[str, Field(min_length=1, max_length=64, description="What to do, such as data_processing")]
    priority: Annotated[Literal["high", "normal", "low"], Field(description="Which queue of its worker")] = "normal"
    parameters: Annotated[dict[str, Any], Field(description="What the task type asks for")] = Field(
        default_factory=dict
    )
    delay: Annotated[
        float, Field(strict=True, ge=0, le=LONGEST_DELAY_SECONDS, description="Seconds to wait before it may start")
    ] = 0
    run_at: Annotated[
        AwareDatetime | None, Field(description="Time before which it may not start, RFC 3339 with an offset")
    ] = None
    max_retries: Annotated[int, Field(strict=True, ge=0, le=retry.MOST_RETRIES)] | None = None
    timeout: Annotated[
        int, Field(strict=True, ge=1, le=LONGEST_TIMEOUT_SECONDS, description="Seconds one attempt may take")
    ] | None = None

    @field_validator("run_at")
    @classmethod
    def _in_utc(cls, run_at: datetime | None) -> datetime | None:
        try:
            return run_at and run_at.astimezone(UTC)
        except OverflowError:
            raise ValueError("run_at lies beyond the calendar, which has the years 1 to 9999") from None

    @model_validator(mode="after")
    def _one_time(self) -> SubmitBody:
        if self.delay and self.run_at:
            raise ValueError("give either delay or run_at, not both")
        return self

    def submission(self) -> Submission:
        return Submission(
            task_type=self.task_type,
            parameters=self.parameters,
            priority=self.priority,
            delay_seconds=self.delay,
            run_at=self.run_at,
            max_retries=self.max_retries,
            timeout_seconds=self.timeout,
        )


class PatchBody(BaseModel):
    """`PATCH /api/tasks/<id>`: the one change that a task takes."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["canceled"]


#: The words that clients of older interfaces know, beside our own in `state`.
_STATUS = {
    State.SCHEDULED: "pending",
    State.QUEUED: "pending",
    State.RUNNING: "processing",
    State.COMMITTING: "processing",
    State.REVOKING: "canceling",
    State.RETRYING: "retrying",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.REVOKED: "canceled",
}


def status_of(state: State) -> str:
    return _STATUS[state]


def links(task_id: str) -> dict[str, str]:
    here = f"/api/tasks/{task_id}"
    return {"self": here, "history": f"{here}/history", "stop": f"{here}/stop"}


def accepted(task: NewTask) -> dict[str, Any]:
    """What the client of a fresh task is told."""
    start = f"at {task.run_at.isoformat()}" if task.run_at else f"in {task.delay_seconds:g} seconds"
    return {
        "task_id": task.task_id,
        "state": task.state,
        "status": status_of(task.state),
        "message": f"Task submitted successfully. Will start {start}.",
        "task_type": task.task_type,
        "priority": task.priority,
        "links": links(task.task_id),
    }


def summary(row: Row[Any]) -> dict[str, Any]:
    """A task in a list."""
    state = State(row.state)
    return {
        "task_id": row.id,
        "task_type": row.task_type,
        "priority": row.priority,
        "queue": row.queue,
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
        "started_at": moment(row.started_at),
        "finished_at": moment(row.finished_at),
        "links": links(row.id),
    }


def whole(row: Row[Any], result: Any, events: list[Row[Any]]) -> dict[str, Any]:
    """A task with all that there is to tell."""
    return {
        **summary(row),
        "parameters": row.parameters,
        "result": result,
        "undone": row.undone,
        "attempts": _attempts(events),
        "remarks": [
            {"at": moment(event.at), "event": event.event, "attempt": event.attempt, "text": event.remark}
            for event in events
            if event.remark
        ],
    }


def progress(row: Row[Any]) -> dict[str, Any] | None:
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


def _attempts(events: list[Row[Any]]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
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
            ending = {"ended_at": moment(event.at), "outcome": _ENDINGS[event.event]}
            error = event.detail if event.event in ("retried", "given_up") else None
            found[event.attempt] |= ending | {"error": error}
    return list(found.values())


def history(events: list[Row[Any]]) -> list[dict[str, Any]]:
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
    return at.isoformat(timespec="microseconds") + "Z" if at else None


def is_over(row: Row[Any]) -> bool:
    return row.state in FINAL
