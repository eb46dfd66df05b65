"""The Python client against a real door: what it submits is done once, and what it follows it follows to the end."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from client import errors
from client.sluice import KEY, URL, Sluice
from ledger import presence, queries, transitions
from ledger.callers import Scope
from ledger.filters import Filter
from tests import doors, life, task_types  # noqa: F401  registers the types
from tests.conftest import CHECKOUT, eventually
from tests.doors import MASTER
from tests.service.sockets import Door, open_door

T = TypeVar("T")

real_door = pytest.fixture(open_door)
UNKNOWN = "019aa5c0-0000-7000-8000-000000000001"


@pytest.fixture
def sluice(real_door: Door) -> Sluice:
    return Sluice(real_door.url, MASTER.words)


@pytest.fixture
def working() -> Iterator[None]:
    with life.child(life.obliging_worker):
        yield


class Aside(threading.Thread):
    """A call in a thread; `result` waits for what it returns."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self._found: Any = None
        self.start()

    def run(self) -> None:
        self._found = self._call()

    @property
    def result(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        return self._found


def test_a_task_is_submitted_and_waited_for(sluice: Sluice, working: None) -> None:
    accepted = sluice.submit("test_quick", priority="high", timeout=9)
    task = sluice.wait(accepted["task_id"], seconds=30)
    assert (task["state"], task["result"], task["priority"], task["timeout"]) == (
        "succeeded",
        {"answer": 42},
        "high",
        9,
    )


def test_the_terms_of_a_task_arrive(sluice: Sluice) -> None:
    later = datetime(2100, 1, 31, 12, tzinfo=UTC)
    first = sluice.submit("test_quick", run_at=later)
    second = sluice.submit("test_quick", depends_on=[first["task_id"]], on_parent_failure="ignore")
    assert (first["state"], second["state"]) == ("scheduled", "blocked")
    assert sluice.get(first["task_id"])["due_at"] == "2100-01-31T12:00:00.000000Z"
    assert sluice.get(second["task_id"])["on_parent_failure"] == "ignore"


def test_a_submission_whose_answer_is_lost_makes_one_task(real_door: Door) -> None:
    with losing_one_answer(real_door) as url:
        accepted = Sluice(url, MASTER.words, patience=60).submit("test_quick")
    assert [row.id for row in queries.page(Filter()).rows] == [accepted["task_id"]]


def test_a_batch_under_one_key_is_accepted_once(sluice: Sluice) -> None:
    tasks: Any = [{"task_type": "test_quick"}, {"task_type": "test_quick", "priority": "low"}]
    first, second = sluice.batch(tasks, key="k"), sluice.batch(tasks, key="k")
    assert first["task_ids"] == second["task_ids"]
    assert len(queries.page(Filter()).rows) == 2


def test_the_time_to_wait_has_an_end(sluice: Sluice) -> None:
    task_id = life.accept()
    with pytest.raises(errors.NotOver) as raised:
        sluice.wait(task_id, seconds=0.5)
    assert raised.value.task["state"] == "queued"


def test_a_service_that_dies_is_waited_for_too(real_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id, is_waiting, ask = life.accept(), threading.Event(), Sluice._get_later

    def ask_and_tell(*arguments: Any) -> Any:
        is_waiting.set()
        return ask(*arguments)

    monkeypatch.setattr(Sluice, "_get_later", ask_and_tell)
    impatient = Sluice(real_door.url, MASTER.words, patience=0)
    waiting = Aside(lambda: impatient.wait(task_id))
    assert is_waiting.wait(30)
    real_door.kill()
    life.work(task_id)
    real_door.open()
    assert waiting.result["state"] == "succeeded"


def test_a_task_is_followed_to_its_end(sluice: Sluice) -> None:
    task_id = life.accept()
    life.work(task_id)
    told = list(sluice.watch(task_id))
    assert [event.name for event in told] == ["task.queued", "task.running", "task.succeeded", "end"]
    assert told[-1].data == {"task_id": task_id, "state": "succeeded"}


def test_a_stream_that_is_cut_off_goes_on_where_it_was(sluice: Sluice, real_door: Door) -> None:
    task_id = life.accept()
    told: list[str] = []
    following = Aside(lambda: told.extend(event.name for event in sluice.watch(task_id)))
    eventually(lambda: told)
    real_door.kill()
    claim = life.claim(task_id)
    real_door.open()
    eventually(lambda: len(told) > 1)
    real_door.kill()
    transitions.finish(task_id, claim.attempt, result={})
    real_door.open()
    following.join(30)
    assert told == ["task.queued", "task.running", "task.succeeded", "end"]


def test_an_end_that_was_told_before_is_told_again(sluice: Sluice) -> None:
    task_id = life.accept()
    life.work(task_id)
    last = max(event.id or 0 for event in sluice.watch(task_id))
    assert [(event.name, event.data["state"]) for event in sluice.watch(task_id, after=last)] == [("end", "succeeded")]


def test_a_service_that_stays_away_is_given_up(
    sluice: Sluice, real_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.following.ABSENCE_SECONDS", 0.5)
    impatient = Sluice(real_door.url, MASTER.words, patience=0.1)
    events = impatient.watch(life.accept())
    assert next(events).name == "task.queued"
    real_door.kill()
    with pytest.raises(errors.Unreachable):
        next(events)


def test_a_stop_says_what_became_of_the_task(sluice: Sluice) -> None:
    task_id = life.accept()
    assert sluice.stop(task_id)["verdict"] == "stopped_before_start"
    again = sluice.stop(task_id)
    assert (again["verdict"], again["state"]) == ("already_finished", "revoked")
    running = life.accept()
    life.claim(running)
    assert sluice.stop(running, wait=0)["verdict"] == "stopping"


def test_all_tasks_are_listed_page_by_page(sluice: Sluice) -> None:
    ids = [life.accept() for _ in range(5)] + [life.accept(priority="low")]
    assert [task["task_id"] for task in sluice.tasks(page_size=2)] == ids[::-1]
    assert [task["task_id"] for task in sluice.tasks(priority=["low"], state=["queued"])] == ids[-1:]
    assert sluice.page(limit=1, counts=True)["counts"]["queued"] == 6
    assert list(sluice.tasks(created_before=datetime(2000, 1, 1, tzinfo=UTC))) == []
    assert list(sluice.tasks(resolved=True)) == []


def test_a_task_that_failed_is_explained_and_tried_again(sluice: Sluice) -> None:
    task_id = life.accept()
    assert sluice.explain(task_id)["state"] == "queued"
    with pytest.raises(errors.Conflict) as raised:
        sluice.retry(task_id)
    assert raised.value.document["state"] == "queued"
    sluice.stop(task_id)
    assert sluice.retry(task_id, note="once more")["state"] == "queued"
    assert "once more" in life.remarks(task_id)


def test_a_queue_is_paused_and_resumed(sluice: Sluice) -> None:
    [paused] = sluice.pause("data.low", reason="a test")["items"]
    assert paused["pause_reason"] == "a test"
    assert [queue["name"] for queue in sluice.queues() if queue["paused_at"]] == ["data.low"]
    assert sluice.resume("data.low")["items"][0]["paused_at"] is None


def test_workers_are_listed(sluice: Sluice) -> None:
    presence.arrive(life.said())
    [worker] = sluice.workers()
    assert (worker["name"], worker["concurrency"]) == (life.WORKER, 2)


def test_what_is_wrong_is_named(sluice: Sluice) -> None:
    with pytest.raises(errors.Invalid, match="did you mean") as raised:
        sluice.submit("test_quik")
    assert [fault["pointer"] for fault in raised.value.faults] == ["#/task_type"]
    with pytest.raises(errors.NotFound):
        sluice.get(UNKNOWN)
    with pytest.raises(errors.NotFound, match="data"):
        sluice.pause("dta.low")


def test_a_key_opens_what_it_is_for(real_door: Door) -> None:
    with pytest.raises(errors.Unauthorized):
        Sluice(real_door.url).page()
    reader = Sluice(real_door.url, doors.key("ada", Scope.READ))
    assert reader.page()["items"] == []
    with pytest.raises(errors.Forbidden) as raised:
        reader.submit("test_quick")
    assert raised.value.document["missing_scope"] == "write"


@contextmanager
def losing_one_answer(door: Door) -> Iterator[str]:
    """An address before the door. The first request goes through, and its answer does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=_pass_on_two, args=(listener, door))
        serving.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving.join(15)


def _pass_on_two(listener: socket.socket, door: Door) -> None:
    for loses in (True, False):
        _pass_on(listener, door, loses=loses)


def _pass_on(listener: socket.socket, door: Door, *, loses: bool) -> None:
    port = int(door.url.rpartition(":")[2])
    with listener.accept()[0] as client, socket.create_connection(("127.0.0.1", port)) as there:
        there.sendall(_message(client))
        answer = _message(there)
        if not loses:
            client.sendall(answer)


def _message(sender: socket.socket) -> bytes:
    """Head and body, which come one after the other."""
    with sender.makefile("rb") as sent:
        head = b"".join(iter(sent.readline, b"\r\n")) + b"\r\n"
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return head + sent.read(int(length[1]) if length else 0)


def test_the_manuals_lines_do_what_they_say(
    real_door: Door, working: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URL, real_door.url)
    monkeypatch.setenv(KEY, MASTER.words)
    page = (CHECKOUT / "docs" / "howto" / "command-line.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile(code, "command-line.md", "exec"), {})
    told = capsys.readouterr().out
    assert "task.succeeded" in told
    assert "'inserted': 1000" in told
    assert "did you mean 'email_sending'" in told
