"""What clients see of webhooks: how each delivery went, trying one again, and the secrets that sign them."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from api import answers, auth, reading, schemas, told
from api.described import describe
from api.problems import problem
from ledger import deliveries, outbox, webhook_secrets
from ledger.callers import Scope
from ledger.deliveries import Again, Told
from tasks.revoke import UnknownTask

blueprint = Blueprint("webhooks", __name__)

LONGEST_OVERLAP_SECONDS = 7 * 86_400

_RETRY = "/api/tasks/<task_id>/deliveries/<seq>/retry"


@blueprint.get("/api/tasks/<task_id>/deliveries")
@describe({200: answers.Deliveries}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def index(task_id: str) -> Response:
    """What the task's webhook was told, and how each try went."""
    task_id = reading.task_id(task_id)
    reading.query(schemas.NoQuery)
    return jsonify({"task_id": task_id, "items": _shown(task_id)})


@blueprint.post(_RETRY)
@describe({202: answers.Delivery}, faults=[409])
@auth.needs(Scope.WRITE)
def retry(task_id: str, seq: str) -> Response:
    """Deliver again: one more try of what is over, a try at once of what waits."""
    task_id = reading.task_id(task_id)
    number = int(seq) if seq.isascii() and seq.isdigit() and len(seq) < 19 else 0
    match deliveries.again(task_id, number, by=f"POST {_RETRY}", caller=auth.caller()):
        case Again.UNKNOWN:
            return problem(404, "No such delivery", f"the task {task_id} has no delivery {seq!r}")
        case Again.UNDER_WAY:
            return problem(409, "Under way", "a try is just under way; look how it went before you ask for another")
    [now] = [each for each in _shown(task_id) if each["seq"] == number]
    response = jsonify(now)
    response.status_code = 202
    response.headers["Location"] = f"/api/tasks/{task_id}/deliveries"
    return response


def _shown(task_id: str) -> list[answers.Delivery]:
    found = deliveries.of_task(task_id, caller=auth.caller())
    if found is None:
        raise UnknownTask(task_id)
    return [_delivery(each) for each in found]


def _delivery(delivery: Told) -> answers.Delivery:
    row = delivery.row
    waits = row.outcome is None and row.trying_since is None
    return {
        "id": deliveries.message_id(row.task_id, row.seq),
        "seq": row.seq,
        "type": outbox.TYPES[row.state],  # type: ignore[typeddict-item]
        "at": told.moment(row.at),
        "state": row.outcome or ("pending" if waits else "under_way"),
        "tries_left": row.tries_left,
        "next_try_at": told.moment(row.next_at) if waits else None,
        "settled_at": told.moment(row.settled_at),
        "tries": [_try(each) for each in delivery.tries],
    }


def _try(row: Any) -> answers.Try:
    return {
        "number": row.number,
        "at": told.moment(row.at),
        "milliseconds": row.milliseconds,
        "status": row.status,
        "error": row.error,
    }


# --- secrets --------------------------------------------------------------------------------------------------------


class SecretBody(BaseModel):
    """`POST /api/webhooks/secrets`; may be left out."""

    model_config = ConfigDict(extra="forbid")

    overlap: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=LONGEST_OVERLAP_SECONDS,
            description="Seconds for which the secret before goes on signing too; 0 when somebody else knows it",
        ),
    ] = webhook_secrets.USUAL_OVERLAP_SECONDS


@blueprint.post("/api/webhooks/secrets")
@describe({201: answers.NewWebhookSecret}, body=SecretBody)
@auth.needs(Scope.WRITE)
def make_secret() -> Response:
    """Make the secret that webhooks of the key's owner are signed with, in the place of the one before.

    The answer shows it, this once. For a while each request has both signatures.
    """
    asked = reading.body(SecretBody)
    made = webhook_secrets.make(overlap_seconds=asked.overlap, caller=auth.caller())
    answer: answers.NewWebhookSecret = {
        "id": made.secret_id,
        "secret": made.words,
        "message": "Keep it: it is not shown again.",
    }
    response = jsonify(answer)
    response.status_code = 201
    response.headers["Location"] = f"/api/webhooks/secrets/{made.secret_id}"
    return response


@blueprint.get("/api/webhooks/secrets")
@describe({200: answers.WebhookSecrets}, query=schemas.NoQuery)
@auth.needs(Scope.READ)
def secrets() -> Response:
    """Which secrets sign webhooks of the key's owner, the newest first; not the secrets themselves."""
    reading.query(schemas.NoQuery)
    items: list[answers.WebhookSecret] = [
        {"id": row.id, "created_at": told.moment(row.created_at), "expires_at": told.moment(row.expires_at)}
        for row in webhook_secrets.listed(caller=auth.caller())
    ]
    return jsonify({"items": items})


@blueprint.delete("/api/webhooks/secrets/<secret_id>")
@describe({204: None}, faults=[404])
@auth.needs(Scope.WRITE)
def revoke_secret(secret_id: str) -> Response:
    """Let a secret sign no more, from now on."""
    if not (secret_id.isascii() and webhook_secrets.revoke(secret_id, caller=auth.caller())):
        return problem(404, "No such secret", "no secret of this id signs webhooks of this key's owner")
    return Response(status=204)
