"""Reads what a request says: its body, its id, its query. Everything that is wrong is told with its field."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, TypeVar, get_origin
from uuid import UUID

from flask import Response, after_this_request, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_dict_header

from api import strict_json
from api.problems import BadRequest, Invalid, faults_of
from api.schemas import LONGEST_WAIT_SECONDS
from api.strict_json import MOST_KEYS, BadJson
from ledger.idempotency import Once
from tasks.revoke import UnknownTask

M = TypeVar("M", bound=BaseModel)


def body(model: type[M]) -> M:
    """The body as one of our models; where no field is required there may be none. Raises Invalid with every fault."""
    return checked(json_object() if request.get_data() or needs_body(model) else {}, model)


def checked(given: dict[str, Any], model: type[M]) -> M:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise Invalid(faults_of(error, model)) from None


def needs_body(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def query(model: type[M]) -> M:
    """The query as one of our models; fields that are lists may be given several times."""
    given: dict[str, Any] = {}
    for name, words in request.args.lists():
        field = model.model_fields.get(name)
        several = field is not None and get_origin(field.annotation) is list
        if len(words) > 1 and not several:
            raise BadRequest(f"?{name}", f"{name} may be given only once", status=400)
        given[name] = words if several else words[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        faults = [fault | {"pointer": _of_query(fault["pointer"])} for fault in faults_of(error, model, "?")]
        raise Invalid(faults, status=400) from None


def _of_query(pointer: str) -> str:
    """`?/state/0` as `?state`."""
    return f"?{pointer.split('/')[1]}"


def once(given: dict[str, Any], *, owner: str) -> Once | None:
    """The `Idempotency-Key` of the request, quoted as the standard has it or bare as many write it."""
    shown = request.headers.get("Idempotency-Key")
    if shown is None:
        return None
    found = _KEY.fullmatch(shown)
    if found is None:
        said = 'Idempotency-Key must have 1 to 255 printable ASCII characters, in "quotes" if it holds blanks or quotes'
        raise BadRequest("Idempotency-Key", said, status=400)
    key = _ESCAPED.sub(r"\1", found["quoted"]) if found["bare"] is None else found["bare"]
    canonical = json.dumps([request.path.rstrip("/"), given], sort_keys=True, separators=(",", ":"))
    return Once(owner, key, hashlib.sha256(canonical.encode()).hexdigest())


#: A string of RFC 8941, or the same without its quotes.
_KEY = re.compile(r'"(?P<quoted>(?:[ !#-\[\]-~]|\\["\\]){1,255})"|(?P<bare>[!#-~]{1,255})')
_ESCAPED = re.compile(r'\\(["\\])')


def json_object(*, most_bytes: int = 0, most_keys: int = MOST_KEYS) -> dict[str, Any]:
    """The body of the request, which must be a JSON object."""
    if most_bytes:
        request.max_content_length = most_bytes
    body = request.get_data()
    if request.content_length is None and len(body) >= (request.max_content_length or 0):
        # Without a length the server cuts the body off where the limit is.
        raise RequestEntityTooLarge
    if not body:
        raise BadJson("No data provided: the body must be a JSON object")
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("the body must be application/json; set the Content-Type header")
    value = strict_json.parse(body, most_keys=most_keys)
    if not isinstance(value, dict):
        raise BadJson("the body must be a JSON object, such as {\"task_type\": \"data_processing\"}")
    return value


def task_id(word: str) -> str:
    """An id in its one spelling; anything else is no task's id."""
    try:
        return str(UUID(word))
    except ValueError:
        raise UnknownTask(word) from None


def asked_wait() -> int | None:
    """Seconds that the client prefers to wait for the outcome: `Prefer: wait=10` (RFC 7240).

    As the RFC has it, a preference that makes no sense is passed over.
    """
    word = parse_dict_header(request.headers.get("Prefer", "")).get("wait") or ""
    return min(int(word[:9]), LONGEST_WAIT_SECONDS) if word.isascii() and word.isdigit() else None


def preferred_wait(usual: float) -> float:
    """The same with a default; the answer says what was heeded."""
    seconds = asked_wait()
    if seconds is None:
        return usual

    @after_this_request
    def _(response: Response) -> Response:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        return response

    return seconds
