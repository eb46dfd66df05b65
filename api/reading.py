"""Reads what a request says: its body, its id, its query. Everything that is wrong is told with its field."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Response, after_this_request, request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_dict_header

from api import strict_json
from api.errors import BadRequest
from api.strict_json import BadJson
from settings import settings
from tasks.revoke import UnknownTask

#: The longest that a request waits for an outcome because its client asked for it.
MOST_WAIT_SECONDS = 30


def json_object() -> dict[str, Any]:
    """The body of the request, which must be a JSON object."""
    body = request.get_data()
    if request.content_length is None and len(body) >= settings().body_bytes:
        # Without a length the server cuts the body off where the limit is.
        raise RequestEntityTooLarge
    if not body:
        raise BadJson("No data provided: the body must be a JSON object")
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("the body must be application/json; set the Content-Type header")
    value = strict_json.parse(body)
    if not isinstance(value, dict):
        raise BadJson("the body must be a JSON object, such as {\"task_type\": \"data_processing\"}")
    return value


def task_id(word: str) -> str:
    """An id in its one spelling; anything else is no task's id."""
    try:
        return str(UUID(word))
    except ValueError:
        raise UnknownTask(word) from None


def preferred_wait(usual: float) -> float:
    """Seconds that the client wants to wait for the outcome: `Prefer: wait=10` (RFC 7240), at most MOST_WAIT_SECONDS.

    As the RFC has it, a preference that makes no sense is passed over.
    """
    word = parse_dict_header(request.headers.get("Prefer", "")).get("wait") or ""
    if not (word.isascii() and word.isdigit()):
        return usual
    seconds = min(int(word[:9]), MOST_WAIT_SECONDS)

    @after_this_request
    def _(response: Response) -> Response:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        return response

    return seconds


def only_arguments(known: Collection[str]) -> None:
    for name in request.args:
        if name not in known:
            raise BadRequest(f"?{name}", f"there is no such filter; known are {', '.join(sorted(known))}", status=400)


def choices(name: str, known: tuple[str, ...]) -> list[str]:
    words = request.args.getlist(name)
    for word in words:
        if word not in known:
            raise BadRequest(f"?{name}", f"{word!r} is not one of {', '.join(known)}", status=400)
    return words


def number(name: str, *, default: int, least: int, most: int) -> int:
    word = request.args.get(name)
    if word is None:
        return default
    if not (word.isascii() and word.isdigit() and len(word) < 20 and least <= int(word) <= most):
        raise BadRequest(f"?{name}", f"{name} must be a number from {least} to {most}", status=400)
    return int(word)


def flag(name: str) -> bool:
    word = request.args.get(name, "0")
    if word not in ("0", "1", "false", "true"):
        raise BadRequest(f"?{name}", f"{name} must be 1 or 0", status=400)
    return word in ("1", "true")


def time(name: str) -> datetime | None:
    word = request.args.get(name)
    if word is None:
        return None
    try:
        found = datetime.fromisoformat(word[:40])
        if found.tzinfo is None:
            raise ValueError("a time without its offset")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        fault = f"{name} must be a time such as 2026-01-31T12:00:00Z"
        raise BadRequest(f"?{name}", fault, status=400) from None
