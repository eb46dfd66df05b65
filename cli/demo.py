"""The main job, once, over HTTP: a task of each type that empties no table, and a big insert stopped in flight.

It fails loudly: each answer is looked at, and the rows are counted before and after the stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from cli.layout import SAMPLES as SAMPLES_FOLDER
from cli.output import Output
from cli.trouble import Trouble

#: Seconds that a small task has from its post to its end.
TASK_SECONDS = 60
#: Seconds that a stop has from its request to its verdict.
VERDICT_SECONDS = 15
#: Seconds between two looks.
_LOOK_SECONDS = 0.1
ROWS = 100_000
#: The demo's own copy of a sample, so that nobody's file of the sample's name is in its way.
CSV = "demo.csv"
#: Inserts that may be done before their stop comes.
TRIES = 3

FINAL = frozenset({"succeeded", "failed", "revoked", "expired"})


@dataclass(frozen=True)
class Sample:
    task_type: str
    priority: str
    parameters: Mapping[str, object]


SAMPLES = (
    Sample("data_processing", "high", {"data": "test data"}),
    Sample("email_sending", "normal", {"to": "recipient@example.com"}),
    Sample("file_processing", "low", {"filename": "your_file.txt"}),
    Sample("csv_import", "normal", {"filename": CSV, "table": "data"}),
    Sample("bulk_insert", "normal", {"rows": 1000}),
    Sample("fan_out_insert", "normal", {"rows": 1000}),
)


class DemoFailed(Trouble):
    """The service did not do what it promises."""


class Service:
    """The few calls that the demo makes."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url = url
        self._session = requests.Session()
        if api_key:
            self._session.headers["X-API-Key"] = api_key

    def get(self, path: str) -> dict[str, Any]:
        return self._answer("GET", path)

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return self._answer("POST", path, body)

    def upload(self, name: str, path: Path) -> None:
        self._answer("POST", "/api/files", files={"file": (name, path.read_bytes())})

    def _answer(
        self, method: str, path: str, body: object = None, files: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            answer = self._session.request(method, self._url + path, json=body, files=files, timeout=30)
        except requests.RequestException as error:
            raise DemoFailed(f"{method} {path}: {error}") from error
        # 409 is how a stop says that it came too late.
        if not answer.ok and answer.status_code != requests.codes.conflict:
            raise DemoFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return dict(answer.json())


def run(url: str, output: Output, *, api_key: str | None = None) -> None:
    service = Service(url, api_key)
    service.upload(CSV, SAMPLES_FOLDER / "people.csv")
    output.title("One task of each type but truncate_table")
    for sample in SAMPLES:
        run_sample(service, sample, output)
    output.title(f"An insert of {ROWS:,} rows, stopped in flight")
    stop_an_insert(service, output)


def run_sample(service: Service, sample: Sample, output: Output) -> None:
    began = time.monotonic()
    body = {"task_type": sample.task_type, "priority": sample.priority, "parameters": sample.parameters}
    task_id = str(service.post("/api/tasks", body)["task_id"])
    output.passing(f"{sample.task_type} {task_id}")
    task = wait_for_end(service, task_id)
    if task["state"] != "succeeded":
        raise DemoFailed(f"{sample.task_type} {task_id} ended {task['state']}: {compact(task.get('error'))}")
    output.line(
        f"  ✓ {sample.task_type:<16} {sample.priority:<7} {time.monotonic() - began:5.1f} s   {task_id}"
    )
    output.line(f"    {compact(task.get('result'))}")


def stop_an_insert(service: Service, output: Output) -> None:
    """Again when it was too quick to be stopped, which a fast machine may manage."""
    for _ in range(TRIES):
        if stopped_one(service, output):
            return
    raise DemoFailed(f"{TRIES} inserts in a row were done before a stop came")


def stopped_one(service: Service, output: Output) -> bool:
    before = count(service)
    output.line(f"  {'rows before':<24} {before:,}")
    task_id = str(service.post(f"/insert/{ROWS}")["task_id"])
    task = until(lambda: at_work(service, task_id), TASK_SECONDS, f"{task_id} makes no progress")
    done = (task.get("progress") or {}).get("done", 0)
    output.line(f"  {'task':<24} {task_id}")
    output.line(f"  {'stopped after':<24} {done:,} of {ROWS:,} rows")
    began = time.monotonic()
    verdict = stop(service, task_id)
    output.line(f"  {'verdict':<24} {verdict} after {time.monotonic() - began:.2f} s")
    after = count(service)
    output.line(f"  {'rows after':<24} {after:,}")
    expected = before + ROWS if verdict in ("already_finished", "too_late_committed") else before
    if after != expected:
        raise DemoFailed(
            f"{task_id}: verdict {verdict}, so {expected:,} rows were expected, and there are {after:,}"
        )
    if expected != before:
        output.line("  it was done before the stop came: once more")
        return False
    output.line("  ✓ nothing of it is left")
    return True


def stop(service: Service, task_id: str) -> str:
    """The verdict; `stopping` means that it is still being found out."""
    answer = service.post(f"/stop/{task_id}")
    if answer["verdict"] != "stopping":
        return str(answer["verdict"])
    task = wait_for_end(service, task_id, seconds=VERDICT_SECONDS)
    return "rolled_back" if task["state"] == "revoked" else "too_late_committed"


def wait_for_end(service: Service, task_id: str, seconds: float = TASK_SECONDS) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        task = service.get(f"/api/tasks/{task_id}")
        return task if task["state"] in FINAL else None

    return until(ended, seconds, f"{task_id} has not ended")


def at_work(service: Service, task_id: str) -> dict[str, Any] | None:
    """The task once it has written something."""
    task = service.get(f"/api/tasks/{task_id}")
    if task["state"] == "failed":
        raise DemoFailed(f"{task_id} failed before it could be stopped: {compact(task.get('error'))}")
    return task if (task.get("progress") or {}).get("done") else None


def count(service: Service) -> int:
    return int(service.get("/get_data/count")["count"])


def until(look: Callable[[], dict[str, Any] | None], seconds: float, complaint: str) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise DemoFailed(f"{complaint} after {seconds:g} s")
        time.sleep(_LOOK_SECONDS)


def compact(value: object, length: int = 110) -> str:
    """A value as JSON on one line, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text if len(text) <= length else text[: length - 1] + "…"
