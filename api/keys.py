"""`/api/keys`: make, list and revoke API keys, for admins; and what the key of a request may do.

Only the answer that made a key shows its secret.
"""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from api import answers, auth, reading, schemas, told
from api.described import describe
from api.problems import BadRequest, problem
from ledger import keys
from ledger.callers import Scope

blueprint = Blueprint("keys", __name__, url_prefix="/api/keys")

_Bound = Annotated[int, Field(strict=True, ge=1, le=2_000_000_000)]


class KeyBody(BaseModel):
    """`POST /api/keys`."""

    model_config = ConfigDict(extra="forbid")

    owner: Annotated[str, Field(max_length=32, description="Whose it is; an owner sees the tasks of all of its keys")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = Field(
        default_factory=lambda: list(keys.USUAL_SCOPES)
    )
    expires_in: Annotated[int, Field(strict=True, ge=1, le=10 * 365 * 86_400, description="Seconds")] | None = None
    requests_per_minute: _Bound | None = None
    most_open_tasks: _Bound | None = None
    mails_per_day: Annotated[int, Field(strict=True, ge=0, le=2_000_000_000)] | None = None
    note: Annotated[str, Field(max_length=200)] = ""


@blueprint.post("")
@describe({201: answers.NewKey}, body=KeyBody)
@auth.needs(Scope.ADMIN)
def create() -> Response:
    """Make a key. The answer shows it, this once."""
    asked = reading.body(KeyBody)
    bounds = asked.model_dump(include={"requests_per_minute", "most_open_tasks", "mails_per_day", "note"})
    secret = keys.make()
    try:
        keys.add(
            secret, owner=asked.owner, scopes=set(asked.scopes), expires_in_seconds=asked.expires_in, **bounds
        )
    except keys.BadKey as error:
        raise BadRequest("#/owner", str(error)) from None
    answer: answers.NewKey = {"id": secret.key_id, "key": secret.words, "message": "Keep it: it is not shown again."}
    response = jsonify(answer)
    response.status_code = 201
    response.headers["Location"] = f"/api/keys/{secret.key_id}"
    return response


@blueprint.get("")
@describe({200: answers.Keys}, query=schemas.NoQuery)
@auth.needs(Scope.ADMIN)
def index() -> Response:
    """Every key, without its secret."""
    reading.query(schemas.NoQuery)
    return jsonify({"items": [_key(row) for row in keys.listed()]})


@blueprint.get("/mine")
@describe({200: answers.OwnKey}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def mine() -> Response:
    """Whose the key of this request is, and what it may do."""
    reading.query(schemas.NoQuery)
    caller = auth.caller()
    answer: answers.OwnKey = {
        "id": caller.key_id,
        "owner": caller.owner,
        "scopes": sorted(scope for scope in Scope if caller.may(scope)),
    }
    return jsonify(answer)


@blueprint.delete("/<key_id>")
@describe({204: None}, faults=[404])
@auth.needs(Scope.ADMIN)
def revoke(key_id: str) -> Response:
    """Keep a key out, for good: from the next seconds on it opens nothing."""
    if not (key_id.isascii() and keys.revoke(key_id)):
        return problem(404, "No such key", "there is no key of this id that is not revoked already")
    return Response(status=204)


def _key(row: Any) -> answers.Key:
    return {
        "id": row.id,
        "owner": row.owner,
        "scopes": row.scopes.split(","),
        "requests_per_minute": row.requests_per_minute,
        "most_open_tasks": row.most_open_tasks,
        "mails_per_day": row.mails_per_day,
        "note": row.note,
        "created_at": told.moment(row.created_at),
        "expires_at": told.moment(row.expires_at),
        "revoked_at": told.moment(row.revoked_at),
        "last_used_at": told.moment(row.last_used_at),
    }
