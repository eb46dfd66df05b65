"""The one table from what went wrong to what the client is told: RFC 9457 problem details, never a traceback."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Collection, Iterable
from typing import Any, get_args

from flask import Flask, Response, json, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from api.answers import Fault
from api.auth import MissingScope, TooManyFailures, Unauthorized
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
from tasks import log
from tasks.catalog import NotForYou, UnknownTaskType
from tasks.edit import NotWaiting, Stale
from tasks.replay import NotReplayable, NotResolvable
from tasks.revoke import UnknownTask
from tasks.storage import MissingFile, NoRoom, NotAFile, TooLarge
from tasks.submit import BadParameters

logger = logging.getLogger(__name__)

_OVER_QUOTA = "https://iana.org/assignments/http-problem-types#quota-exceeded"

#: Seconds after which a client may try again when the ledger is away.
RETRY_AFTER_SECONDS = 1


class BadRequest(Exception):
    """One field is wrong; `pointer` names it."""

    def __init__(self, pointer: str, detail: str, *, status: int = 422) -> None:
        self.pointer, self.detail, self.status = pointer, detail, status
        super().__init__(detail)


class Invalid(Exception):
    """Several fields are wrong; `faults` has them as (pointer, detail, code)."""

    def __init__(self, faults: list[Fault], *, status: int = 422) -> None:
        self.faults, self.status = faults, status
        super().__init__(f"{len(faults)} fields are wrong")


class UnknownQueue(Exception):
    """There is no such queue; `known` are those that may be meant."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        super().__init__(f"there is no queue {name!r}{_did_you_mean(name, known)}")


class Forbidden(Exception):
    """The request may have been made by a page that the user did not mean to act for."""


def problem(status: int, title: str, detail: str, *, kind: str = "about:blank", **more: Any) -> Response:
    """A problem document. `error` repeats the title for clients of older interfaces."""
    body = {
        "type": kind,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.path,
        "request_id": log.request_id.get(),
        "error": title,
        **more,
    }
    response = Response(json.dumps(body), status=status, content_type="application/problem+json")
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def faults_of(error: ValidationError, model: type[BaseModel], prefix: str = "#") -> list[Fault]:
    """A model's complaints as (pointer, detail), with the field that was probably meant."""
    return _faults(error.errors(include_input=False, include_url=False), model, prefix)


def _faults(errors: Iterable[Any], model: type[BaseModel], prefix: str) -> list[Fault]:
    return [_fault(each, model, prefix) for each in errors]


def _fault(each: dict[str, Any], model: type[BaseModel], prefix: str) -> Fault:
    place, detail = [str(part) for part in each["loc"]], str(each["msg"]).removeprefix("Value error, ")
    if each["type"] == "extra_forbidden":
        detail = f"there is no such field{_did_you_mean(place[-1], _model_at(model, place[:-1]).model_fields)}"
    elif each["type"] == "missing":
        detail = f"{place[-1]} is required"
    return {"pointer": "/".join([prefix, *place]), "detail": detail, "code": each["type"]}


