"""The client's types are those of the OpenAPI document: what one says, the other says too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

import settings
from api import create_app
from client import answers, terms
from ledger.states import FINAL
from tests.recording import configure

#: The names that the document has for them, where it is not the same.
NAMES = {"Task": "Whole"}
TYPES = [
    each for each in vars(answers).values() if isinstance(each, type) and each.__module__ == answers.__name__
]


@pytest.fixture(scope="module")
def document() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        yield create_app().test_client().get("/openapi.json").get_json()
    settings.settings.cache_clear()


def inlined(form: Any, definitions: dict[str, Any]) -> Any:
    """A schema without its references, and without what it says to people."""
    if isinstance(form, list):
        return [inlined(each, definitions) for each in form]
    if not isinstance(form, dict):
        return form
    if "$ref" in form:
        return inlined(definitions[form["$ref"].rpartition("/")[2]], definitions)
    told = {name: part for name, part in form.items() if name not in {"title", "description", "$defs"}}
    if "properties" in told:  # in which a field may have one of these names
        fields = {name: inlined(part, definitions) for name, part in told.pop("properties").items()}
        return {"properties": fields} | {name: inlined(part, definitions) for name, part in told.items()}
    return {name: inlined(part, definitions) for name, part in told.items()}


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_an_answer_is_as_the_document_has_it(kind: type, document: dict[str, Any]) -> None:
    definitions = document["components"]["schemas"]
    ours = TypeAdapter(kind).json_schema(mode="serialization")
    theirs = definitions[NAMES.get(kind.__name__, kind.__name__)]
    assert inlined(ours, ours.get("$defs", {})) == inlined(theirs, definitions)


def test_the_types_are_looked_at() -> None:
    assert {"Accepted", "Task", "Stopped", "Page", "Explained", "Fault"} <= {kind.__name__ for kind in TYPES}


def test_the_terms_of_a_task_are_those_of_the_document(document: dict[str, Any]) -> None:
    theirs = document["components"]["schemas"]["Submit_bulk_insert"]["properties"]
    assert set(terms.Submission.__annotations__) == set(theirs)
    assert set(TypeAdapter(terms.Submission).json_schema()["required"]) == {"task_type"}


def test_the_filters_are_those_of_the_document(document: dict[str, Any]) -> None:
    theirs = {each["name"] for each in document["paths"]["/api/tasks"]["get"]["parameters"]}
    # `status` says in the words of older interfaces what `state` says.
    assert set(terms.Filter.__annotations__) | {"limit", "cursor", "counts", "status"} == theirs


def test_the_last_states_are_the_ledgers() -> None:
    assert {str(state) for state in FINAL} == answers.FINAL
