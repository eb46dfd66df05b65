"""`/api/limits`: how many tasks of a type, or of an owner, run at once and start within a minute."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import answers, auth, reading, schemas, told
from api.described import describe
from api.problems import NoSuchLimit
from ledger import keys, limits
from ledger.callers import Scope
from ledger.limits import Limit, Subject, Use, Whose
from tasks import catalog
from tasks.catalog import UnknownTaskType

blueprint = Blueprint("limits", __name__, url_prefix="/api/limits")


class LimitBody(BaseModel):
    """`PUT /api/limits/<subject>/<whose>`: what is left out is not bounded."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    most_running: Annotated[
        int | None, Field(strict=True, ge=0, le=limits.MOST, description="Tasks that run at once; 0 lets none start")
    ] = None
    starts_per_minute: Annotated[
        int | None, Field(strict=True, ge=1, le=limits.MOST, description="Starts within any 60 seconds")
    ] = None

    @model_validator(mode="after")
    def _one_bound(self) -> LimitBody:
        if self.most_running is None and self.starts_per_minute is None:
            raise ValueError("say what to bound: most_running, starts_per_minute or both; DELETE takes a limit away")
        return self


@blueprint.get("")
@describe({200: answers.Limits}, query=schemas.NoQuery)
@auth.needs(Scope.ADMIN)
def index() -> Response:
    """Every limit, with what is taken under it and how many tasks wait."""
    reading.query(schemas.NoQuery)
    return jsonify({"items": [_limit(use, waiting) for use, waiting in limits.listed()]})


@blueprint.put("/<subject>/<whose>")
@describe({200: answers.Limit}, body=LimitBody, faults=[404])
@auth.needs(Scope.ADMIN)
def put(subject: str, whose: str) -> Response:
    """Set a limit, from now on, in the place of one that is there. What runs goes on, also beyond it."""
    named = _whose(subject, whose)
    asked = reading.body(LimitBody)
    limits.put(Limit(named, asked.most_running, asked.starts_per_minute))
    # Somebody may have taken it away again.
    return jsonify(next((_limit(*each) for each in limits.listed(named)), None))


@blueprint.delete("/<subject>/<whose>")
@describe({204: None}, faults=[404])
@auth.needs(Scope.ADMIN)
def delete(subject: str, whose: str) -> Response:
    """Take a limit away: what waits for a place under it is let in."""
    named = _whose(subject, whose, must_be_known=False)
    if not (whose.isascii() and limits.remove(named)):
        raise NoSuchLimit(f"there is no limit of {subject} {whose!r}; GET /api/limits lists them")
    return Response(status=204)


def _whose(subject: str, name: str, *, must_be_known: bool = True) -> Whose:
    """A limit of a type that the code has no more can still be taken away."""
    if subject not in {each.value for each in Subject}:
        raise NoSuchLimit(f"limits are of a type or of an owner, not of {subject!r}")
    if subject == Subject.OWNER and not keys.is_owner(name):
        raise NoSuchLimit(f"nobody is called {name!r}: {keys.OWNERS}")
    if subject == Subject.TYPE and must_be_known:
        try:
            catalog.get(name)
        except UnknownTaskType as error:
            raise NoSuchLimit(str(error)) from None
    return Whose(Subject(subject), name)


def _limit(use: Use, waiting: int) -> answers.Limit:
    limit = use.limit
    return {
        "subject": limit.whose.subject.value,
        "name": limit.whose.name,
        "most_running": limit.most_running,
        "running": use.running,
        "starts_per_minute": limit.starts_per_minute,
        "starts": use.starts,
        "waiting": waiting,
        "changed_at": told.moment(limit.changed_at),
    }
