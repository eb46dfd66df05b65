"""Says what is wrong: RFC 9457 problem documents, each fault with its field and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any, get_args

from flask import Response, json, request
from pydantic import BaseModel, ValidationError

from api.answers import Fault
from ledger.deliveries import Gone
from ledger.webhook_secrets import NoSecret
from tasks import log
from tasks.catalog import UnknownTaskType
from tasks.submit import BadParameters

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


class NoSuchLimit(Exception):
    """There is no such limit, or can be none."""


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


def fault_at(pointer: str, detail: str, *, status: int = 422) -> Response:
    """One field is wrong."""
    return invalid([{"pointer": pointer, "detail": detail, "code": "invalid"}], status=status)
