"""The OpenAPI document against the door: what it allows is answered as it says, what it forbids is refused.

A few requests for each operation are made with the suite. To look harder, by name, where one operation may take
minutes:

    pytest tests/service/test_fuzz.py --examples 500 --timeout 3600
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from limits import RateLimitItemPerMinute
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

import settings as ours
from api import create_app, openapi
from ledger.states import State
from tests import doors, life
from tests.recording import configure

#: Whatever stands in a part of a form is a file.
_NOTHING_IS_WRONG = {"POST /api/files"}
#: What the form of a request cannot say: fields that exclude each other, a file that must be there, a state.
_ANSWERS = ["2xx", "304", "400", "401", "403", "404", "405", "409", "412", "422", "503"]
#: A wrong body may be too large besides.
_REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "503"]


def labels() -> list[str]:
    """Every operation of the document."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        configure(monkeypatch)
        found = [f"{each.method} {each.path}" for each in openapi.operations(create_app())]
    ours.settings.cache_clear()
    return found


@pytest.fixture
def document(door: FlaskClient, tmp_path: Path, configured: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    configured(SLUICE_STORAGE_DIR=tmp_path / "storage", SLUICE_LEGACY_GET=1)
    for name in ("api.dataset.INSERT_SECONDS", "api.dataset.DELETE_SECONDS", "tasks.outcome._FIRST_POLL_SECONDS"):
        monkeypatch.setattr(name, 0)
    # It shows many wrong keys, to see them refused.
    monkeypatch.setattr("api.auth._PER_ADDRESS", RateLimitItemPerMinute(10**9))
    monkeypatch.setattr("api.tasks._ends_within", lambda *_: False)
    checks = {
        "positive_data_acceptance": {"expected-statuses": _ANSWERS},
        "negative_data_rejection": {"expected-statuses": _REFUSALS},
    }
    config = SchemathesisConfig.from_dict({"checks": checks})
    return schemathesis.openapi.from_wsgi("/openapi.json", door.application, config=config)


@pytest.mark.parametrize("label", labels())
def test_every_operation_keeps_to_its_document(label: str, document: Any, pytestconfig: pytest.Config) -> None:
    method, path = label.split()
    operation = document[path][method]
    for mode in GenerationMode:
        if mode is GenerationMode.NEGATIVE and label in _NOTHING_IS_WRONG:
            continue
        # A request that takes nothing has no wrong form.
        with suppress(Unsatisfiable):
            requests = operation.as_strategy(generation_mode=mode)
            ask(requests, pytestconfig.getoption("--examples"), is_right=mode is GenerationMode.POSITIVE)


def ask(requests: Any, number: int, *, is_right: bool) -> None:
    @seed(1)
    @settings(
        max_examples=number,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=requests)
    def each(case: Any) -> None:
        if is_right and "task_id" in case.path_parameters:
            case.path_parameters["task_id"] = task_for(case.path)
        case.call_and_validate(headers={"X-API-Key": doors.MASTER.words})

    each()


def task_for(path: str) -> str:
    """A task that is there; one that has ended where the answer would otherwise go on and on."""
    task_id = life.accept("bulk_insert", {"rows": 1})
    if path.endswith("/events"):
        life.put(task_id, state=State.SUCCEEDED)
    return task_id
