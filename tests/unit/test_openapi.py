"""The OpenAPI document: it is valid, whole, and says what the code does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from flask import Flask
from openapi_spec_validator import validate

import settings
from api import answers, create_app, openapi, told
from api.described import Media
from tasks import catalog
from tests.recording import configure


@pytest.fixture(scope="module")
def app() -> Iterator[Flask]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        yield create_app()
    settings.settings.cache_clear()


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found = app.test_client().get("/openapi.json")
    assert found.mimetype == "application/json"
    made: dict[str, Any] = found.get_json()
    return made


def walk(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from walk(inner)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"] == "3.1.0"


def test_every_route_is_described_beside_itself(app: Flask) -> None:
    assert openapi.undescribed(app) == [], "put @describe(...) of api.described below the route"


def test_routes_and_document_are_the_same(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_no_reference_leads_nowhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    referred = {part["$ref"] for part in walk(document) if isinstance(part.get("$ref"), str)}
    mapped = {
        place for part in walk(document) if "mapping" in part for place in dict(part["mapping"]).values()
    }
    assert referred | mapped <= known
    names = {operation["operationId"] for _, _, operation in operations(document)}
    assert {part["operationId"] for part in walk(document) if "operationId" in part} == names


def test_a_task_types_parameters_are_told(document: dict[str, Any]) -> None:
    submit = document["paths"]["/api/tasks"]["post"]["requestBody"]["content"]["application/json"]
    mapping = submit["schema"]["discriminator"]["mapping"]
    assert submit["schema"]["discriminator"]["propertyName"] == "task_type"
    assert set(mapping) == {each.name for each in catalog.all_types()}
    form = document["components"]["schemas"][mapping["email_sending"].rpartition("/")[2]]
    assert form["required"] == ["task_type", "parameters"]
    assert form["properties"]["parameters"]["$ref"] == "#/components/schemas/EmailSending"


def test_every_operation_says_what_it_is_for(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], (path, method)
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"], (path, parameter)
            assert not {"ge", "le"} & set(parameter["schema"]), "bounds stand before a validator in Annotated"
        for status, answer in operation["responses"].items():
            kinds = set(answer.get("content", {}))
            if int(status) >= 400 and path != "/readyz":
                assert kinds == {"application/problem+json"}, (path, method, status)


def test_what_is_deprecated_says_so(document: dict[str, Any]) -> None:
    deprecated = {(path, method) for path, method, told in operations(document) if told.get("deprecated")}
    assert {("/dpd_insert", "post"), ("/dpd_insert/{num}", "post"), ("/insert", "get")} <= deprecated
    assert ("/insert", "post") not in deprecated


def test_an_accepted_task_can_be_followed(document: dict[str, Any]) -> None:
    links = document["paths"]["/api/tasks"]["post"]["responses"]["202"]["links"]
    assert links["show"]["operationId"] == document["paths"]["/api/tasks/{task_id}"]["get"]["operationId"]


def test_both_words_for_every_state_are_told() -> None:
    assert set(told._STATUS.values()) == set(get_args(answers.StatusWord))


def test_a_route_without_a_description_is_noticed(app: Flask) -> None:
    bare = Flask("bare")
    bare.add_url_rule("/bare", "bare", lambda: "bare")
    assert "/bare" in openapi.undescribed(bare)


def test_a_body_that_is_no_json_keeps_its_kind(document: dict[str, Any]) -> None:
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    assert Media("text/plain").schema == {"type": "string"}


def test_a_wrong_idempotency_key_is_a_documented_answer(document: dict[str, Any]) -> None:
    for path in ("/api/tasks", "/api/tasks/batch", "/api/schedules/{schedule_id}/run"):
        assert {"400", "422"} <= document["paths"][path]["post"]["responses"].keys(), path
