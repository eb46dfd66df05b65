"""`/api/schedules`: tasks that are submitted again and again, by a cron expression."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api import answers, auth, reading, schemas, told
from api.described import describe
from api.problems import BadRequest, Invalid, faults_in, faults_of, webhook_fault
from ledger import cron
from ledger import schedules as kept
from ledger.callers import Scope
from ledger.deliveries import Gone
from ledger.misfires import Misfire, Overlap
from ledger.schedules import Schedule, UnknownSchedule
from ledger.webhook_secrets import NoSecret
from tasks import schedules
from tasks.catalog import UnknownTaskType
from tasks.submit import BadParameters

blueprint = Blueprint("schedules", __name__, url_prefix="/api/schedules")

#: Ticks to come that are told.
NEXT_TICKS = 5
MOST_LISTED = 200

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="A word that no other schedule of its owner has",
        examples=["nightly-import"],
    ),
]
Expression = Annotated[
    str,
    Field(
        min_length=9,
        max_length=cron.LONGEST_EXPRESSION,
        description="Minute, hour, day, month, weekday, as of Debian's cron; or these with seconds in front",
        examples=["30 2 * * MON-FRI"],
    ),
]
Zone = Annotated[
    str, Field(max_length=64, description="The IANA's name of the zone of those times", examples=["Europe/Berlin"])
]
Task = Annotated[
    dict[str, Any], Field(description="What each tick submits, as of `POST /api/tasks` less what is about one time")
]
MisfirePolicy = Annotated[
    Misfire, Field(description="What becomes of ticks that came more than a minute ago and have no task")
]
OverlapPolicy = Annotated[
    Overlap, Field(description="What becomes of a tick while a task of this schedule has not ended")
]


class ScheduleBody(BaseModel):
    """`POST /api/schedules`."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    cron: Expression
    timezone: Zone = "UTC"
    task: Task
    misfire_policy: MisfirePolicy = Misfire.RUN_ONCE
    overlap_policy: OverlapPolicy = Overlap.ALLOW
    enabled: Annotated[bool, Field(strict=True)] = True


