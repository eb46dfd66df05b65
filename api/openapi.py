"""The OpenAPI 3.1 document: what stands beside each route, put together.

The schemas are made from the very models that check requests and from the types that mypy holds the answers to, so that
the document cannot say something else than the code.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, reduce
from http import HTTPStatus
from typing import Annotated, Any, Literal

from flask import Flask
from pydantic import BaseModel, Field, TypeAdapter, create_model
from werkzeug.routing import Rule

from api import answers, auth, described, reading, schedules, schemas
from api.described import PATH_PARAMETERS, REQUEST_HEADERS, Described, Media
from tasks import catalog

Document = dict[str, Any]

VERSION = "3.1.0"
REF = "#/components/schemas/{model}"
JSON = "application/json"
PROBLEM = "application/problem+json"

#: Headers of answers, by status; `*` stands for all of them.
_ANSWER_HEADERS: dict[int | str, dict[str, str]] = {
    "*": {"X-Request-ID": "The request's id, which the log has too"},
    200: {"ETag": "Changes with the answer", "Preference-Applied": "What of `Prefer` was heeded"},
    201: {"Location": "Where the new thing is"},
    202: {
        "Location": "Where to look for the outcome",
        "Retry-After": "Seconds to wait before looking",
        "Idempotency-Replayed": "`true` when the key was used before, and this is what was accepted then",
    },
    401: {"WWW-Authenticate": "How to show a key"},
    429: {"Retry-After": "Seconds after which to try again"},
    503: {"Retry-After": "Seconds after which to try again"},
}

#: Where an accepted task can be followed, told to every client that follows links.
_LINKS: Document = {
    name: {"operationId": f"tasks.{name}", "parameters": {"task_id": "$response.body#/task_id"}}
    for name in ("show", "history", "stop")
}

#: One of them is enough.
_SECURITY_SCHEMES: Document = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}

_TAGS = {
    "tasks": "Submit, follow, list and stop tasks",
    "failures": "Try again what ended without its effects, or note that it is dealt with",
    "schedules": "Tasks that are submitted again and again",
    "webhooks": "How telling a task's webhook went, and the secrets that sign it",
    "dataset": "The table `data`: bulk inserts, and what came of them",
    "queues": "What waits and runs in each queue",
    "limits": "How many tasks of a type, or of an owner, run at once and start within a minute",
    "workers": "Which workers there are",
    "files": "What file and import tasks work on, and what they made",
    "keys": "Who may come in",
    "health": "Whether it works",
    "metrics": "Figures for Prometheus",
    "docs": "The page that shows this document, and the document itself",
    "ui": "The page that shows how the service does",
}


# --- the document ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One method of one rule."""

    rule: Rule
    method: str
    view: Callable[..., Any]
    said: Described

    @property
    def path(self) -> str:
        return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", self.rule.rule)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(sorted(self.rule.arguments))


def undescribed(app: Flask) -> list[str]:
    """Rules that nobody described."""
    views = app.view_functions
    return [str(rule) for rule in app.url_map.iter_rules() if not described.description_of(views[rule.endpoint])]


def operations(app: Flask) -> Iterator[Operation]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.endpoint, rule.rule)):
        view = app.view_functions[rule.endpoint]
        said = described.description_of(view)
        if said is None:
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield Operation(rule, method, view, said)


