"""What the catalog says of the types that come with the product holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from settings import settings
from tasks import catalog
from tests.recording import configure

#: The bodies that the README shows, as they stand.
EXAMPLES: dict[str, dict[str, Any]] = {
    "data_processing": {"data": "test data"},
    "bulk_insert": {},
    "csv_import": {"filename": "people.csv"},
    "truncate_table": {"table": "data"},
    "email_sending": {"to": "recipient@example.com"},
    "file_processing": {"filename": "your_file.txt"},
}
WORKERS = {"email_sending": "email", "file_processing": "file"}


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    configure(monkeypatch)
    catalog.load()
    yield
    settings.cache_clear()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_type_is_registered_with_its_worker(name: str) -> None:
    found = catalog.get(name)
    assert found.worker == WORKERS.get(name, "data")
    assert found.transactional == (name in {"bulk_insert", "csv_import", "truncate_table"})
    assert found.summary.endswith(".")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_accepted_as_they_stand(name: str) -> None:
    model = catalog.get(name).parameters
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    for example in [EXAMPLES[name], *schema["examples"]]:
        model.model_validate(example)


@pytest.mark.parametrize("name", EXAMPLES)
def test_parameters_come_back_from_the_ledger_unchanged(name: str) -> None:
    model = catalog.get(name).parameters
    for example in model.model_json_schema()["examples"]:
        checked = model.model_validate(example)
        stored = json.loads(json.dumps(checked.model_dump(mode="json", by_alias=True, exclude_unset=True)))
        assert model.model_validate(stored) == checked
        assert stored == example
