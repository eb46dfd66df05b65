"""Tasks that wait for others start after those have succeeded, once, whoever ends them and whenever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger import acceptance, db, dependents, dispatches, queries, transitions
from ledger.filters import Filter
from ledger.states import State
from tests import life, task_types  # noqa: F401  registers the types
from workers.monitor import Monitor

ERROR = {"type": "ValueError", "message": "no", "permanent": True, "at": None}


def child_of(*parents: str, **more: Any) -> str:
    return life.accept(depends_on=parents, **more)


def tell_all() -> list[str]:
    """Tell of every ending; the tasks that got a ticket."""
    released: list[str] = []
    while (tickets := dependents.tell()) is not None:
        released += [ticket.task_id for ticket in tickets]
    return released


def succeed(task_id: str) -> None:
    life.work(task_id)
    assert life.state(task_id) is State.SUCCEEDED


def end_in(task_id: str, state: State) -> None:
    """Bring a task to an end by the move that leads there."""
    match state:
        case State.FAILED:
            attempt = life.claim(task_id).attempt
            assert transitions.give_up(task_id, attempt, error=ERROR, remark="no")
        case State.REVOKED:
            transitions.stop(task_id, remark="by a test")
        case State.EXPIRED:
            life.put(task_id, expires_at=life.task(task_id).created_at)
            assert transitions.expire() == 1
    assert life.state(task_id) is state


UNSUCCESSFUL = [State.FAILED, State.REVOKED, State.EXPIRED]


def test_a_child_starts_after_the_last_of_its_parents() -> None:
    first, second = life.accept(), life.accept()
    child = child_of(first, second)
    succeed(first)
    assert tell_all() == []
    assert life.state(child) is State.BLOCKED
    succeed(second)
    assert tell_all() == [child]
    assert life.names_of_events(child) == ["accepted", "unblocked"]
    succeed(child)
    assert _seq(child, "claimed") > max(_seq(first, "finished"), _seq(second, "finished"))


def _seq(task_id: str, event: str) -> int:
    [seq] = [int(row.seq) for row in queries.history(task_id) if row.event == event]
    return seq


def test_no_ticket_starts_a_blocked_task() -> None:
    child = child_of(life.accept())
    life.work(child)
    assert life.state(child) is State.BLOCKED
    assert queries.undispatched(-1) == [life.ticket(queries.page(Filter(states=[State.QUEUED])).rows[0].id)]


def test_a_child_of_finished_tasks_begins_at_once() -> None:
    parent = life.accept()
    succeed(parent)
    assert life.state(child_of(parent)) is State.QUEUED
    assert life.state(child_of(parent, delay_seconds=60)) is State.SCHEDULED


def test_a_released_child_still_waits_for_its_own_time() -> None:
    parent = life.accept()
    child = child_of(parent, delay_seconds=60)
    succeed(parent)
    assert tell_all() == []
    assert life.state(child) is State.SCHEDULED
    assert life.release(child).task_id == child
    assert life.names_of_events(child) == ["accepted", "unblocked_early", "due"]


def test_a_child_whose_time_came_while_it_was_blocked_starts() -> None:
    parent = life.accept()
    child = child_of(parent, delay_seconds=60)
    life.let_pass(61)
    assert dispatches.release_due() == []
    succeed(parent)
    assert tell_all() == [child]


@pytest.mark.parametrize("state", UNSUCCESSFUL)
def test_a_child_fails_with_its_parent_and_says_why(state: State) -> None:
    parent, other = life.accept(), life.accept()
    child = child_of(parent, other)
    end_in(parent, state)
    assert tell_all() == []
    row = life.task(child)
    assert (row.state, row.error["type"]) == (State.FAILED, "ParentFailed")
    assert parent in row.error["message"]
    assert row.finished_at is not None
    succeed(other)
    assert tell_all() == []
    assert life.names_of_events(child) == ["accepted", "parent_failed"]


@pytest.mark.parametrize("state", UNSUCCESSFUL)
def test_a_child_that_ignores_failures_starts_all_the_same(state: State) -> None:
    parent, other = life.accept(), life.accept()
    child = child_of(parent, other, on_parent_failure=dependents.IGNORE)
    end_in(parent, state)
    assert tell_all() == []
    succeed(other)
    assert tell_all() == [child]


@pytest.mark.parametrize("state", UNSUCCESSFUL)
def test_who_submits_after_the_failure_learns_of_it_at_once(state: State) -> None:
    parent = life.accept()
    end_in(parent, state)
    tell_all()
    assert life.state(child_of(parent)) is State.FAILED
    assert life.state(child_of(parent, on_parent_failure=dependents.IGNORE)) is State.QUEUED


def test_a_parent_that_the_resolver_finished_releases_as_well() -> None:
    parent = life.accept("bulk_insert", {"rows": 10})
    child = child_of(parent)
    with life.child(life.hit_after("commit", signal.SIGKILL, life.worker_child(parent))) as pid:
        life.end_of(pid)
    assert life.state(parent) is State.COMMITTING
    life.rounds_until(lambda: life.state(parent) is State.SUCCEEDED)
    assert tell_all() == [child]


def test_a_long_chain_of_failures_ends_link_by_link() -> None:
    first = last = life.accept()
    for _ in range(60):
        last = child_of(last)
    end_in(first, State.REVOKED)
    assert tell_all() == []
    assert queries.counts() == {**dict.fromkeys(State, 0), State.REVOKED: 1, State.FAILED: 60}
    assert "depends on" in life.task(last).error["message"]


def test_of_two_parents_that_end_at_once_one_releases_the_child() -> None:
    with ThreadPoolExecutor(2) as crowd:
        for _ in range(20):
            pair = [life.accept(), life.accept()]
            child = child_of(*pair)
            for parent in pair:
                life.claim(parent)
            together = threading.Barrier(2)

            def end(parent: str, together: threading.Barrier = together) -> list[str]:
                together.wait()
                transitions.finish(parent, 1)
                return [ticket.task_id for ticket in dependents.tell(parent) or []]

            assert [each for told in crowd.map(end, pair) for each in told] == [child]
            assert life.names_of_events(child) == ["accepted", "unblocked"]


def test_a_parent_that_ends_while_a_child_is_accepted_is_not_missed() -> None:
    with ThreadPoolExecutor(2) as crowd:
        seen = set[State | None]()
        for _ in range(40):
            parent = life.accept()
            life.claim(parent)
            together = threading.Barrier(2)

            def finish(parent: str = parent, together: threading.Barrier = together) -> None:
                together.wait()
                transitions.finish(parent, 1)

            def accept(parent: str = parent, together: threading.Barrier = together) -> str:
                together.wait()
                return child_of(parent)

            ending, accepting = crowd.submit(finish), crowd.submit(accept)
            ending.result()
            seen.add(life.state(accepting.result()))
            tell_all()
            assert life.state(accepting.result()) is State.QUEUED
    assert seen <= {State.QUEUED, State.BLOCKED}


def test_many_monitors_release_each_child_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependents, "CHUNK", 7)
    parents = [life.accept() for _ in range(3)]
    new = [life.new(depends_on=parents) for _ in range(50)]
    acceptance.accept(new)
    for parent in parents:
        succeed(parent)
    with ThreadPoolExecutor(4) as monitors:
        released = [each for told in monitors.map(lambda _: tell_all(), range(4)) for each in told] + tell_all()
    assert sorted(released) == [task.task_id for task in new]
    assert {tuple(life.names_of_events(task.task_id)) for task in new} == {("accepted", "unblocked")}


def test_who_dies_before_telling_leaves_the_ending_to_the_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = life.accept()
    child = child_of(parent)

    def dies(*_: object, **__: object) -> None:
        raise db.Unavailable("killed right here")

    with monkeypatch.context() as broken:
        broken.setattr(dependents, "_tell", dies)
        succeed(parent)
        with pytest.raises(db.Unavailable):
            dependents.tell()
    assert life.state(child) is State.BLOCKED
    assert tell_all() == [child]


def test_a_stop_of_a_blocked_task_works_at_once() -> None:
    parent = life.accept()
    child = child_of(parent)
    grandchild = child_of(child)
    assert life.stopped(child) == (State.BLOCKED, State.REVOKED, 0)
    tell_all()
    assert life.state(grandchild) is State.FAILED
    succeed(parent)
    assert tell_all() == []
    assert life.state(child) is State.REVOKED


def test_a_parent_that_was_tried_again_tells_when_it_ends_again() -> None:
    parent, other = life.accept(), life.accept()
    failed, patient = child_of(parent), child_of(parent, other, on_parent_failure=dependents.IGNORE)
    end_in(parent, State.FAILED)
    tell_all()
    life.put(parent, state=State.QUEUED)
    succeed(other)
    assert tell_all() == []
    assert life.state(patient) is State.BLOCKED, "it is being tried again, and may succeed"
    life.work(parent, 2)
    assert tell_all() == [patient]
    assert life.state(failed) is State.FAILED, "what has ended stays ended"


def test_an_ending_that_was_overtaken_by_a_new_try_tells_nothing() -> None:
    parent = life.accept()
    child = child_of(parent)
    end_in(parent, State.FAILED)
    life.put(parent, state=State.QUEUED)
    assert tell_all() == []
    assert life.state(child) is State.BLOCKED


def test_an_unknown_parent_refuses_the_whole_submission() -> None:
    known, nobody = life.accept(), "019aa5c0-0000-7000-8000-000000000001"
    before = life.everything()
    with pytest.raises(dependents.UnknownParents, match=nobody):
        acceptance.accept([life.new(), life.new(depends_on=(known, nobody))])
    assert life.everything() == before


def test_tasks_that_are_accepted_together_may_name_each_other() -> None:
    first = life.new()
    second = life.new(depends_on=(first.task_id,))
    third = life.new(depends_on=(first.task_id, second.task_id))
    assert acceptance.accept([third, second, first]) == [State.BLOCKED, State.BLOCKED, State.QUEUED]
    for task in (first, second, third):
        succeed(task.task_id)
        tell_all()


def test_a_circle_is_refused() -> None:
    ring: Sequence[Any] = [life.new(), life.new()]
    one, two = (a._replace(depends_on=(b.task_id,)) for a, b in (ring, reversed(ring)))
    with pytest.raises(dependents.Circle, match=one.task_id):
        acceptance.accept([one, two])
    assert life.everything() == ([], [], 0)


def test_a_task_without_dependents_leaves_no_ending() -> None:
    succeed(life.accept())
    assert dependents.tell() is None


def test_the_monitor_tells_and_sends(servers: object) -> None:
    parent = life.accept()
    child = child_of(parent)
    succeed(parent)
    monitor = Monitor()
    [tell] = [each for each in monitor.rounds() if each.name == "dependents"]
    assert tell.act() == 1
    monitor.publisher.close()
    assert life.task(child).dispatched_at is not None


# --- at the door ---------------------------------------------------------------------------------------------------


def test_the_door_takes_and_shows_dependencies(door: Any) -> None:
    parent = life.accept()
    said = door.post("/api/tasks", json={"task_type": "test_quick", "depends_on": [parent.upper(), parent]})
    assert (said.status_code, said.json["state"], said.json["status"]) == (202, "blocked", "pending")
    child = said.json["task_id"]
    assert door.get(f"/api/tasks/{child}").json["depends_on"] == [{"task_id": parent, "state": "queued"}]
    assert door.get(f"/api/tasks/{parent}").json["dependents"] == [{"task_id": child, "state": "blocked"}]
    listed = door.get(f"/api/tasks?depends_on={parent}&state=blocked").json["items"]
    assert [each["task_id"] for each in listed] == [child]
    assert door.get(f"/api/tasks?depends_on={child}").json["items"] == []


def test_the_door_names_a_parent_that_is_unknown(door: Any) -> None:
    nobody = "019aa5c0-0000-7000-8000-000000000001"
    said = door.post("/api/tasks", json={"task_type": "test_quick", "depends_on": [nobody]})
    assert (said.status_code, said.json["errors"][0]["pointer"]) == (422, "#/depends_on")
    assert nobody in said.json["detail"]


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"depends_on": ["no id"]}, "#/depends_on/0"),
        ({"depends_on": "no list"}, "#/depends_on"),
        ({"depends_on": [f"019aa5c0-0000-7000-8000-{number:012}" for number in range(101)]}, "#/depends_on"),
        ({"on_parent_failure": "panic"}, "#/on_parent_failure"),
    ],
)
def test_the_door_refuses_what_is_no_list_of_tasks(door: Any, wrong: dict[str, Any], pointer: str) -> None:
    said = door.post("/api/tasks", json={"task_type": "test_quick", **wrong})
    assert (said.status_code, said.json["errors"][0]["pointer"]) == (422, pointer)
    assert life.everything() == ([], [], 0)