def document(app: Flask) -> Document:
    """The whole of it, for the routes and task types that this process has."""
    found = list(operations(app))
    forms = Schemas.of(found)
    several = Counter(operation.rule.endpoint for operation in found)
    paths: dict[str, Document] = {}
    for operation in found:
        name = _id_of(operation) if several[operation.rule.endpoint] > 1 else operation.rule.endpoint
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, name, forms)
    tags = [{"name": name, "description": _TAGS[name]} for name in _TAGS if name in app.blueprints]
    return {
        "openapi": VERSION,
        "info": {
            "title": "Sluice",
            "version": "0.1.0",
            "summary": "A durable task service",
            "description": "Every accepted task is on disk before the answer, and a stop has a verdict that stays "
            "true. Errors are problem documents (RFC 9457) that name the field and the way out.",
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": forms.definitions, "securitySchemes": _SECURITY_SCHEMES},
    }


def _id_of(operation: Operation) -> str:
    return ".".join([operation.rule.endpoint, operation.method.lower(), *re.findall(r"\w+", operation.path)])


def _operation(operation: Operation, name: str, forms: Schemas) -> Document:
    said, words = operation.said, inspect.getdoc(operation.view) or ""
    summary, _, more = words.partition("\n")
    told: Document = {
        "operationId": name,
        "tags": [operation.rule.endpoint.partition(".")[0]],
        "summary": summary.rstrip("."),
    }
    if more.strip():
        told["description"] = more.strip()
    if operation.method in said.deprecated:
        told["deprecated"] = True
    scope = auth.scope_of(operation.view)
    told["security"] = [{name: [scope.value]} for name in _SECURITY_SCHEMES] if scope else []
    if parameters := [*_path(operation), *_query(said, forms), *_headers(said)]:
        told["parameters"] = parameters
    if said.body is not None and operation.method != "GET":
        told["requestBody"] = _request_body(said.body, forms)
    told["responses"] = dict(sorted(_responses(operation, forms)))
    return told


def _path(operation: Operation) -> Iterator[Document]:
    for name in operation.parts:
        yield {"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]}


def _query(said: Described, forms: Schemas) -> Iterator[Document]:
    if said.query is None:
        return
    schema = forms.definitions_of(said.query)
    for name, whole in schema["properties"].items():
        form = _without_null(whole)
        words = {"description": form.pop("description")} if "description" in form else {}
        form.pop("title", None)
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), **words, "schema": form}


def _without_null(form: Document) -> Document:
    """A parameter that is not given is not null: it is not there."""
    kept = {name: value for name, value in form.items() if name != "default" or value is not None}
    choices = [choice for choice in kept.pop("anyOf", ()) if choice != {"type": "null"}]
    return kept | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def _headers(said: Described) -> Iterator[Document]:
    for name in said.headers:
        yield {"name": name, "in": "header", "required": False, **REQUEST_HEADERS[name]}


def _request_body(body: Any, forms: Schemas) -> Document:
    required = isinstance(body, Media) or reading.needs_body(body)
    return {"required": required, "content": _content(body, forms, "validation")}


def _content(kind: Any, forms: Schemas, mode: Mode) -> Document:
    if isinstance(kind, Media):
        return {kind.kind: {"schema": dict(kind.schema)}}
    told: Document = {"schema": forms.schema(kind, mode)}
    if kind is schemas.SubmitBody:
        told["examples"] = _submissions()
    if kind is schedules.ScheduleBody:
        told["example"] = {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "task": _a_task()}
    if kind is schemas.BatchBody:
        told["example"] = {"tasks": [each["value"] for each in _submissions().values()]}
    return {JSON: told}


def _responses(operation: Operation, forms: Schemas) -> Iterator[tuple[str, Document]]:
    said = operation.said
    for status, kind in said.answers.items():
        told = _response(status)
        if kind is not None:
            told["content"] = _content(kind, forms, "serialization")
        if status == HTTPStatus.ACCEPTED:
            told["links"] = _LINKS
        yield str(status), told
    for status in _faults(operation):
        yield str(status), _response(status) | {"content": {PROBLEM: {"schema": forms.schema(answers.Problem)}}}


def _response(status: int) -> Document:
    headers = _ANSWER_HEADERS["*"] | _ANSWER_HEADERS.get(status, {})
    return {
        "description": HTTPStatus(status).phrase,
        "headers": {
            name: {"description": words, "schema": {"type": "string"}} for name, words in headers.items()
        },
    }


