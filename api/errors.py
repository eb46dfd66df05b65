"""The one table from what went wrong to what the client is told: RFC 9457 problem details, never a traceback."""

from __future__ import annotations

import inspect
import logging

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api.auth import MissingScope, TooManyFailures, Unauthorized
from api.problems import (
    BadRequest,
    Forbidden,
    Invalid,
    NoSuchLimit,
    UnknownQueue,
    fault_at,
    faults_in,
    invalid,
    problem,
    webhook_fault,
)
from api.quotas import TooManyRequests
from api.strict_json import BadJson
from ledger import db
from ledger.cron import BadCron, UnknownZone
from ledger.deliveries import Gone
from ledger.dependents import Circle, UnknownParents
from ledger.idempotency import KeyReused
from ledger.queries import BadCursor
from ledger.quotas import OverQuota
from ledger.schedules import NameTaken, TooMany, UnknownSchedule
from ledger.webhook_secrets import NoSecret
from tasks.catalog import NotForYou, UnknownTaskType
from tasks.edit import NotWaiting, Stale
from tasks.replay import NotReplayable, NotResolvable
from tasks.revoke import UnknownTask
from tasks.storage import MissingFile, NoRoom, NotAFile, TooLarge
from tasks.submit import BadParameters

blueprint = Blueprint("errors", __name__)
logger = logging.getLogger(__name__)

_OVER_QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"


@blueprint.app_errorhandler(BadRequest)
def _(error: BadRequest) -> Response:
    return fault_at(error.pointer, error.detail, status=error.status)


@blueprint.app_errorhandler(Invalid)
def _(error: Invalid) -> Response:
    return invalid(error.faults, status=error.status)


@blueprint.app_errorhandler(BadJson)
def _(error: BadJson) -> Response:
    return problem(400, "Broken JSON", str(error), kind="/problems/broken-json")


@blueprint.app_errorhandler(UnknownTaskType)
@blueprint.app_errorhandler(BadParameters)
def _(error: UnknownTaskType | BadParameters) -> Response:
    return invalid(faults_in(error))


@blueprint.app_errorhandler(UnknownParents)
@blueprint.app_errorhandler(Circle)
def _(error: Exception) -> Response:
    return fault_at("#/depends_on", str(error))


@blueprint.app_errorhandler(NoSecret)
def _(error: NoSecret) -> Response:
    return fault_at("#/webhook", webhook_fault(error))


@blueprint.app_errorhandler(Gone)
def _(error: Gone) -> Response:
    return fault_at("#/webhook/url", webhook_fault(error))


@blueprint.app_errorhandler(KeyReused)
def _(error: KeyReused) -> Response:
    return problem(422, "Key used before", inspect.getdoc(error) or "", kind="/problems/idempotency-key-reused")


@blueprint.app_errorhandler(NotWaiting)
def _(error: NotWaiting) -> Response:
    return problem(
        409, "Not changed", str(error), kind="/problems/not-waiting", task_id=error.task_id, state=error.state
    )


@blueprint.app_errorhandler(Stale)
def _(error: Stale) -> Response:
    return problem(412, "Changed meanwhile", inspect.getdoc(error) or "", kind="/problems/changed-meanwhile")


@blueprint.app_errorhandler(BadCursor)
def _(error: BadCursor) -> Response:
    return fault_at("?cursor", str(error), status=400)


@blueprint.app_errorhandler(UnknownTask)
def _(error: UnknownTask) -> Response:
    return problem(404, "No such task", f"no task has the id {str(error)!r}", kind="/problems/no-such-task")


@blueprint.app_errorhandler(NotReplayable)
def _(error: NotReplayable) -> Response:
    return problem(409, "Not tried again", str(error), kind="/problems/not-replayable", state=error.state)


@blueprint.app_errorhandler(NotResolvable)
def _(error: NotResolvable) -> Response:
    return problem(409, "Nothing to resolve", str(error), kind="/problems/not-resolvable", state=error.state)


@blueprint.app_errorhandler(UnknownSchedule)
def _(error: UnknownSchedule) -> Response:
    words = f"no schedule has the id {str(error)!r}"
    return problem(404, "No such schedule", words, kind="/problems/no-such-schedule")


