"""Every process of the service is started anew under load: no request fails, and no task runs twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import requests

import celery_config
from cli import application, rolling
from cli.output import Output
from cli.readiness import PartFailed
from cli.stack import Stack
from tests.conftest import Tell
from tests.system.books import Books
from tests.system.conftest import Scale
from tests.system.patience import until
from tests.system.service import Service

#: Clients with a connection for each request, and with one for all of theirs.
CLIENTS, REGULARS = 4, 2


def test_a_rolling_restart_fails_no_request_and_repeats_no_short_task(
    service: Service, stack: Stack, books: Books, scale: Scale, tell: Tell
) -> None:
    load = Load(service)
    with load.on():
        for _ in range(scale.of(1, 10)):
            for _ in range(scale.of(0, 4)):
                rolling.reload(stack)
                load.goes_on()
            rolling.roll(stack, Output())
            load.goes_on()
    tell(f"{dict(load.answers)} while all was started anew, {load.slowest:.2f} s at most")
    assert not load.failures, load.failures[:5]
    books.all_succeeded(load.accepted, within=scale.of(60, 300))
    assert {row.attempt for row in books.tasks(load.accepted)} == {1}


def test_code_that_cannot_be_loaded_takes_nobodys_place(service: Service, stack: Stack, monkeypatch: Any) -> None:
    before = rolling.workers(stack)
    broken = replace(application.check({}), command=("/bin/sh", "-c", "exit 3"))
    monkeypatch.setattr(application, "check", lambda environment: broken)
    with pytest.raises(PartFailed):
        rolling.roll(stack, Output())
    assert rolling.workers(stack) == before
    assert service.ask("GET", "/livez").ok


@dataclass
class Load:
    """Clients who submit and read for as long as they are let."""

    service: Service
    accepted: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        over = threading.Event()
        clients = [
            threading.Thread(target=self._client, args=(place, over)) for place in range(CLIENTS + REGULARS)
        ]
        for client in clients:
            client.start()
        try:
            self.goes_on()
            yield
        finally:
            over.set()
            for client in clients:
                client.join()

    def goes_on(self) -> None:
        """Wait for some more tasks."""
        before = len(self.accepted)
        until(lambda: len(self.accepted) > before + 10, "requests that are answered")

    def _client(self, place: int, over: threading.Event) -> None:
        with requests.Session() as session:
            ask = self.service.ask if place < CLIENTS else partial(self.service.ask, session=session)
            kind = celery_config.WORKERS[place % 3]
            body = {"task_type": f"linger_{kind}", "parameters": {"seconds": 0.1}}
            while not over.wait(0.3):
                answer = self._ask(ask, "POST", "/api/tasks", json=body)
                if answer is not None and answer.status_code == 202:
                    self.accepted.append(answer.json()["task_id"])
                    self._ask(ask, "GET", f"/api/tasks/{self.accepted[-1]}")

    def _ask(self, ask: Any, method: str, path: str, **options: Any) -> requests.Response | None:
        began = time.monotonic()
        try:
            answer: requests.Response = ask(method, path, timeout=30, **options)
        except requests.RequestException as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return None
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.answers[answer.status_code] += 1
        if not answer.ok:
            self.failures.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:200]}")
        return answer
