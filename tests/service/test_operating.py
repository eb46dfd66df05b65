"""The operator's commands, for people and for programs, against a real ledger and a real RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import delete

from cli.stack import Stack
from ledger import db, queries, transitions, xa
from ledger.__main__ import main
from ledger.models import events, tasks
from ledger.states import MOVES, State
from tasks import failure
from tasks.dispatch import Publisher, dispatch
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.service.hands import Hands, at_work

STRANGER = "019aa5c0-0000-7000-8000-000000000001"

hands = pytest.fixture(at_work)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    life.clear_up()


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def document(*words: str, exit_code: int = 0) -> Any:
    done = run(*words, "--json")
    assert done.exit_code == exit_code, done.output
    return json.loads(done.output)


def fail(task_id: str | None = None, *, kind: str = "ConnectionError") -> str:
    task_id = task_id or life.accept()
    life.claim(task_id)
    assert transitions.give_up(task_id, 1, error=failure.silent(kind, "hung up"), remark="gave up")
    return task_id


@pytest.mark.parametrize("command", ["verify", "reconcile", "in-doubt", "replay", "resolve", "states", "migrate"])
def test_every_command_says_what_it_is_for(command: str) -> None:
    told = run(command, "--help")
    assert told.exit_code == 0
    assert command == "migrate" or "--json" in told.output


def test_the_states_are_told_as_a_document() -> None:
    told = document("states")
    assert set(told["states"]) == set(State)
    assert {move["name"] for move in told["moves"]} == set(MOVES)
    assert run("states").output.startswith("stateDiagram-v2")


# --- reconcile -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(hands: Hands, servers: Stack, configured: Callable[..., None]) -> Hands:
    """Empty queues, and a management interface that may be asked."""
    configured(RABBITMQ_MANAGEMENT_URL=servers.environment()["RABBITMQ_MANAGEMENT_URL"])
    return hands


def by(field: str, items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item[field]: item for item in items}


def test_accepted_is_over_and_alive(asked: Hands) -> None:
    life.work(life.accept())
    fail(life.accept("test_failing"))
    life.accept(delay_seconds=60)
    told = document("reconcile")
    types = by("task_type", told["types"])
    assert types["test_quick"] == {
        **{"task_type": "test_quick", "accepted": 2, "over": 1, "alive": 1, "missing": 0},
        "states": {"scheduled": 1, "succeeded": 1},
    }
    assert (types["test_failing"]["over"], told["ok"], told["broker_asked"]) == (1, True, True)
    assert "type          accepted  over  alive  missing" in run("reconcile").output


def test_a_task_that_vanished_is_a_difference(asked: Hands) -> None:
    task_id = life.accept()
    with db.transaction() as connection:
        connection.execute(delete(tasks).where(tasks.c.id == task_id))
    assert by("task_type", document("reconcile", exit_code=1)["types"])["(no row)"]["missing"] == 1


def test_a_task_that_nobody_accepted_is_a_difference(asked: Hands) -> None:
    task_id = life.accept()
    with db.transaction() as connection:
        connection.execute(delete(events).where(events.c.task_id == task_id))
    assert by("task_type", document("reconcile", exit_code=1)["types"])["test_quick"]["missing"] == -1


def test_a_ticket_that_the_broker_lost_is_a_difference(asked: Hands) -> None:
    task_ids = [life.accept() for _ in range(3)]
    publisher = Publisher()
    assert dispatch(publisher, [life.ticket(task_id) for task_id in task_ids]) == 3
    publisher.close()
    life.let_pass(100)

    def told(**expected: int) -> bool:
        done = run("reconcile", "--json")
        queue = by("queue", json.loads(done.output)["queues"])["data.normal"]
        return expected.items() <= queue.items() and done.exit_code == bool(expected["lost"])

    # RabbitMQ counts for its management interface every five seconds.
    eventually(lambda: told(queued=3, ready=3, unacked=0, lost=0), within=40)
    asked.empty_queues()
    eventually(lambda: told(queued=3, ready=0, unacked=0, lost=3), within=40)


def test_without_the_management_interface_the_ledger_alone_is_looked_at(configured: Callable[..., None]) -> None:
    configured(RABBITMQ_MANAGEMENT_URL="")
    life.accept()
    told = document("reconcile")
    assert (told["broker_asked"], told["queues"][0]["lost"]) == (False, None)
    assert "RabbitMQ was not asked" in run("reconcile").output


def test_a_management_interface_that_is_away_is_told_in_a_line(configured: Callable[..., None]) -> None:
    configured(RABBITMQ_MANAGEMENT_URL="http://me:secret@127.0.0.1:1")
    told = run("reconcile")
    assert told.exit_code == 1
    assert "http://127.0.0.1:1/api/queues" in told.output
    assert "secret" not in told.output


# --- in doubt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "attempt", "fate"),
    [(State.COMMITTING, 1, "commit"), (State.RUNNING, 1, "not decided"), (State.RUNNING, 2, "roll back")],
)
def test_a_branch_in_doubt_is_told_with_its_age_and_fate(state: State, attempt: int, fate: str) -> None:
    task_id = life.accept("bulk_insert")
    life.put(task_id, state=state, attempt=attempt)
    branch = xa.Branch(xa.BranchId(task_id, 1, "data"))
    branch.start()
    branch.prepare()
    branch.close()
    life.let_pass(30)
    [told] = document("in-doubt")["branches"]
    assert (told["task_id"], told["attempt"], told["state"], told["fate"]) == (task_id, 1, state, fate)
    assert 30 <= told["idle_seconds"] < 60
    assert task_id in run("in-doubt").output


def test_no_branch_in_doubt_is_told_so() -> None:
    assert run("in-doubt").output == "none\n"
    assert document("in-doubt") == {"branches": []}


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_limit_is_set_listed_and_removed() -> None:
    life.accept()
    assert run("limits", "list").output == "none\n"
    assert "set for type test_quick" in run("limits", "set", "type", "test_quick", "--most-running", "0").output
    task_id = life.accept()
    life.work(task_id)
    [told] = document("limits", "list")["limits"]
    assert (told["subject"], told["name"], told["most_running"], told["waiting"]) == ("type", "test_quick", 0, 1)
    assert "test_quick" in run("limits", "list").output
    assert run("limits", "remove", "type", "test_quick").exit_code == 0
    assert "there is no limit of type" in run("limits", "remove", "type", "test_quick").output
    life.work(life.accept())
    assert life.state(task_id) is State.THROTTLED


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["type", "test_quick"], "--most-running, --starts-per-minute or both"),
        (["queue", "data.low", "--most-running", "1"], "'owner', 'type'"),
        (["owner", "Ada L", "--most-running", "1"], "one lower-case word"),
        (["type", "", "--most-running", "1"], "no name of a task type"),
        (["type", "test_quick", "--most-running", "-1"], "-1"),
        (["type", "test_quick", "--starts-per-minute", "0"], "0 is not in the range"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(words: list[str], said: str) -> None:
    told = run("limits", "set", *words)
    assert told.exit_code == 2
    assert said in told.output
    assert document("limits", "list") == {"limits": []}


def test_a_limit_on_what_nobody_has_seen_is_asked_about() -> None:
    told = run("limits", "set", "type", "test_quik", "--starts-per-minute", "5")
    assert told.exit_code == 0
    assert "is the name spelt right?" in told.output


# --- replay and resolve --------------------------------------------------------------------------------------------


def test_a_task_is_replayed_by_its_id() -> None:
    task_id = fail()
    assert document("replay", task_id, "--dry-run") == {"matching": 1}
    assert life.state(task_id) is State.FAILED
    assert "1 queued again" in run("replay", task_id, "--note", "the host is back").output
    assert life.state(task_id) is State.QUEUED
    told = queries.history(task_id)[-1]
    assert told.detail["by"].endswith(", python -m ledger")
    assert told.detail["note"] == "the host is back"


def test_many_are_replayed_by_filters() -> None:
    high, low = fail(life.accept(priority="high")), fail(life.accept(priority="low"))
    uncertain = fail(kind="Uncertain")
    assert document("replay", "--filter", "state=failed", "--dry-run") == {"matching": 2}
    told = document("replay", "--filter", "priority=high", "--filter", "error=hung UP")
    assert told == {"replayed": 1, "more": False, "task_ids": [high]}
    assert {life.state(low), life.state(uncertain)} == {State.FAILED}
    assert document("replay", "--filter", "uncertain=1")["task_ids"] == [uncertain]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give either"),
        ([STRANGER, "--filter", "state=failed"], "give either"),
        ([STRANGER], "no task has the id"),
        ([STRANGER, "--dry-run"], "no task has the id"),
        (["--filter", "stat=failed"], "names are state, task_type"),
        (["--filter", "state=faild"], "states are"),
        (["--filter", "created_after=yesterday"], "no time such as"),
        (["--filter", "resolved=maybe"], "expected 1 or 0"),
        (["--filter", "error="], "expected NAME=VALUE"),
        (["--filter", "tag=ü"], "a tag has 1 to 40 letters"),
    ],
)
def test_a_replay_that_is_not_clear_is_refused(words: list[str], said: str) -> None:
    told = run("replay", *words)
    assert told.exit_code != 0
    assert said in told.output


def test_what_is_not_over_is_not_replayed_or_resolved() -> None:
    task_id = life.accept()
    for words in (["replay", task_id], ["replay", task_id, "--dry-run"], ["resolve", task_id, "--note", "x"]):
        told = run(*words)
        assert told.exit_code == 1
        assert "queued" in told.output
    assert life.state(task_id) is State.QUEUED


def test_a_failure_is_resolved_with_a_note() -> None:
    task_id = fail()
    assert run("resolve", task_id).exit_code == 2
    assert document("resolve", task_id, "--note", "paid by hand")["state"] == "failed"
    assert life.task(task_id).resolved_note == "paid by hand"
    assert "no task has the id" in run("resolve", STRANGER, "--note", "x").output
