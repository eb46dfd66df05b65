"""`ledger.verify` is content with what really happens, and finds each thing that must not be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import uuid_utils
from click.testing import CliRunner
from sqlalchemy import delete, insert, text, update

from ledger import db, dependents, limits, transitions, verify, xa
from ledger.__main__ import main
from ledger.limits import Limit, Subject, Whose
from ledger.models import events, marker, tasks
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from tests.service.ticks import come, schedule

pytestmark = pytest.mark.usefixtures("_cleared")


@pytest.fixture
def _cleared() -> Iterator[None]:
    yield
    life.clear_up()


def rules() -> list[verify.Rule]:
    return verify.rules(db.ledger(), {name: db.data(name) for name in db.data_names()})


def broken() -> dict[str, list[str | None]]:
    """The broken rules, each with the tasks that it names."""
    found: dict[str, list[str | None]] = {}
    for rule in rules():
        for each in verify.violations(rule):
            found.setdefault(rule.name, []).append(each.task_id)
    return found


def test_all_that_really_happens_is_in_order() -> None:
    life.accept()
    life.claim(life.accept())
    life.accept(delay_seconds=5)
    for task_type in ("test_quick", "test_failing", "test_hopeless", "bulk_insert", "fan_out_insert"):
        life.work(life.accept(task_type, {"rows": 10} if task_type.endswith("insert") else {}))
    stopped = life.accept("bulk_insert")
    transitions.stop(stopped, remark="by a test")
    handed_back = life.accept()
    life.claim(handed_back)
    transitions.hand_back(handed_back, 1, remark="by a test")
    life.work(handed_back, 2)
    transitions.remark(handed_back, "redispatched", "words that move nothing")
    limits.put(Limit(Whose(Subject.TYPE, "test_quick"), most_running=1))
    life.work(life.accept())
    assert broken() == {}


def test_a_success_without_rows_owes_none_of_an_earlier_attempt() -> None:
    task_id = life.accept()
    life.claim(task_id)
    transitions.join(task_id, 1, db.DATA)
    error = {"type": "OSError", "message": "gone", "permanent": False, "at": None}
    transitions.retry(task_id, 1, after_seconds=0, error=error, remark="again")
    life.release(task_id)
    life.work(task_id, 2)
    assert life.task(task_id).participants == []
    assert broken() == {}


def ended_twice(task_id: str) -> None:
    with db.transaction() as connection:
        row = {"task_id": task_id, "event": "finished", "state": "succeeded", "attempt": 1}
        connection.execute(insert(events).values(at=db.NOW, **row))


def forgotten_end(task_id: str) -> None:
    with db.transaction() as connection:
        connection.execute(delete(events).where(events.c.task_id == task_id, events.c.event == "finished"))


def another_attempt(task_id: str) -> None:
    life.put(task_id, attempt=2)


def another_state(task_id: str) -> None:
    life.put(task_id, state=State.FAILED)


def forgotten_task(task_id: str) -> None:
    with db.transaction() as connection:
        connection.execute(delete(tasks).where(tasks.c.id == task_id))


def forgotten_decision(task_id: str) -> None:
    with db.transaction() as connection:
        connection.execute(delete(events).where(events.c.task_id == task_id, events.c.event == "decided"))
        step = update(events).where(events.c.task_id == task_id, events.c.event == "claimed")
        connection.execute(step.values(state="committing"))


def forgotten_rows(task_id: str) -> None:
    with db.data().begin() as connection:
        connection.execute(delete(marker).where(marker.c.task_id == task_id))


def rows_of_another_attempt(task_id: str) -> None:
    with db.data().begin() as connection:
        connection.execute(update(marker).where(marker.c.task_id == task_id).values(attempt=7))


@pytest.mark.parametrize(
    ("breaking", "names"),
    [
        (ended_twice, {"ended_once", "moves"}),
        (forgotten_end, {"ended_once", "audit"}),
        (another_attempt, {"attempts", "rows:data"}),
        (another_state, {"audit", "rows:data"}),
        (forgotten_task, {"events", "rows:data"}),
        (forgotten_decision, {"moves"}),
        (forgotten_rows, {"rows:data"}),
        (rows_of_another_attempt, {"rows:data"}),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_what_must_not_be_is_found(breaking: Callable[[str], None], names: set[str]) -> None:
    life.work(life.accept("bulk_insert", {"rows": 10}))
    task_id = life.accept("bulk_insert", {"rows": 10})
    life.work(task_id)
    breaking(task_id)
    found = broken()
    assert found.keys() == names
    assert {each for tasks_ in found.values() for each in tasks_} == {task_id}


@pytest.mark.parametrize("state", ["running", "committing", "revoking", "scheduled", "retrying", "queued"])
def test_what_stands_still_is_found(state: str) -> None:
    task_id = life.accept()
    due = {"scheduled": db.NOW, "retrying": db.NOW}.get(state)
    life.put(task_id, state=state, lease_until=db.NOW if state == "running" else None, due_at=due)
    assert "moving" not in broken()
    life.let_pass(verify.SETTLING_SECONDS + 1)
    assert broken()["moving"] == [task_id]


def test_a_branch_in_doubt_is_found() -> None:
    task_id = life.accept()
    branch = xa.Branch(xa.BranchId(task_id, 1, "data"))
    branch.start()
    branch.prepare()
    branch.close()
    assert broken() == {}
    life.let_pass(verify.SETTLING_SECONDS + 1)
    assert broken()["in_doubt:data"] == [task_id]


def test_a_branch_whose_attempt_has_yet_to_decide_is_in_no_doubt() -> None:
    task_id = life.accept()
    life.claim(task_id)
    branch = xa.Branch(xa.BranchId(task_id, 1, "data"))
    branch.start()
    branch.prepare()
    branch.close()
    life.let_pass(verify.SETTLING_SECONDS + 1)
    transitions.renew(task_id, 1, lease_seconds=60)
    assert broken() == {}
    life.let_pass(verify.SETTLING_SECONDS + 1)
    assert broken() == {"in_doubt:data": [task_id]}


def test_a_branch_of_an_unknown_task_is_found() -> None:
    stranger = str(uuid_utils.uuid7())
    branch = xa.Branch(xa.BranchId(stranger, 1, "data"))
    branch.start()
    branch.prepare()
    branch.close()
    assert broken() == {"in_doubt:data": [stranger]}


def test_the_command_tells_people_and_programs() -> None:
    task_id = life.accept("bulk_insert", {"rows": 10})
    life.work(task_id)
    sound = CliRunner().invoke(main, ["verify"])
    assert (sound.exit_code, sound.output.count("✓")) == (0, len(rules())), sound.output

    forgotten_rows(task_id)
    told = CliRunner().invoke(main, ["verify"])
    assert told.exit_code == 1
    assert f"✗ rows:data         rows in data and success go together\n    {task_id}  succeeded" in told.output
    document = json.loads(CliRunner().invoke(main, ["verify", "--json"]).output)
    [broken_rule] = [each for each in document["rules"] if each["violations"]]
    assert (document["ok"], broken_rule["violations"][0]["task_id"]) == (False, task_id)


LONG_AGO = text("UTC_TIMESTAMP(6) - INTERVAL 2 MINUTE")


def test_a_start_before_a_parents_success_is_told() -> None:
    parent = life.accept()
    child = life.accept(depends_on=(parent,))
    life.put(child, state=State.QUEUED)
    life.claim(child)
    assert broken()["order"] == [child]
    life.work(parent)
    assert broken()["order"] == [child], "a success that comes later does not mend it"


def test_a_dependent_of_which_nobody_tells_is_told() -> None:
    parent, live = life.accept(), life.accept()
    child = life.accept(depends_on=(parent,))
    life.accept(depends_on=(parent, live))
    life.work(parent)
    assert broken() == {}
    life.put(parent, finished_at=LONG_AGO)
    assert broken() == {"moving": [child]}
    dependents.tell()
    assert broken() == {}


def test_a_task_that_should_have_expired_is_told() -> None:
    task_id = life.accept(expires_in_seconds=5)
    life.put(task_id, expires_at=LONG_AGO)
    assert broken() == {"moving": [task_id]}
    transitions.expire()
    assert broken() == {}


def test_a_tick_that_nobody_takes_is_found() -> None:
    come(schedule(), verify.SETTLING_SECONDS - 5)
    assert broken() == {}
    waiting = schedule()
    come(waiting, verify.SETTLING_SECONDS + 5)
    assert broken() == {"moving": [None]}
