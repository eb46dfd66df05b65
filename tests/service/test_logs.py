"""What the logs tell: one line for each event of a task's life, each of JSON, with the request and the task."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT, eventually
from tests.doors import MASTER
from tests.service.conftest import answers_at


@pytest.fixture(autouse=True)
def _all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [found for record in caplog.records if (found := getattr(record, "action", ""))]


def submit(door: FlaskClient, task_type: str) -> str:
    return str(door.post("/api/tasks", json={"task_type": task_type}).get_json()["task_id"])


def test_a_life_is_told_in_a_line_for_each_event(door: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    life.work(submit(door, "test_quick"))
    assert actions(caplog) == ["task_accepted", "task_started", "task_succeeded"]


def test_an_attempt_that_fails_is_told_once(door: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    life.work(submit(door, "test_hopeless"))
    assert actions(caplog) == ["task_accepted", "task_started", "attempt_failed"]


def test_a_stop_is_told_by_whoever_saw_to_it(door: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    door.post(f"/api/tasks/{submit(door, 'test_quick')}/stop")
    assert actions(caplog) == ["task_accepted", "task_stopped"]
    caplog.clear()
    task_id = submit(door, "test_quick")
    life.claim(task_id)
    door.post(f"/api/tasks/{task_id}/stop", headers={"Prefer": "wait=5"})
    assert actions(caplog) == ["task_accepted", "task_stopped"]


def test_a_batch_is_one_line_with_all_its_ids(door: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    said = door.post("/api/tasks/batch", json={"tasks": [{"task_type": "test_quick"}] * 3}).get_json()
    [record] = [each for each in caplog.records if getattr(each, "action", "") == "task_accepted"]
    assert vars(record)["task_ids"] == said["task_ids"]


def test_every_line_of_the_api_is_json_and_names_its_request(servers: object, free_port: int) -> None:
    command = [f"{sys.prefix}/bin/gunicorn", "--config", "file:api/gunicorn_config.py", "--workers", "1"]
    bound = [*command, "--bind", f"127.0.0.1:{free_port}", "api:create_app()"]
    with subprocess.Popen(bound, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: answers_at(f"http://127.0.0.1:{free_port}/livez"), within=60)
            headers = {"X-API-Key": MASTER.words, "X-Request-ID": "mine-1"}
            body = {"task_type": "data_processing", "parameters": {"data": "canary"}}
            answer = requests.post(f"http://127.0.0.1:{free_port}/api/tasks", json=body, headers=headers, timeout=10)
        finally:
            process.terminate()
        written = process.communicate(timeout=30)[1]
    lines: list[dict[str, Any]] = [json.loads(line) for line in written.splitlines()]
    assert {"gunicorn.error", "tasks.submit"} <= {line["logger"] for line in lines}
    assert len({line["message"] for line in lines if line["logger"] == "gunicorn.error"}) == len(
        [line for line in lines if line["logger"] == "gunicorn.error"]
    ), "told twice"
    assert all({"at", "level", "logger", "message"} <= line.keys() for line in lines)
    [accepted] = [line for line in lines if line.get("action") == "task_accepted"]
    assert (accepted["request_id"], accepted["task_id"]) == ("mine-1", answer.json()["task_id"])
    assert answer.headers["X-Request-ID"] == "mine-1"
    assert "canary" not in written