def _model_at(model: type[BaseModel], place: Iterable[str]) -> type[BaseModel]:
    """The model that stands in a field of another, as far as it leads."""
    for name in place:
        field = model.model_fields.get(name)
        choices = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((each for each in choices if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return model


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(known) or 'none'}"


def faults_in(error: UnknownTaskType | BadParameters, place: str = "#") -> list[Fault]:
    """What is wrong with a submission that is no fault of its form; `place` is where it stands in the body."""
    if isinstance(error, UnknownTaskType):
        return [{"pointer": f"{place}/task_type", "detail": str(error), "code": "invalid"}]
    return _faults(error.faults, error.model, f"{place}/parameters")


def webhook_fault(error: NoSecret | Gone) -> str:
    """Why a webhook would be told nothing, and the way out."""
    if isinstance(error, NoSecret):
        return "there is no secret to sign it with; make one first: POST /api/webhooks/secrets"
    return f"{error}; POST /api/tasks/<id>/deliveries/<seq>/retry for one of those takes it back when it is answered"


def invalid(faults: list[Fault], *, status: int = 422) -> Response:
    """Some fields are wrong: say which, and how."""
    detail = "; ".join(f"{fault['pointer'].removeprefix('#/')}: {fault['detail']}" for fault in faults)
    return problem(status, "Validation failed", detail, kind="/problems/validation", errors=faults)


def _one(pointer: str, detail: str, *, status: int = 422) -> Response:
    return invalid([{"pointer": pointer, "detail": detail, "code": "invalid"}], status=status)


def register(app: Flask) -> None:
    """Make every exception that may reach the door an answer."""

    @app.errorhandler(BadRequest)
    def _(error: BadRequest) -> Response:
        return _one(error.pointer, error.detail, status=error.status)

    @app.errorhandler(Invalid)
    def _(error: Invalid) -> Response:
        return invalid(error.faults, status=error.status)

    @app.errorhandler(BadJson)
    def _(error: BadJson) -> Response:
        return problem(400, "Broken JSON", str(error), kind="/problems/broken-json")

    @app.errorhandler(UnknownTaskType)
    @app.errorhandler(BadParameters)
    def _(error: UnknownTaskType | BadParameters) -> Response:
        return invalid(faults_in(error))

    @app.errorhandler(UnknownParents)
    @app.errorhandler(Circle)
    def _(error: Exception) -> Response:
        return _one("#/depends_on", str(error))

    @app.errorhandler(NoSecret)
    def _(error: NoSecret) -> Response:
        return _one("#/webhook", webhook_fault(error))

    @app.errorhandler(Gone)
    def _(error: Gone) -> Response:
        return _one("#/webhook/url", webhook_fault(error))

    @app.errorhandler(KeyReused)
    def _(error: KeyReused) -> Response:
        return problem(422, "Key used before", inspect.getdoc(error) or "", kind="/problems/idempotency-key-reused")

    @app.errorhandler(NotWaiting)
    def _(error: NotWaiting) -> Response:
        return problem(
            409, "Not changed", str(error), kind="/problems/not-waiting", task_id=error.task_id, state=error.state
        )

    @app.errorhandler(Stale)
    def _(error: Stale) -> Response:
        return problem(412, "Changed meanwhile", inspect.getdoc(error) or "", kind="/problems/changed-meanwhile")

    @app.errorhandler(BadCursor)
    def _(error: BadCursor) -> Response:
        return _one("?cursor", str(error), status=400)

    @app.errorhandler(UnknownTask)
    def _(error: UnknownTask) -> Response:
        return problem(404, "No such task", f"no task has the id {str(error)!r}", kind="/problems/no-such-task")

    @app.errorhandler(NotReplayable)
    def _(error: NotReplayable) -> Response:
        return problem(409, "Not tried again", str(error), kind="/problems/not-replayable", state=error.state)

    @app.errorhandler(NotResolvable)
    def _(error: NotResolvable) -> Response:
        return problem(409, "Nothing to resolve", str(error), kind="/problems/not-resolvable", state=error.state)

    @app.errorhandler(UnknownSchedule)
    def _(error: UnknownSchedule) -> Response:
        words = f"no schedule has the id {str(error)!r}"
        return problem(404, "No such schedule", words, kind="/problems/no-such-schedule")

    @app.errorhandler(NameTaken)
    @app.errorhandler(TooMany)
    def _(error: Exception) -> Response:
        return problem(409, "Not kept", str(error), kind="/problems/schedule-not-kept")

    @app.errorhandler(BadCron)
    def _(error: BadCron) -> Response:
        return _one("#/cron", str(error))

    @app.errorhandler(UnknownZone)
    def _(error: UnknownZone) -> Response:
        return _one("#/timezone", str(error))

    @app.errorhandler(UnknownQueue)
    def _(error: UnknownQueue) -> Response:
        return problem(404, "No such queue", str(error), kind="/problems/no-such-queue")

    @app.errorhandler(Unauthorized)
    def _(error: Unauthorized) -> Response:
        answer = problem(401, "Unauthorized", str(error), kind="/problems/unauthorized")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="sluice"'
        return answer

    @app.errorhandler(MissingScope)
    @app.errorhandler(NotForYou)
    def _(error: MissingScope | NotForYou) -> Response:
        answer = problem(403, "Forbidden", str(error), kind="/problems/missing-scope", missing_scope=error.scope)
        answer.headers["WWW-Authenticate"] = (
            f'Bearer realm="sluice", error="insufficient_scope", scope="{error.scope}"'
        )
        return answer

    @app.errorhandler(TooManyFailures)
    def _(error: TooManyFailures) -> Response:
        answer = problem(429, "Too many wrong keys", str(error), kind="/problems/too-many-wrong-keys")
        answer.headers["Retry-After"] = "60"
        return answer

    @app.errorhandler(TooManyRequests)
    @app.errorhandler(OverQuota)
    def _(error: TooManyRequests | OverQuota) -> Response:
        answer = problem(429, "Over quota", str(error), kind=_OVER_QUOTA)
        answer.headers["Retry-After"] = str(error.wait_seconds)
        return answer

    @app.errorhandler(Forbidden)
    def _(error: Forbidden) -> Response:
        return problem(403, "Refused", str(error), kind="/problems/refused")

    @app.errorhandler(MissingFile)
    @app.errorhandler(NotAFile)
    def _(error: Exception) -> Response:
        return problem(404, "No such file", str(error))

    @app.errorhandler(TooLarge)
    def _(error: TooLarge) -> Response:
        return problem(413, "Too large", str(error))

    @app.errorhandler(RequestEntityTooLarge)
    def _(_: RequestEntityTooLarge) -> Response:
        return problem(413, "Too large", f"a body may have at most {request.max_content_length or 0:,} bytes here")

    @app.errorhandler(NoRoom)
    def _(error: NoRoom) -> Response:
        logger.error("refused: %s", error, extra={"action": "storage_full"})
        return problem(507, "No room left", f"{error}; nothing was kept, try again when there is room")

    @app.errorhandler(db.Full)
    def _(error: db.Full) -> Response:
        logger.error("refused: %s", error, extra={"action": "ledger_full"})
        return problem(503, "Database full", "the database's disk is full; nothing was accepted, try again later")

    @app.errorhandler(db.Unavailable)
    def _(error: db.Unavailable) -> Response:
        logger.warning("refused: %s", error, extra={"action": "ledger_away"})
        return problem(
            503, "Database unavailable", "the database does not answer; nothing was accepted, try again"
        )

    @app.errorhandler(HTTPException)
    def _(error: HTTPException) -> Response:
        original = error.get_response()
        answer = problem(error.code or 500, error.name, error.description or error.name)
        # A 405 must say what is allowed, a 413 that the connection ends, and so on.
        for name, value in original.headers.items():
            if name.lower() not in {"content-type", "content-length"}:
                answer.headers[name] = value
        return answer

    @app.errorhandler(Exception)
    def _(error: Exception) -> Response:
        logger.exception("unexpected error", extra={"action": "unexpected_error"})
        return problem(500, "Internal error", "something unexpected happened; the log has it under the request id")
