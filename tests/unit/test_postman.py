"""The Postman collection against the OpenAPI document: its requests are those of the document, and none is missing."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

import settings
from api import create_app
from cli import newman
from tasks import catalog
from tests.conftest import CHECKOUT
from tests.recording import configure

FOLDER = CHECKOUT / "docs" / "postman"
COLLECTION: dict[str, Any] = json.loads((FOLDER / "sluice.postman_collection.json").read_text("utf-8"))
ENVIRONMENT: dict[str, Any] = json.loads((FOLDER / "sluice.postman_environment.json").read_text("utf-8"))
#: The folder whose requests are wrong on purpose.
WRONG = "7 When something is wrong"

#: Operations that are not in the collection, each with the reason.
LEFT_OUT = {
    "DELETE /delete_all": "it would empty the table of whoever runs the collection",
    "GET /delete_all": "it would empty the table of whoever runs the collection",
    "GET /docs": "a page to read",
    "GET /docs/{page_file}": "a part of a page",
    "GET /ui": "a page to look at",
    "GET /ui/{page_file}": "a part of a page",
    "GET /healthz": "another name of /livez",
    "GET /insert": "as POST /insert, and not for Postman: it is off unless the operator wants it",
    "GET /insert/{num}": "as POST /insert, and not for Postman: it is off unless the operator wants it",
    "POST /insert": "100,000 rows; POST /insert/{num} says how many",
    "GET /stop/{task_id}": "as POST /stop/{task_id}, and off unless the operator wants it",
    "GET /dpd_insert": "deprecated",
    "GET /dpd_insert/{num}": "deprecated",
    "POST /api/webhooks/secrets": "it would take the place of the secret that signs",
    "DELETE /api/webhooks/secrets/{secret_id}": "it would end the secret that signs",
    "POST /api/tasks/{task_id}/deliveries/{seq}/retry": "a delivery is there where a receiver is",
    "GET /api/limits": "it wants an admin's key",
    "PUT /api/limits/{subject}/{whose}": "it would bound everybody's tasks of a type",
    "DELETE /api/limits/{subject}/{whose}": "it would take the place of the operator's decision",
    "POST /dpd_insert": "deprecated",
    "POST /dpd_insert/{num}": "deprecated",
}
#: Task types that are not submitted in it.
TYPES_LEFT_OUT = {"truncate_table": "it would empty the table of whoever runs the collection"}


@dataclass(frozen=True)
class Request:
    folder: str
    name: str
    method: str
    path: str
    query: tuple[str, ...]
    body: str | None
    is_json: bool
    tests: str

    @property
    def is_wrong(self) -> bool:
        return self.folder == WRONG


def requests() -> Iterator[Request]:
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            asked, url = item["request"], item["request"]["url"]
            kinds = {each["value"] for each in asked["header"] if each["key"] == "Content-Type"}
            lines = (line for event in item["event"] if event["listen"] == "test" for line in event["script"]["exec"])
            yield Request(
                folder["name"],
                item["name"],
                asked["method"],
                "/" + "/".join(url["path"]),
                tuple(each["key"] for each in url.get("query", ())),
                asked.get("body", {}).get("raw"),
                kinds == {"application/json"},
                "\n".join(lines),
            )


ALL = list(requests())
BODIES = [each for each in ALL if each.is_json]


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        yield create_app().test_client().get("/openapi.json").get_json()
    settings.settings.cache_clear()


def operation_of(request: Request, document: dict[str, Any]) -> str | None:
    """The operation that a request is; the one with the fewest variable parts where several fit."""
    fitting = [
        path
        for path, methods in document["paths"].items()
        if request.method.lower() in methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.path)
    ]
    return f"{request.method} {min(fitting, key=lambda path: path.count('{'))}" if fitting else None


def described(operation: str, document: dict[str, Any]) -> dict[str, Any]:
    method, _, path = operation.partition(" ")
    found: dict[str, Any] = document["paths"][path][method.lower()]
    return found


@pytest.mark.parametrize("request_", ALL, ids=lambda each: f"{each.folder}/{each.name}")
def test_a_request_is_one_that_the_document_has(request_: Request, document: dict[str, Any]) -> None:
    operation = operation_of(request_, document)
    assert operation is not None, f"{request_.method} {request_.path}"
    known = {each["name"] for each in described(operation, document).get("parameters", ()) if each["in"] == "query"}
    assert set(request_.query) <= known


@pytest.mark.parametrize("request_", BODIES, ids=lambda each: f"{each.folder}/{each.name}")
def test_a_body_is_as_the_document_has_it(request_: Request, document: dict[str, Any]) -> None:
    operation = operation_of(request_, document)
    assert operation is not None
    form = described(operation, document)["requestBody"]["content"]["application/json"]["schema"]
    assert is_valid(request_.body or "", form, document) is not request_.is_wrong


def is_valid(body: str, form: dict[str, Any], document: dict[str, Any]) -> bool:
    """Variables stand for ids here."""
    try:
        value = json.loads(re.sub(r"\{\{\w+\}\}", "019aa5c0-0000-7000-8000-000000000001", body))
    except ValueError:
        return False
    whole = form | {"components": document["components"]}
    return bool(OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).is_valid(value))


def test_every_operation_is_in_it_or_left_out_for_a_reason(document: dict[str, Any]) -> None:
    there = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    shown = {operation_of(each, document) for each in ALL}
    assert shown | set(LEFT_OUT) == there
    assert not shown & set(LEFT_OUT)


@pytest.mark.usefixtures("document")
def test_every_task_type_is_submitted_or_left_out_for_a_reason() -> None:
    submitted = {json.loads(each.body or "")["task_type"] for each in BODIES if each.folder.startswith("2 ")}
    ours = {each.name for each in catalog.all_types() if each.handler.__module__.startswith("tasks.types.")}
    assert submitted | set(TYPES_LEFT_OUT) == ours


def test_every_request_looks_at_its_answer() -> None:
    assert [each.name for each in ALL if "pm.test(" not in each.tests] == []
    names = [each.name for each in ALL]
    assert len(set(names)) == len(names), "a request is asked again by its name"


def test_every_variable_is_set_before_it_is_used() -> None:
    known = {each["key"] for each in ENVIRONMENT["values"]}
    for folder in COLLECTION["item"]:
        for item in folder["item"]:
            scripts = {event["listen"]: "\n".join(event["script"]["exec"]) for event in item["event"]}
            known |= _set_in(scripts.get("prerequest", ""))
            used = set(re.findall(r"\{\{(\w+)\}\}", json.dumps(item["request"])))
            assert used <= known, item["name"]
            known |= _set_in(scripts["test"])


def _set_in(script: str) -> set[str]:
    return set(re.findall(r'collectionVariables\.set\("(\w+)"', script))


def test_no_key_is_handed_out_with_it() -> None:
    values = {each["key"]: each["value"] for each in ENVIRONMENT["values"]}
    assert values == {"baseUrl": "http://127.0.0.1:5000", "apiKey": ""}
    assert not re.search(r"sluice_[0-9a-f]{8}_(?!wrong)", json.dumps(COLLECTION))


def test_newman_is_pinned_and_comes_from_whichever_registry_npm_is_told_of() -> None:
    packages = json.loads((FOLDER / "package-lock.json").read_text("utf-8"))["packages"]
    del packages[""]
    assert [name for name, each in packages.items() if "integrity" not in each or "resolved" in each] == []
    wanted = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
    assert wanted == {"newman": packages["node_modules/newman"]["version"]}


def test_the_key_is_no_argument_of_newman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []

    def run(command: list[str], **_: Any) -> None:
        asked.append((command, Path(command[command.index("--environment") + 1]).read_text("utf-8")))

    monkeypatch.setattr(newman, "FOLDER", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    newman.run("http://127.0.0.1:1", "my-key")
    [(command, environment)] = asked
    assert "my-key" not in " ".join(command)
    assert "my-key" in environment
    assert list(tmp_path.iterdir()) == []
