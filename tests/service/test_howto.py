"""The task types that the documentation shows do what it says of them."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from ledger import db, transitions
from ledger.states import State
from tasks import catalog
from tasks.types.dataset import data
from tests import life
from tests.conftest import CHECKOUT

_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown(page: str) -> str:
    """The one type that a page shows, ready to run; its name."""
    [code] = _PYTHON.findall((CHECKOUT / page).read_text(encoding="utf-8"))
    module = types.ModuleType("shown")
    before = {each.name for each in catalog.all_types()}
    exec(compile(code, page, "exec"), module.__dict__)
    [name] = {each.name for each in catalog.all_types()} - before
    return name


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = dict(catalog._types)
    yield
    catalog._types.clear()
    catalog._types.update(before)
    life.clear_up()


def test_the_readmes_type_greets_everybody() -> None:
    task_id = life.accept(shown("README.md"), {"names": ["Ada", "Emmy"]})
    life.work(task_id)
    assert life.task(task_id).result == {"greetings": ["Hello, Ada!", "Hello, Emmy!"]}


class TestArchiveRows:
    @pytest.fixture(autouse=True)
    def _rows(self, _registry_as_before: None) -> None:
        self.name = shown("docs/howto/write-to-several-databases.md")
        with db.data().begin() as connection:
            connection.execute(
                insert(data), [{"field1": str(number), "field2": "x"} for number in range(2_500)]
            )

    def test_rows_move(self) -> None:
        task_id = life.accept(self.name, {"rows": 2_000})
        life.work(task_id)
        assert (life.task(task_id).result, life.rows(), life.rows("archive")) == (
            {"moved": 2_000},
            500,
            2_000,
        )

    def test_as_many_rows_move_as_there_are(self) -> None:
        task_id = life.accept(self.name, {"rows": 1_000_000})
        life.work(task_id)
        assert (life.task(task_id).result, life.rows(), life.rows("archive")) == ({"moved": 2_500}, 0, 2_500)

    def test_a_stopped_move_leaves_every_row_where_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        task_id = life.accept(self.name, {"rows": 2_000})
        decide = transitions.decide

        def too_late(*arguments: Any, **named: Any) -> bool:
            transitions.stop(task_id, remark="by a test")
            return decide(*arguments, **named)

        monkeypatch.setattr(transitions, "decide", too_late)
        life.work(task_id)
        assert life.state(task_id) is State.REVOKED
        assert (life.rows(), life.rows("archive")) == (2_500, 0)