@blueprint.app_errorhandler(NameTaken)
@blueprint.app_errorhandler(TooMany)
def _(error: Exception) -> Response:
    return problem(409, "Not kept", str(error), kind="/problems/schedule-not-kept")


@blueprint.app_errorhandler(BadCron)
def _(error: BadCron) -> Response:
    return fault_at("#/cron", str(error))


@blueprint.app_errorhandler(UnknownZone)
def _(error: UnknownZone) -> Response:
    return fault_at("#/timezone", str(error))


@blueprint.app_errorhandler(UnknownQueue)
def _(error: UnknownQueue) -> Response:
    return problem(404, "No such queue", str(error), kind="/problems/no-such-queue")


@blueprint.app_errorhandler(NoSuchLimit)
def _(error: NoSuchLimit) -> Response:
    return problem(404, "No such limit", str(error), kind="/problems/no-such-limit")


@blueprint.app_errorhandler(Unauthorized)
def _(error: Unauthorized) -> Response:
    answer = problem(401, "Unauthorized", str(error), kind="/problems/unauthorized")
    answer.headers["WWW-Authenticate"] = 'Bearer realm="sluice"'
    return answer


@blueprint.app_errorhandler(MissingScope)
@blueprint.app_errorhandler(NotForYou)
def _(error: MissingScope | NotForYou) -> Response:
    answer = problem(403, "Forbidden", str(error), kind="/problems/missing-scope", missing_scope=error.scope)
    answer.headers["WWW-Authenticate"] = (
        f'Bearer realm="sluice", error="insufficient_scope", scope="{error.scope}"'
    )
    return answer


@blueprint.app_errorhandler(TooManyFailures)
def _(error: TooManyFailures) -> Response:
    answer = problem(429, "Too many wrong keys", str(error), kind="/problems/too-many-wrong-keys")
    answer.headers["Retry-After"] = "60"
    return answer


@blueprint.app_errorhandler(TooManyRequests)
@blueprint.app_errorhandler(OverQuota)
def _(error: TooManyRequests | OverQuota) -> Response:
    answer = problem(429, "Over quota", str(error), kind=_OVER_QUOTA)
    answer.headers["Retry-After"] = str(error.wait_seconds)
    return answer


@blueprint.app_errorhandler(Forbidden)
def _(error: Forbidden) -> Response:
    return problem(403, "Refused", str(error), kind="/problems/refused")


@blueprint.app_errorhandler(MissingFile)
@blueprint.app_errorhandler(NotAFile)
def _(error: Exception) -> Response:
    return problem(404, "No such file", str(error))


@blueprint.app_errorhandler(TooLarge)
def _(error: TooLarge) -> Response:
    return problem(413, "Too large", str(error))


@blueprint.app_errorhandler(RequestEntityTooLarge)
def _(_: RequestEntityTooLarge) -> Response:
    return problem(413, "Too large", f"a body may have at most {request.max_content_length or 0:,} bytes here")


@blueprint.app_errorhandler(NoRoom)
def _(error: NoRoom) -> Response:
    logger.error("refused: %s", error, extra={"action": "storage_full"})
    return problem(507, "No room left", f"{error}; nothing was kept, try again when there is room")


@blueprint.app_errorhandler(db.Full)
def _(error: db.Full) -> Response:
    logger.error("refused: %s", error, extra={"action": "ledger_full"})
    return problem(503, "Database full", "the database's disk is full; nothing was accepted, try again later")


@blueprint.app_errorhandler(db.Unavailable)
def _(error: db.Unavailable) -> Response:
    logger.warning("refused: %s", error, extra={"action": "ledger_away"})
    return problem(
        503, "Database unavailable", "the database does not answer; nothing was accepted, try again"
    )


@blueprint.app_errorhandler(HTTPException)
def _(error: HTTPException) -> Response:
    original = error.get_response()
    answer = problem(error.code or 500, error.name, error.description or error.name)
    # A 405 must say what is allowed, a 413 that the connection ends, and so on.
    for name, value in original.headers.items():
        if name.lower() not in {"content-type", "content-length"}:
            answer.headers[name] = value
    return answer


@blueprint.app_errorhandler(Exception)
def _(error: Exception) -> Response:
    logger.exception("unexpected error", extra={"action": "unexpected_error"})
    return problem(500, "Internal error", "something unexpected happened; the log has it under the request id")
