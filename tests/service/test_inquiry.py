"""The evidence for an explanation, gathered from real servers, and what is said when they are away."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

import celery_config
from cli.stack import Stack
from ledger import acceptance, backlog, db, leadership, pauses, presence, queries, transitions
from ledger.models import tasks
from ledger.states import State
from tasks import dispatch, inquiry
from tasks.dispatch import Publisher
from tasks.lost import Scan
from tests import broker, life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.doors import door_for
from tests.system.processes import frozen

NO_DATABASE = "mysql+pymysql://nobody@127.0.0.1:1/none"
#: The promise is two seconds; the rest is for a busy machine.
ANSWER_SECONDS = 3.0


@pytest.fixture(autouse=True)
def _empty_queues(servers: Stack) -> None:
    broker.declare_empty()


@pytest.fixture
def publisher(servers: Stack) -> Iterator[Publisher]:
    publisher = Publisher()
    yield publisher
    publisher.close()


def send(publisher: Publisher, *tasks: Any) -> list[str]:
    """Tasks whose tickets the broker got a while ago, in this order."""
    for task in tasks:
        acceptance.accept([task])
        dispatch.dispatch(publisher, queries.undispatched(-1))
    life.let_pass(60)
    return [task.task_id for task in tasks]


def explained(door: FlaskClient, task_id: str) -> dict[str, Any]:
    began = time.monotonic()
    answer = door.get(f"/api/tasks/{task_id}/explain")
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began < ANSWER_SECONDS
    body: dict[str, Any] = answer.get_json()
    return body


def test_the_line_is_what_workers_take_first(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said(free=0))
    order = ["normal", "low", "high", "normal", "normal", "high"]
    task_ids = send(publisher, *(life.new(priority=each) for each in order))
    eventually(lambda: broker.depth("data.normal") == 3)
    told = explained(door, task_ids[4])
    assert told["cause"] == "in_line"
    evidence = told["evidence"]
    assert (evidence["ahead_of_better_priority"], evidence["ahead_in_its_queue"]) == (2, 2)
    assert explained(door, task_ids[1])["evidence"]["tasks_ahead"] == 5
    assert explained(door, task_ids[2])["evidence"]["tasks_ahead"] == 0
    assert evidence["broker"] == {"answers": True, "tickets_ready": 3}


def test_who_was_sent_later_stands_behind_whatever_its_id(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said(free=0))
    delayed, other = life.accept(delay_seconds=60), life.new()
    send(publisher, other)
    dispatch.dispatch(publisher, [life.release(delayed)])
    assert delayed < other.task_id
    assert explained(door, delayed)["evidence"]["ahead_in_its_queue"] == 1
    assert explained(door, other.task_id)["evidence"]["ahead_in_its_queue"] == 0


def test_a_paused_queue_is_told_and_stands_in_nobodys_way(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said(free=0))
    urgent, task_id = send(publisher, life.new(priority="high"), life.new())
    assert explained(door, task_id)["evidence"]["tasks_ahead"] == 1
    pauses.pause(["data.high"], reason="for a test")
    assert explained(door, task_id)["evidence"]["tasks_ahead"] == 0
    told = explained(door, urgent)
    assert (told["cause"], told["also"]) == ("queue_paused", ["in_line"])
    assert "for a test" in told["sentence"]


def test_a_task_that_nobody_serves_waits_for_a_worker(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said(name="email@one", kind="email", queues=("email.normal",)))
    [task_id] = send(publisher, life.new())
    told = explained(door, task_id)
    assert (told["cause"], told["also"]) == ("no_worker", ["in_line"])
    presence.beat(life.said(free=1))
    assert explained(door, task_id)["cause"] == "starting"


def test_a_ticket_is_not_sent_then_lost_then_sent_again(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said(free=0))
    task_id = life.accept()
    assert explained(door, task_id)["cause"] == "ticket_not_sent"
    dispatch.dispatch(publisher, queries.undispatched(-1))
    life.let_pass(60)
    eventually(lambda: broker.depth("data.normal") == 1)
    assert explained(door, task_id)["cause"] == "in_line"
    broker.purge("data.normal")
    assert explained(door, task_id)["cause"] == "ticket_lost"
    scan = Scan()
    assert [scan.resend(publisher), scan.resend(publisher)] == [0, 1]
    assert explained(door, task_id)["cause"] == "ticket_resent"


def test_a_broker_that_is_away_or_frozen_is_told_in_time(
    door: FlaskClient, publisher: Publisher, servers: Stack, configured: Callable[..., None]
) -> None:
    presence.beat(life.said(free=0))
    [task_id] = send(publisher, life.new())
    with frozen(servers.pid("rabbitmq")):
        assert explained(door, task_id)["cause"] == "broker_unreachable"
    configured(CELERY_BROKER_URL=broker.NOWHERE)
    told = explained(door_for(), task_id)
    assert (told["cause"], told["evidence"]["broker"]["tickets_ready"]) == ("broker_unreachable", "unknown")


def test_a_branch_in_doubt_names_the_databases(
    door: FlaskClient, servers: Stack, configured: Callable[..., None]
) -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    with life.child(life.hit_after("decide", signal.SIGKILL, life.worker_child(task_id))) as pid:
        life.end_of(pid)
    eventually(lambda: explained(door, task_id)["evidence"]["databases"] == {"data": "prepared"})
    life.let_pass(5)
    told = explained(door, task_id)
    assert (told["cause"], "branch on database data is prepared" in told["sentence"]) == ("in_doubt", True)
    configured(DATA_DATABASE_URL=NO_DATABASE)
    told = explained(door_for(), task_id)
    assert "database data does not answer" in told["sentence"]
    assert told["evidence"]["databases"] == {"data": "unknown"}
    configured(DATA_DATABASE_URL=servers.environment()["DATA_DATABASE_URL"])
    life.rounds_until(lambda: life.state(task_id) is State.SUCCEEDED)


def test_a_stop_tells_who_still_holds_what(door: FlaskClient) -> None:
    task_id = life.accept("test_long_statement")
    with life.child(life.worker_child(task_id)) as pid:
        eventually(lambda: life.task(task_id).progress_done)
        with frozen(pid):
            transitions.stop(task_id, remark="by a test")
            told = explained(door, task_id)
            assert told["cause"] == "being_stopped"
            assert told["evidence"]["databases"] == {"data": "held"}
    life.rounds_until(lambda: life.state(task_id) is State.REVOKED)
    assert explained(door, task_id)["sentence"].endswith("0 rows of it remain.")


def test_a_task_that_is_claimed_meanwhile_is_told_as_running(
    door: FlaskClient, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.beat(life.said(free=0))
    [task_id] = send(publisher, life.new())
    ask = inquiry.ask_broker

    def ask_while_a_worker_takes_it(queues: list[str]) -> Any:
        broker.take("data.normal")
        answer = ask(queues)
        transitions.claim(task_id, 1, worker=life.WORKER, lease_seconds=15)
        return answer

    monkeypatch.setattr(inquiry, "ask_broker", ask_while_a_worker_takes_it)
    assert explained(door, task_id)["cause"] == "running"


def test_an_attempt_without_its_worker_is_told(door: FlaskClient) -> None:
    task_id = life.accept()
    life.claim(task_id, lease_seconds=2)
    presence.arrive(life.said())
    assert explained(door, task_id)["cause"] == "worker_lost"
    told = explained(door, life.accept(delay_seconds=60))
    assert (told["cause"], told["evidence"]["monitor"]) == ("waits_for_time", None)


def test_an_overdue_task_is_the_monitors(door: FlaskClient) -> None:
    task_id = life.accept(delay_seconds=60)
    life.let_pass(100)
    assert explained(door, task_id)["cause"] == "monitor_missing"
    term = leadership.claim("monitor@test")
    assert term is not None
    assert explained(door, task_id)["cause"] == "waits_for_time"
    leadership.release(term)


def test_a_blocked_task_names_what_it_waits_for(door: FlaskClient) -> None:
    parent = life.accept()
    child = life.accept(depends_on=(parent,))
    told = explained(door, child)
    assert (told["state"], told["cause"]) == ("blocked", "waits_for_tasks")
    assert parent in told["sentence"]
    assert told["evidence"]["depends_on"] == {parent: "queued"}


def test_without_the_ledger_there_is_no_explanation(
    door: FlaskClient, servers: Stack, configured: Callable[..., None]
) -> None:
    task_id = life.accept()
    with frozen(servers.pid(servers.databases["ledger"])):
        began = time.monotonic()
        answer = door_for().get(f"/api/tasks/{task_id}/explain")
        assert time.monotonic() - began < ANSWER_SECONDS
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_an_unknown_task_and_an_unknown_argument_are_refused(door: FlaskClient) -> None:
    assert door.get(f"/api/tasks/{life.new().task_id}/explain").status_code == 404
    assert door.get("/api/tasks/nonsense/explain").status_code == 404
    assert door.get(f"/api/tasks/{life.accept()}/explain?deep=1").status_code == 400


def test_the_queues_are_shown_as_the_ledger_has_them(door: FlaskClient, publisher: Publisher) -> None:
    presence.beat(life.said())
    send(publisher, life.new(), life.new(), life.new(priority="low"))
    life.claim(life.accept())
    life.accept(delay_seconds=60)
    items = {each["name"]: each for each in door.get("/api/queues").get_json()["items"]}
    assert len(items) == 9
    normal = items["data.normal"]
    assert (normal["ready"], normal["scheduled"], normal["running"], normal["workers"]) == (2, 1, 1, 1)
    assert 60 <= normal["oldest_seconds"] < 120
    assert (items["data.high"]["ready"], items["data.high"]["oldest_seconds"]) == (0, None)
    assert (items["email.high"]["workers"], items["data.low"]["ready"]) == (0, 1)


def test_what_has_ended_is_not_read_for_the_queues(door: FlaskClient) -> None:
    acceptance.accept([life.new() for _ in range(3_000)])
    with db.transaction() as connection:
        connection.execute(tasks.update().values(state=State.SUCCEEDED))
    life.accept()
    before = rows_read()
    backlog.by_queue(celery_config.queue_names())
    assert rows_read() - before < 1_500


def rows_read() -> int:
    """So far, by the whole server, which these tests have for themselves."""
    with db.reading() as connection:
        found = connection.exec_driver_sql("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Handler_read%%'")
        return sum(int(row[1]) for row in found)
