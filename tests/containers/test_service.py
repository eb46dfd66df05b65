"""The service in containers does what it does elsewhere: the README's lines, the Postman collection, kills."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import requests

from cli import newman
from ledger.states import FINAL
from tests import readme
from tests.conftest import PORTS, Eventually, Tell
from tests.containers import engine
from tests.containers.engine import OURS, SERVERS
from tests.system.service import Service

ROWS = 2_000
#: What a client keeps posting; mails may be held when their worker or server is killed under them.
LOAD = (
    {"task_type": "bulk_insert", "parameters": {"rows": ROWS}},
    {"task_type": "data_processing", "parameters": {"data": "some words"}, "priority": "high"},
    {"task_type": "email_sending", "parameters": {"to": "recipient@example.com", "if_uncertain": "retry"}},
    {"task_type": "file_processing", "parameters": {"filename": "your_file.txt"}, "priority": "low"},
)


def environment() -> dict[str, str]:
    return {"SLUICE_URL": engine.url(), "SLUICE_API_KEY": engine.key()}


def test_all_of_it_comes_up_healthy(containers: float, told_of_images: None, tell: Tell) -> None:
    tell(f"build and start until all are healthy: {containers:.0f} s")
    for name in (*OURS, *SERVERS):
        assert has_health(name, "healthy"), name
    assert engine.inspect("migrate")["State"]["ExitCode"] == 0


def test_nothing_is_missing_that_the_service_needs(service: Service) -> None:
    found = service.get("/readyz")
    assert found["status"] == "pass", found
    here = {worker["name"].partition("@")[0] for worker in service.get("/api/workers")["items"]}
    assert here == {"data", "email", "file"}


def test_the_readmes_lines_run_as_pasted(containers: float) -> None:
    readme.run(environment(), within=400)


def test_a_mail_reaches_the_page_that_catches_it(service: Service) -> None:
    task_id = service.post("email_sending", {"to": "page@example.com"})
    service.succeeded(task_id)
    caught = requests.get(f"http://127.0.0.1:{PORTS[3]}/api/v1/messages", timeout=10).json()["messages"]
    assert any(task_id in mail["MessageID"] for mail in caught if mail["To"][0]["Address"] == "page@example.com")


def test_the_pages_let_in_who_has_their_password(containers: float) -> None:
    flower, rabbitmq = f"http://127.0.0.1:{PORTS[1]}/workers", f"http://127.0.0.1:{PORTS[2]}/api/whoami"
    assert requests.get(flower, timeout=10).status_code == 401
    assert requests.get(rabbitmq, auth=("guest", "guest"), timeout=10).status_code == 401
    assert requests.get(rabbitmq, auth=engine.watcher(), timeout=10).json()["tags"] == ["monitoring"]


@pytest.mark.timeout(600)
def test_every_request_of_the_collection_is_answered_as_it_says(containers: float, tell: Tell) -> None:
    if not newman.is_possible():
        pytest.skip(f"the Postman collection is not run: {newman.NO_NPM}")
    newman.install()
    done = newman.run(engine.url(), engine.key(), "--color", "off", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    tell("\n".join(line for line in done.stdout.splitlines() if "requests" in line or "assertions" in line))


@pytest.mark.timeout(1200)
def test_nothing_accepted_is_lost_whatever_container_is_killed(
    service: Service, eventually: Eventually, tell: Tell
) -> None:
    before = rows(service)
    with load(service) as accepted:
        for name in (*OURS, *SERVERS):
            at, began = len(accepted), time.monotonic()
            engine.compose("kill", "--signal", "KILL", name)
            engine.compose("up", "--detach", "--no-deps", "--wait", "--wait-timeout", "300", name)
            meanwhile = len(accepted) - at
            tell(f"{name}: healthy {time.monotonic() - began:.0f} s after its kill, {meanwhile} accepted meanwhile")
    states = eventually(lambda: over(service, accepted), within=400, every=2, what="the end of all that was accepted")
    assert isinstance(states, dict)
    inserted = [task_id for task_id, kind in accepted.items() if kind == "bulk_insert"]
    counts = {state: list(states.values()).count(state) for state in set(states.values())}
    tell(f"{len(accepted)} accepted: {counts}")
    assert set(counts) <= {"succeeded"}, [task_id for task_id, state in states.items() if state != "succeeded"]
    assert rows(service) == before + ROWS * len(inserted)
    assert "✗" not in engine.ledger("verify")
    assert "✗" not in engine.ledger("reconcile")


@contextmanager
def load(service: Service) -> Iterator[dict[str, str]]:
    """A client that posts all the while; the type of each task that it has an id of."""
    accepted: dict[str, str] = {}
    over = threading.Event()

    def post() -> None:
        for body in itertools.cycle(LOAD):
            if over.wait(0.2):
                return
            try:
                answer = service.ask("POST", "/api/tasks", json={**body, "max_retries": 10})
            except requests.RequestException:
                continue
            if answer.status_code == 202:
                accepted[answer.json()["task_id"]] = str(body["task_type"])

    client = threading.Thread(target=post)
    client.start()
    try:
        yield accepted
    finally:
        over.set()
        client.join()


def over(service: Service, accepted: dict[str, str]) -> dict[str, str] | None:
    """The final state of each; None while one has none."""
    try:
        states = {task_id: service.state(task_id) for task_id in accepted}
    except AssertionError:  # a 503 while MySQL comes back
        return None
    return states if set(states.values()) <= set(FINAL) else None


def rows(service: Service) -> int:
    return int(service.get("/get_data/count")["count"])


def test_what_dies_by_itself_is_started_again(service: Service, eventually: Eventually) -> None:
    found = engine.inspect("data")
    os.kill(found["State"]["Pid"], signal.SIGKILL)
    eventually(lambda: engine.inspect("data")["RestartCount"] > found["RestartCount"], within=30, every=0.5)
    eventually(partial(has_done_something, service), within=120, every=1, what="a task that succeeds")


def has_done_something(service: Service) -> bool:
    """False while the database has no time for us either."""
    try:
        service.succeeded(service.post("data_processing", {"data": "words"}), within=60)
    except AssertionError:
        return False
    return True


def test_what_is_frozen_is_unhealthy(containers: float, eventually: Eventually) -> None:
    """The health checks can fail."""
    for name in ("data", "monitor", "webhooks"):
        engine.compose("exec", "--no-TTY", name, "sh", "-c", "kill -STOP $(cat /proc/1/task/1/children)")
    for name in ("data", "monitor", "webhooks"):
        eventually(partial(has_health, name, "unhealthy"), within=240, every=2, what=f"{name} is unhealthy")
        engine.compose("exec", "--no-TTY", name, "sh", "-c", "kill -CONT $(cat /proc/1/task/1/children)")
        eventually(partial(has_health, name, "healthy"), within=240, every=2, what=f"{name} is healthy again")


def has_health(name: str, status: str) -> bool:
    return bool(engine.inspect(name)["State"]["Health"]["Status"] == status)


@pytest.mark.timeout(400)
def test_a_stop_takes_less_than_its_grace(service: Service, tell: Tell) -> None:
    """Last, since it ends them: SIGTERM reaches each process, and none has to be killed."""
    service.running(service.post("bulk_insert", {"rows": 1_000_000}))
    for name in (*OURS, *SERVERS):
        began = time.monotonic()
        engine.compose("stop", name)
        state = engine.inspect(name)["State"]
        tell(f"{name}: stopped in {time.monotonic() - began:.1f} s, exit code {state['ExitCode']}")
        assert state["ExitCode"] != 137 and not state["OOMKilled"], name
    engine.compose("up", "--detach", "--wait", "--wait-timeout", "400")
    assert "✗" not in engine.ledger("verify")