class ScheduleChange(BaseModel):
    """`PATCH /api/schedules/<id>`: what is given is changed, the task as a whole."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    name: Name | None = None
    cron: Expression | None = None
    timezone: Zone | None = None
    task: Task | None = None
    misfire_policy: MisfirePolicy | None = None
    overlap_policy: OverlapPolicy | None = None
    enabled: Annotated[bool, Field(strict=True)] | None = None

    @model_validator(mode="after")
    def _one_change(self) -> ScheduleChange:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"say what to change: {', '.join(type(self).model_fields)}")
        return self


class SchedulesQuery(BaseModel):
    """`GET /api/schedules?...`."""

    model_config = ConfigDict(extra="forbid")

    after: Annotated[UUID | None, Field(description="`next_after` of the page before")] = None
    limit: Annotated[
        int, Field(ge=1, le=MOST_LISTED, description="Schedules in one page"), schemas.Digits
    ] = MOST_LISTED


@blueprint.post("")
@describe({201: answers.Schedule}, body=ScheduleBody, faults=[409])
@auth.needs(Scope.WRITE)
def create() -> tuple[Response, int, dict[str, str]]:
    """Keep a schedule. From its next tick on, each tick submits its task, once."""
    asked = reading.body(ScheduleBody)
    new = Schedule(**dict(asked) | {"task": _task(asked.task)})
    with _faults_of_the_task():
        schedule_id = schedules.create(new, caller=auth.caller())
    return _shown(schedule_id), 201, {"Location": f"/api/schedules/{schedule_id}"}


@blueprint.get("")
@describe({200: answers.Schedules}, query=SchedulesQuery)
@auth.needs(Scope.READ)
def index() -> Response:
    """Schedules, the oldest first."""
    asked = reading.query(SchedulesQuery)
    after = str(asked.after) if asked.after else ""
    rows = kept.listed(after=after, limit=asked.limit + 1, caller=auth.caller())
    page = rows[: asked.limit]
    answer: answers.Schedules = {
        "items": [_schedule(row) for row in page],
        "next_after": page[-1].id if len(rows) > len(page) else None,
    }
    return jsonify(answer)


@blueprint.get("/<schedule_id>")
@describe({200: answers.Schedule})
@auth.needs(Scope.READ)
def show(schedule_id: str) -> Response:
    """One schedule, with its next five ticks and what became of the last."""
    return _shown(_id(schedule_id))


@blueprint.patch("/<schedule_id>")
@describe({200: answers.Schedule}, body=ScheduleChange, faults=[409])
@auth.needs(Scope.WRITE)
def change(schedule_id: str) -> Response:
    """Change a schedule. With another expression or zone it goes on with the next tick from now."""
    schedule_id = _id(schedule_id)
    asked = reading.body(ScheduleChange)
    changes = {name: value for name, value in asked if value is not None}
    if asked.task is not None:
        changes["task"] = _task(asked.task)
    with _faults_of_the_task():
        schedules.change(schedule_id, changes, caller=auth.caller())
    return _shown(schedule_id)


@blueprint.delete("/<schedule_id>")
@describe({204: None})
@auth.needs(Scope.WRITE)
def delete(schedule_id: str) -> Response:
    """Let it submit nothing any more. The tasks that it has submitted stay as they are."""
    schedule_id = _id(schedule_id)
    if not kept.drop(schedule_id, caller=auth.caller()):
        raise UnknownSchedule(schedule_id)
    return Response(status=204)


@blueprint.post("/<schedule_id>/pause")
@describe({200: answers.Schedule}, faults=[409])
@auth.needs(Scope.WRITE)
def pause(schedule_id: str) -> Response:
    """Let its ticks pass until it is resumed."""
    return _enabled(schedule_id, enabled=False)


@blueprint.post("/<schedule_id>/resume")
@describe({200: answers.Schedule}, faults=[409])
@auth.needs(Scope.WRITE)
def resume(schedule_id: str) -> Response:
    """Go on with the next tick from now: what came in the pause was not missed."""
    return _enabled(schedule_id, enabled=True)


def _enabled(schedule_id: str, *, enabled: bool) -> Response:
    schedule_id = _id(schedule_id)
    with _faults_of_the_task(status=409):
        schedules.change(schedule_id, {"enabled": enabled}, caller=auth.caller())
    return _shown(schedule_id)


@blueprint.post("/<schedule_id>/run")
@describe({202: answers.Accepted}, headers=["Idempotency-Key"], faults=[409])
@auth.needs(Scope.WRITE)
def run(schedule_id: str) -> tuple[Response, int, dict[str, str]]:
    """Submit its task now, beside its ticks, also while it is paused."""
    schedule_id, caller = _id(schedule_id), auth.caller()
    with _faults_of_the_task(status=409):
        accepted = schedules.run(schedule_id, caller=caller, once=reading.once({}, owner=caller.owner))
    headers = {"Location": f"/api/tasks/{accepted.task_id}", "Retry-After": "1"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return jsonify(told.accepted(accepted)), 202, headers


def _id(word: str) -> str:
    """An id in its one spelling."""
    try:
        return str(UUID(word))
    except ValueError:
        raise UnknownSchedule(word) from None


def _task(given: dict[str, Any]) -> dict[str, Any]:
    """The task as it is kept. Raises Invalid with every fault and its place."""
    try:
        return schedules.kept(schemas.TaskBody.model_validate(given).submission())
    except ValidationError as error:
        raise Invalid(faults_of(error, schemas.TaskBody, "#/task")) from None


@contextmanager
def _faults_of_the_task(*, status: int = 422) -> Iterator[None]:
    try:
        yield
    except (UnknownTaskType, BadParameters) as error:
        raise Invalid(faults_in(error, "#/task"), status=status) from None
    except (NoSecret, Gone) as error:
        raise BadRequest("#/task/webhook", webhook_fault(error), status=status) from None


def _shown(schedule_id: str) -> Response:
    return jsonify(_schedule(kept.get(schedule_id, caller=auth.caller())))


def _schedule(row: Any) -> answers.Schedule:
    each = cron.Cron(row.cron, row.timezone)
    here = f"/api/schedules/{row.id}"
    return {
        "schedule_id": row.id,
        "owner": row.owner,
        "name": row.name,
        "cron": row.cron,
        "in_words": each.in_words(),
        "timezone": row.timezone,
        "task": schemas.task_body(schedules.submission_of(row.task)),
        "misfire_policy": Misfire(row.misfire_policy),
        "overlap_policy": Overlap(row.overlap_policy),
        "enabled": bool(row.enabled),
        "next_ticks": [told.moment(tick) for tick in kept.next_ticks(row, NEXT_TICKS)],
        "last": _last(row),
        "remark": {"at": told.moment(row.remark_at), "text": row.remark} if row.remark else None,
        "created_at": told.moment(row.created_at),
        "changed_at": told.moment(row.changed_at),
        "links": {
            "self": here,
            "run": f"{here}/run",
            "pause": f"{here}/pause",
            "resume": f"{here}/resume",
            "tasks": f"/api/tasks?schedule={row.id}",
        },
    }


def _last(row: Any) -> answers.LastFiring | None:
    """The state is null when the task is not kept any more."""
    if row.last_task_id is None:
        return None
    return {
        "tick": told.moment(row.last_tick),
        "at": told.moment(row.last_fired_at),
        "task_id": row.last_task_id,
        "state": row.last_state,
    }
