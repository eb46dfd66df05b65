"""Workers tell the ledger that they are there, and are missed when they do not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import make_url, text

from cli.stack import Stack
from ledger import db, presence
from ledger.presence import GONE_SECONDS
from tests import life
from tests.conftest import eventually
from tests.service.hands import GRACE_SECONDS, Hands, at_work, ticket
from tests.system.processes import away, children, frozen
from workers.presence import REST_SECONDS, Beats

hands = pytest.fixture(at_work)

ALL = life.DATA_QUEUES
NOWHERE = "mysql+pymysql://nobody@127.0.0.1:1/none"


def silent_for(seconds: float) -> None:
    with db.transaction() as connection:
        connection.execute(text(f"UPDATE workers SET seen_at = seen_at - INTERVAL {seconds} SECOND"))


def test_a_worker_is_here_until_it_is_not_heard_of() -> None:
    presence.beat(life.said())
    silent_for(GONE_SECONDS - 2)
    [worker] = presence.here()
    assert (worker.said.name, worker.said.queues, worker.said.free) == (life.WORKER, ALL, 2)
    silent_for(3)
    assert presence.here() == []
    assert [each.said.name for each in presence.known()] == [life.WORKER]


def test_beats_of_one_process_do_not_change_when_it_started() -> None:
    first = life.said()
    presence.beat(first)
    [before] = presence.known()
    presence.beat(life.said(incarnation=first.incarnation, free=0))
    [after] = presence.known()
    assert (after.started_at, after.said.free) == (before.started_at, 0)
    assert after.seen_at > before.seen_at


def test_a_successor_takes_the_row_of_its_name_over() -> None:
    predecessor, successor = life.said(), life.said()
    presence.beat(predecessor)
    [before] = presence.known()
    presence.arrive(successor)
    [after] = presence.known()
    assert after.started_at > before.started_at
    presence.leave(predecessor)
    assert [each.said.incarnation for each in presence.known()] == [successor.incarnation]
    presence.leave(successor)
    assert presence.known() == []


def test_an_arrival_forgets_those_that_are_long_gone() -> None:
    presence.beat(life.said(name="data@yesterday"))
    silent_for(presence.FORGET_SECONDS + 1)
    presence.arrive(life.said())
    assert [each.said.name for each in presence.known()] == [life.WORKER]


def test_who_leaves_serves_no_queue_any_more() -> None:
    presence.beat(life.said(name="data@one"))
    presence.beat(life.said(name="data@two", leaving=True))
    presence.beat(life.said(name="data@three", queues=("data.low",)))
    here = presence.here()
    assert [each.said.name for each in presence.serving("data.high", here)] == ["data@one"]
    assert [each.said.name for each in presence.serving("data.low", here)] == ["data@one", "data@three"]


def test_a_beat_to_an_absent_ledger_gives_up_soon(configured: Callable[..., None]) -> None:
    configured(LEDGER_DATABASE_URL=NOWHERE)
    began = time.monotonic()
    with pytest.raises(db.Unavailable):
        presence.beat(life.said())
    assert time.monotonic() - began < 1


def test_a_beat_to_a_frozen_ledger_gives_up_soon(servers: Stack) -> None:
    presence.beat(life.said())
    with frozen(servers.pid(servers.databases["ledger"])):
        began = time.monotonic()
        with pytest.raises(db.Unavailable):
            presence.beat(life.said())
        assert time.monotonic() - began < 1.5


# --- a real worker -------------------------------------------------------------------------------------------------


def only_worker(door: FlaskClient) -> dict[str, Any]:
    """Empty when there is none."""
    items = door.get("/api/workers").get_json()["items"]
    assert len(items) <= 1
    return items[0] if items else {}


def test_a_worker_is_listed_while_it_lives_and_not_after(hands: Hands, door: FlaskClient) -> None:
    worker = hands.start(concurrency=2)
    listed = eventually(lambda: only_worker(door))
    assert listed["name"].startswith("data@")
    assert (listed["kind"], listed["queues"], listed["concurrency"]) == ("data", list(ALL), 2)
    assert listed["reaches_broker"] and not listed["leaving"]
    hands.send([ticket("sleep:60:long")])
    eventually(lambda: only_worker(door).get("free") == 1, what="one child is busy")
    worker.send_signal(signal.SIGTERM)
    eventually(lambda: only_worker(door)["leaving"], what="it says that it leaves")
    assert worker.wait(GRACE_SECONDS + 5) == 0
    assert presence.known() == []


def test_a_frozen_parent_is_missed_within_seconds(hands: Hands, door: FlaskClient) -> None:
    worker = hands.start()
    eventually(lambda: only_worker(door))
    with frozen(worker.pid):
        began = time.monotonic()
        eventually(lambda: not only_worker(door), within=GONE_SECONDS + 5)
        assert time.monotonic() - began > GONE_SECONDS - 2 * presence.BEAT_SECONDS
    eventually(lambda: only_worker(door), what="it is back")


def test_a_worker_without_rabbitmq_is_here_and_says_so(hands: Hands, door: FlaskClient, servers: Stack) -> None:
    hands.start()
    eventually(lambda: only_worker(door))
    with away(servers, "rabbitmq"):
        eventually(lambda: only_worker(door)["reaches_broker"] is False, what="it misses RabbitMQ")
    eventually(lambda: only_worker(door)["reaches_broker"], within=30, what="it found RabbitMQ")


def test_a_worker_works_on_while_the_ledger_is_frozen(hands: Hands, servers: Stack) -> None:
    """The recorder's children need no ledger: only the parent's beats could hold their tickets up."""
    hands.start()
    eventually(presence.here)
    with frozen(servers.pid(servers.databases["ledger"])):
        time.sleep(presence.BEAT_SECONDS)
        began = time.monotonic()
        hands.send([ticket(f"sleep:0:{number}") for number in range(50)])
        hands.await_("done", times=50, within=10)
        assert time.monotonic() - began < 5


def test_no_child_inherits_a_connection_to_the_ledger(hands: Hands, servers: Stack) -> None:
    worker = hands.start(concurrency=2)
    eventually(presence.here)
    port = make_url(os.environ["LEDGER_DATABASE_URL"]).port
    for _ in range(5):
        os.kill(children(worker.pid)[0], signal.SIGKILL)
        eventually(lambda: len(children(worker.pid)) == 2)
    assert not [pid for pid in children(worker.pid) if connects_to(pid, port)]


def connects_to(pid: int, port: int | None) -> bool:
    """Whether a process has a connection to a port of this machine."""
    sockets = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(f"socket:[{line[9]}]" in sockets and int(line[2].partition(":")[2], 16) == port for line in lines)


def test_a_ledger_that_did_not_answer_is_left_alone_for_a_while(
    configured: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, url = [1000.0], os.environ["LEDGER_DATABASE_URL"]
    monkeypatch.setattr("workers.presence.time.monotonic", lambda: now[0])
    configured(LEDGER_DATABASE_URL=NOWHERE)
    beats = Beats(idle_worker())
    for _ in range(5):
        beats.beat()
        beats.beat_now()
        now[0] += 0.9 * REST_SECONDS / 5
    assert caplog.text.count("cannot tell the ledger") == 1
    now[0] += REST_SECONDS
    beats.beat()
    assert caplog.text.count("cannot tell the ledger") == 2
    configured(LEDGER_DATABASE_URL=url)
    now[0] += REST_SECONDS
    beats.beat()
    assert [each.said.name for each in presence.known()] == [life.WORKER]


def idle_worker() -> Any:
    """As much of one as a beat asks for."""
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from={}))
    return SimpleNamespace(
        hostname=life.WORKER, kind="data", concurrency=2, pool=None, consumer=None, app=SimpleNamespace(amqp=amqp)
    )