def _faults(operation: Operation) -> set[int]:
    """The statuses of failure: those it names, and those that follow from what it takes."""
    said = operation.said
    found = set(said.faults)
    if auth.scope_of(operation.view) is not None:
        # The key is looked up in the ledger, whatever else the route needs.
        found |= {
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        }
    if operation.parts:
        found.add(HTTPStatus.NOT_FOUND)
    if operation.method != "GET":
        found.add(HTTPStatus.FORBIDDEN)
    if said.body is not None and operation.method != "GET":
        found |= {
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            HTTPStatus.UNPROCESSABLE_ENTITY,
        }
    if said.query is not None:
        found.add(HTTPStatus.BAD_REQUEST)
    if "Idempotency-Key" in said.headers:
        # No such key can be, or another request had it.
        found |= {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
    if said.needs_ledger:
        found.add(HTTPStatus.SERVICE_UNAVAILABLE)
    return {int(status) for status in found} - set(said.answers)


# --- schemas --------------------------------------------------------------------------------------------------------

Mode = Literal["validation", "serialization"]


class Schemas:
    """The JSON schemas of all types that operations name, under one roof."""

    def __init__(self, kinds: Iterable[tuple[Any, Mode]]) -> None:
        self._places: dict[tuple[Any, Mode], int] = {}
        for kind in kinds:
            self._places.setdefault(kind, len(self._places))
        adapters = [
            (place, mode, TypeAdapter(_told_as(kind)))
            for (kind, mode), place in self._places.items()
        ]
        self._found, held = TypeAdapter.json_schemas(adapters, ref_template=REF)
        self.definitions: Document = held.get("$defs", {})
        self._queries: dict[Any, Document] = {}

    @classmethod
    def of(cls, found: Iterable[Operation]) -> Schemas:
        kinds: list[tuple[Any, Mode]] = [(answers.Problem, "serialization")]
        for operation in found:
            said = operation.said
            kinds += [(kind, "serialization") for kind in said.answers.values() if _is_schema(kind)]
            kinds += [(said.body, "validation")] if _is_schema(said.body) else []
        return cls(kinds)

    def schema(self, kind: Any, mode: Mode = "serialization") -> Document:
        return self._found[self._places[kind, mode], mode]

    def definitions_of(self, query: type[BaseModel]) -> Document:
        """A query's own schema; what it refers to is taken in."""
        if query not in self._queries:
            schema = query.model_json_schema(ref_template=REF)
            self.definitions.update(schema.pop("$defs", {}))
            self._queries[query] = schema
        return self._queries[query]


def _is_schema(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, Media)


def _told_as(kind: Any) -> Any:
    """Submissions are told with the parameters of each task type; anything else is told as itself."""
    if kind is schemas.BatchBody:
        listed: Any = list[_union_of(schemas.SubmitBody)]  # type: ignore[misc]
        return create_model("Batch", __base__=kind, tasks=(listed, schemas.BatchBody.model_fields["tasks"]))
    if kind is schedules.ScheduleBody:
        return create_model("NewSchedule", __base__=kind, task=(_union_of(schemas.TaskBody), kind.model_fields["task"]))
    if kind is schedules.ScheduleChange:
        task: Any = _union_of(schemas.TaskBody) | None
        return create_model("ScheduleChange", __base__=kind, task=(task, kind.model_fields["task"]))
    return _union_of(schemas.SubmitBody) if kind is schemas.SubmitBody else kind


def _union_of(form: type[schemas.TaskBody]) -> Any:
    """A form as one model for each task type, so that a reader sees what parameters each of them takes."""
    models = [_form_of(form, each) for each in catalog.all_types()]
    return Annotated[reduce(operator.or_, models), Field(discriminator="task_type")]


@cache
def _form_of(form: type[schemas.TaskBody], kind: catalog.TaskType) -> Any:
    its_name: Any = Literal[kind.name]
    needed = any(each.is_required() for each in kind.parameters.model_fields.values())
    return create_model(
        f"{_PREFIXES[form]}_{kind.name}",
        __base__=form,
        __doc__=kind.summary,
        task_type=(its_name, Field(description=kind.summary)),
        parameters=(kind.parameters, Field(description="What the task type asks for") if needed else {}),
    )


_PREFIXES = {schemas.SubmitBody: "Submit", schemas.TaskBody: "Task"}


def _a_task() -> Document:
    task: Document = next(iter(_submissions().values()))["value"]
    return task


def _submissions() -> Document:
    """One working submission for each task type."""
    return {
        each.name: {"summary": each.summary, "value": {"task_type": each.name, "parameters": example}}
        for each in catalog.all_types()
        for example in each.parameters.model_json_schema().get("examples", [])[:1]
    }
