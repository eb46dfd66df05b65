"""The service as its clients see it: HTTP and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from ledger.states import FINAL
from tests.system.patience import until

#: Seconds that one answer may take before it counts as none.
ANSWER_SECONDS = 15
#: Clients that post side by side.
CLIENTS = 6


class Service:
    """A client, safe to share between threads."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = {"X-API-Key": key}

    def ask(
        self, method: str, path: str, *, session: requests.Session | None = None, **options: Any
    ) -> requests.Response:
        """One request, whatever is answered. Without a session on a connection of its own: a kept one might end at a
        killed process."""
        options["headers"] = self._key | options.get("headers", {})
        request = requests.request if session is None else session.request
        return request(method, self.url + path, **{"timeout": ANSWER_SECONDS, **options})

    def get(self, path: str) -> dict[str, Any]:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, f"GET {path} answered {answer.status_code}: {answer.text}"
        return dict(answer.json())

    def post(self, task_type: str, parameters: Mapping[str, Any] | None = None, **fields: Any) -> str:
        """Submit a task; its id."""
        body = {"task_type": task_type, "parameters": parameters or {}, **fields}
        answer = self.ask("POST", "/api/tasks", json=body)
        assert answer.status_code == 202, f"{body} was answered {answer.status_code}: {answer.text}"
        return str(answer.json()["task_id"])

    def post_all(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        """Submit many tasks, several at a time; their ids in the order of the bodies."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            return list(clients.map(lambda body: self.post(**body), bodies))

    def task(self, task_id: str) -> dict[str, Any]:
        return self.get(f"/api/tasks/{task_id}")

    def state(self, task_id: str) -> str:
        return str(self.get(f"/status/{task_id}")["state"])

    def ended(self, task_id: str, *, within: float = 30) -> dict[str, Any]:
        """The task once it is over."""
        last: dict[str, Any] = {}

        def is_over() -> bool:
            last.update(self.task(task_id))
            return last["state"] in FINAL

        until(is_over, f"the end of {task_id}", within=within, seen=lambda: brief(last))
        return last

    def succeeded(self, task_id: str, *, within: float = 30) -> dict[str, Any]:
        """The task once it is over, which must be by success."""
        task = self.ended(task_id, within=within)
        assert task["state"] == "succeeded", f"{task_id} ended otherwise: {brief(task)}"
        return task

    def running(self, task_id: str, *, within: float = 15) -> None:
        """Wait until an attempt is at it."""
        until(
            lambda: self.state(task_id) == "running",
            f"{task_id} is running",
            within=within,
            seen=lambda: brief(self.task(task_id)),
        )

    def stop(self, task_id: str) -> dict[str, Any]:
        """Stop a task as the first clients did; 409 is an answer too."""
        answer = self.ask("GET", f"/stop/{task_id}")
        assert answer.status_code in (200, 202, 409), f"stop answered {answer.status_code}: {answer.text}"
        return dict(answer.json())

    def count(self) -> int:
        return int(self.get("/get_data/count")["count"])

    def metric(self, name: str) -> float:
        for line in self.ask("GET", "/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"/metrics has no {name}")


def brief(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a failure message should say of a task."""
    return {
        name: task.get(name)
        for name in ("task_type", "state", "attempt", "retries", "worker", "progress", "error", "remarks")
    }
