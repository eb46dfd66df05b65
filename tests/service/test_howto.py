"""The task types and the receiver that the documentation shows do what it says of them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from sqlalchemy import insert

from ledger import db, deliveries, transitions
from ledger.states import State
from tasks import catalog
from tasks.types.dataset import data
from tests import life
from tests.conftest import CHECKOUT, eventually
from tests.service.posting import deliver, only

_PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code_of(page: str) -> str:
    """The one piece of Python that a page shows."""
    [code] = _PYTHON.findall((CHECKOUT / page).read_text(encoding="utf-8"))
    return str(code)


def shown(page: str) -> str:
    """The one type that a page shows, ready to run; its name."""
    code = code_of(page)
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


def test_the_schedule_that_the_page_keeps_is_kept(door: FlaskClient) -> None:
    page = (CHECKOUT / "docs/howto/schedules.md").read_text(encoding="utf-8")
    [body] = re.findall(r"-d '(\{.*?\})'\n```", page, re.DOTALL)
    answer = door.post("/api/schedules", json=json.loads(body))
    assert (answer.status_code, len(answer.get_json()["next_ticks"])) == (201, 5)


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


class TestReceiver:
    """As the page has it: in a file of its own, with Flask's own server."""

    @pytest.fixture
    def receiver(self, secret: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
        (tmp_path / "receiver.py").write_text(code_of("docs/howto/receive-webhooks.md"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "flask", "--app", "receiver", "run", "--port", str(port)]
        printed, env = tmp_path / "printed", {**os.environ, "WEBHOOK_SECRET": secret}
        with printed.open("wb") as file:
            process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=file, stderr=subprocess.STDOUT)
        try:
            eventually(lambda: "Running on" in printed.read_text(), what=printed.read_text())
            yield f"http://127.0.0.1:{port}/hook", printed
        finally:
            process.kill()
            process.wait()

    def test_what_is_signed_is_taken_once(self, receiver: tuple[str, Path]) -> None:
        url, printed = receiver
        task_id = life.accept(webhook={"url": url, "events": ["task.revoked"]})
        transitions.stop(task_id, remark="by a test")
        deliver()
        deliveries.again(task_id, only(task_id).row.seq, by="a test")
        deliver()
        assert [each.status for each in only(task_id).tries] == [204, 204]
        assert printed.read_text().count(f"task.revoked {task_id} None") == 1

    def test_what_is_not_signed_by_us_is_not_taken(self, receiver: tuple[str, Path]) -> None:
        url, printed = receiver
        headers = {"webhook-id": "x", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        assert requests.post(url, data="{}", headers=headers, timeout=10).status_code == 401
        assert "task." not in printed.read_text()
