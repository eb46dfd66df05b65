"""Limits: never more than so many at once or in a minute, whoever claims and dies, and nobody else waits for it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update

from ledger import acceptance, db, editing, keys, limits, places, queries, replay, transitions, verify
from ledger.callers import Caller
from ledger.editing import Change
from ledger.limits import Limit, Subject, Whose
from ledger.models import limit_starts, limit_waits, tasks
from ledger.states import ACTIVE, State
from tasks import remarks, resolve
from tests import life, task_types  # noqa: F401  registers the types
from tests.conftest import eventually
from tests.doors import door_for, key

QUICK = Whose(Subject.TYPE, "test_quick")
ADA = Whose(Subject.OWNER, "ada")


def limit(whose: Whose = QUICK, *, running: int | None = None, starts: int | None = None) -> None:
    limits.put(Limit(whose, running, starts))


def accept(owner: str = "ada", task_type: str = "test_quick", **more: Any) -> str:
    task = life.new(task_type, **more)
    acceptance.accept([task], caller=Caller(owner, frozenset(keys.USUAL_SCOPES)))
    return task.task_id


def claim(task_id: str, attempt: int = 1, *, lease_seconds: float = 60) -> bool:
    return transitions.claim(task_id, attempt, worker=life.WORKER, lease_seconds=lease_seconds) is not None


def claim_at_once(task_ids: Sequence[str], attempt: int = 1) -> list[bool]:
    """As many workers as there are tasks, all in the same moment."""
    begin = threading.Barrier(len(task_ids))

    def one(task_id: str) -> bool:
        begin.wait(10)
        return claim(task_id, attempt)

    with ThreadPoolExecutor(len(task_ids)) as workers:
        return list(workers.map(one, task_ids))


def states(task_ids: Collection[str]) -> list[State | None]:
    return [life.state(task_id) for task_id in task_ids]


def admitted(*lines: Whose) -> list[str]:
    return [ticket.task_id for line in lines or places.lines() for ticket in places.admit(line)]


def let_places_go(seconds: float = limits.KEPT_SECONDS) -> None:
    """As if so much time had gone by since tasks were admitted and started."""
    earlier = text(f"admitted_at - INTERVAL {round(seconds * 1_000_000)} MICROSECOND")
    with db.transaction() as connection:
        connection.execute(update(limit_waits).values(admitted_at=earlier))
        connection.execute(update(limit_starts).values(second=limit_starts.c.second - round(seconds)))


# --- the bounds ------------------------------------------------------------------------------------------------------


def test_no_more_than_the_limit_run_whoever_claims_at_once() -> None:
    limit(running=3)
    limit(ADA, running=4)
    for _ in range(4):
        task_ids = [accept() for _ in range(8)]
        with errors() as found:
            won = claim_at_once(task_ids)
        assert found == [], "nobody is the victim of a deadlock"
        assert won.count(True) == 3
        assert sorted(states(task_ids)) == [State.RUNNING] * 3 + [State.THROTTLED] * 5  # type: ignore[type-var]
        for task_id in task_ids:
            transitions.stop(task_id, remark="by a test")
            transitions.rolled_back(task_id, 1, undone={})
        assert admitted() == []


@contextmanager
def errors() -> Iterator[list[str]]:
    """What the ledger's server refused, also where it is tried again."""
    found: list[str] = []

    def note(context: Any) -> None:
        found.append(str(context.original_exception))

    event.listen(db.ledger(), "handle_error", note)
    yield found
    event.remove(db.ledger(), "handle_error", note)


def test_an_owners_limit_counts_all_of_his_types_and_nobody_elses() -> None:
    limit(ADA, running=2)
    mine = [accept(task_type=name) for name in ("test_quick", "test_failing", "test_busy", "test_hopeless")]
    others = [accept("emmy") for _ in range(4)]
    won = claim_at_once(mine + others)
    assert (won[:4].count(True), won[4:].count(True)) == (2, 4)


def test_no_more_start_in_a_minute_than_may() -> None:
    limit(starts=3)
    task_ids = [accept() for _ in range(8)]
    assert claim_at_once(task_ids).count(True) == 3
    for task_id in task_ids:
        transitions.finish(task_id, 1)
    assert admitted() == [], "an end makes no room: it is starts that are counted"
    let_places_go(limits.MINUTE_SECONDS + 1)
    assert len(admitted()) == 3


def test_a_start_counts_for_a_whole_minute_and_no_longer_than_a_second_more() -> None:
    limit(starts=1)
    first, second = accept(), accept()
    assert [claim(first), claim(second)] == [True, False]
    let_places_go(59)
    assert admitted() == []
    let_places_go(2)
    assert admitted() == [second]


def test_a_second_of_the_ring_forgets_the_one_a_while_before() -> None:
    limit(starts=100)
    for _ in range(3):
        assert claim(accept())
    let_places_go(64)
    for _ in range(2):
        assert claim(accept())
    [(use, _)] = limits.listed()
    assert use.starts == 2
    with db.reading() as connection:
        assert connection.execute(select(func.count()).select_from(limit_starts)).scalar_one() <= 4


def test_a_claim_that_began_before_the_limit_was_there_counts() -> None:
    first, second = accept(), accept()
    with db.transaction() as slow:
        slow.execute(update(tasks).where(tasks.c.id == first).values(state=State.RUNNING, attempt=1))
        limit(running=1)
        with ThreadPoolExecutor() as worker:
            late = worker.submit(claim, second)
            with pytest.raises(TimeoutError):
                late.result(0.5)
            slow.commit()
            assert not late.result(10)
    assert states([first, second]) == [State.RUNNING, State.THROTTLED]


def test_the_bounds_hold_while_workers_come_and_go() -> None:
    """Six workers, two limits, tasks that end in every way; what runs is counted whenever a worker has claimed."""
    limit(running=2)
    limit(ADA, running=3)
    tickets = [(accept(("ada", "emmy")[n % 2], ("test_quick", "test_busy")[n % 3 == 0]), 1) for n in range(36)]
    over, most, lock = threading.Event(), {QUICK: 0, ADA: 0}, threading.Lock()

    def work() -> None:
        while not over.is_set():
            try:
                with lock:
                    task_id, attempt = tickets.pop(0)
            except IndexError:
                over.wait(0.005)
                continue
            if claim(task_id, attempt):
                look()
                end(task_id, attempt)

    def look() -> None:
        found = {whose: running(whose) for whose in most}
        with lock:
            most.update({whose: max(most[whose], number) for whose, number in found.items()})

    def end(task_id: str, attempt: int) -> None:
        if int(task_id[-1], 16) % 4 or attempt > 1:
            transitions.finish(task_id, attempt)
        else:
            transitions.hand_back(task_id, attempt, remark="leaving")
            with lock:
                tickets.append((task_id, attempt + 1))

    def all_done() -> bool:
        fresh = [(ticket.task_id, ticket.attempt) for line in places.lines() for ticket in places.admit(line)]
        with lock:
            tickets.extend(fresh)
        return queries.counts()["succeeded"] == 36

    with ThreadPoolExecutor(6) as workers:
        done = [workers.submit(work) for _ in range(6)]
        try:
            eventually(all_done, within=90)
        finally:
            over.set()
        for each in done:
            each.result()
    assert (0 < most[QUICK] <= 2, 0 < most[ADA] <= 3) == (True, True), most
    assert not any(verify.violations(rule) for rule in verify.rules(db.ledger(), {}) if list(rule.broken()))


def running(whose: Whose) -> int:
    column = tasks.c.task_type if whose.subject is Subject.TYPE else tasks.c.owner
    with db.reading() as connection:
        held = select(func.count()).where(column == whose.name, tasks.c.state.in_(sorted(ACTIVE)))
        return connection.execute(held).scalar_one()


# --- who waits, and for how long -------------------------------------------------------------------------------------


def test_what_has_no_place_holds_nobody_back() -> None:
    limit(running=1)
    assert claim(accept())
    backlog, other = [accept() for _ in range(5)], accept(task_type="test_failing")
    assert not any(claim(task_id) for task_id in backlog)
    assert claim(other)
    assert set(states(backlog)) == {State.THROTTLED}
    assert {life.task(task_id).dispatched_at for task_id in backlog} == {None}
    assert {life.task(task_id).attempt for task_id in backlog} == {0}


def test_the_best_priority_comes_first_and_then_the_oldest() -> None:
    limit(running=0)
    low, normal, high, later = (accept(priority=word) for word in ("low", "normal", "high", "high"))
    assert claim_at_once([low, normal, high, later]) == [False] * 4
    limit(running=3)
    assert admitted() == [high, later, normal]
    assert states([low, high]) == [State.THROTTLED, State.QUEUED]


def test_no_more_are_admitted_than_there_are_places() -> None:
    limit(running=2)
    running_one, *waiting = (accept() for _ in range(5))
    assert claim(running_one)
    limit(running=1)
    assert not any(claim(task_id) for task_id in waiting)
    limit(running=2)
    assert admitted() == waiting[:1]
    assert admitted() == [], "its place is kept"
    assert not claim(accept()), "from everybody else, too"
    assert claim(waiting[0])
    assert admitted() == []
    transitions.finish(running_one, 1)
    assert admitted() == waiting[1:2]


def test_a_place_is_not_kept_for_long() -> None:
    limit(running=0)
    first, second = accept(), accept()
    assert claim_at_once([first, second]) == [False, False]
    limit(running=1)
    assert admitted() == [first]
    let_places_go()
    assert admitted() == [second]
    assert claim(first), "who was admitted needs nothing but the place itself"
    assert not claim(second)
    assert life.names_of_events(second) == ["accepted", "throttled", "admitted", "throttled"]


def test_nobody_passes_the_line() -> None:
    limit(running=1)
    first, second = accept(), accept()
    assert [claim(first), claim(second)] == [True, False]
    transitions.finish(first, 1)
    late = accept(priority="high")
    assert not claim(late)
    assert "others wait before it for test_quick tasks" in life.remarks(late)
    assert admitted() == [late], "but a better one goes before the others in it"


def test_a_line_is_not_held_up_by_those_who_wait_for_another_limit() -> None:
    limit(running=0)
    limit(ADA, running=0)
    mine, hers = [accept() for _ in range(3)], accept("emmy")
    limits.remove(ADA)
    assert claim_at_once([*mine, hers]) == [False] * 4
    limit(ADA, running=1)
    limit(running=4)
    assert admitted(QUICK) == [mine[0], hers]
    assert claim(mine[0]) and claim(hers)
    assert {whose: waiting for use, waiting in limits.listed() if (whose := use.limit.whose)} == {ADA: 2, QUICK: 0}
    transitions.finish(mine[0], 1)
    assert admitted(ADA) == [mine[1]]


@pytest.mark.parametrize("whose", [QUICK, ADA])
def test_the_place_of_a_dead_attempt_is_free_when_its_lease_is_over(whose: Whose) -> None:
    limit(whose, running=1)
    first, second = accept(), accept()
    assert [claim(first), claim(second)] == [True, False]
    assert admitted() == []
    life.let_pass(100)
    resolve.expire_leases()
    assert life.state(first) is State.RETRYING
    assert admitted() == [second]
    assert claim(second)


def test_a_changed_limit_is_heeded_by_the_next_claim() -> None:
    task_ids = [accept() for _ in range(6)]
    assert claim(task_ids[0]) and claim(task_ids[1])
    limit(running=1)
    assert not claim(task_ids[2])
    assert states(task_ids[:2]) == [State.RUNNING] * 2, "what runs goes on"
    limit(running=3)
    assert admitted() == [task_ids[2]]
    limits.remove(QUICK)
    assert claim(task_ids[3]) and claim(task_ids[2]) and claim(task_ids[4])


def test_without_the_limit_its_line_is_let_in() -> None:
    limit(running=0)
    waiting = [accept() for _ in range(places.CHUNK + 5)]
    for task_id in waiting:
        assert not claim(task_id)
    limits.remove(QUICK)
    assert [len(admitted()), len(admitted()), len(admitted())] == [places.CHUNK, 5, 0]
    assert places.lines() == []
    assert set(states(waiting)) == {State.QUEUED}


# --- what else happens to one that waits -----------------------------------------------------------------------------


@pytest.fixture
def throttled() -> str:
    limit(running=0)
    task_id = accept()
    assert not claim(task_id)
    return task_id


def test_a_stop_ends_one_that_waits_for_a_place(throttled: str) -> None:
    assert life.stopped(throttled) == (State.THROTTLED, State.REVOKED, 0)
    limit(running=1)
    assert admitted() == []
    assert places.lines() == [], "and its row has left the line"


def test_its_time_may_run_out(throttled: str) -> None:
    life.put(throttled, expires_at=text("UTC_TIMESTAMP(6) - INTERVAL 1 SECOND"))
    assert transitions.expire() == 1
    assert life.state(throttled) is State.EXPIRED


def test_an_edit_reaches_it_and_its_place_in_the_line(throttled: str) -> None:
    before, other = accept(), accept()
    assert [claim(before), claim(other)] == [False, False]
    edited = editing.edit(other, Change(priority="high", queue="data.high"), remark="by a test")
    assert edited is not None and edited.won and edited.ticket is None
    later = editing.edit(throttled, Change(delay_seconds=60), remark="by a test")
    assert later is not None and (later.state, later.won) == (State.SCHEDULED, True)
    limit(running=1)
    [ticket] = places.admit(QUICK)
    assert (ticket.task_id, ticket.queue) == (other, "data.high"), "before the one that is older"
    assert life.release(throttled).task_id == throttled


def test_a_replay_waits_for_a_place_as_any_other(throttled: str) -> None:
    transitions.stop(throttled, remark="by a test")
    replay.replay(throttled, by="a test", note="")
    assert not claim(throttled)
    limit(running=1)
    assert admitted() == [throttled]
    assert claim(throttled)


def test_an_old_ticket_changes_nothing_of_it(throttled: str) -> None:
    before = life.everything()
    assert not claim(throttled)
    assert life.everything() == before


def test_one_that_waits_in_no_line_is_a_violation(throttled: str) -> None:
    with db.transaction() as connection:
        connection.execute(limit_waits.delete())
    life.let_pass(verify.SETTLING_SECONDS + 1)
    [rule] = [rule for rule in verify.rules(db.ledger(), {}) if rule.name == "moving"]
    assert [(task_id, "no line of a limit has it" in words) for task_id, words in rule.broken()] == [(throttled, True)]


# --- what it costs ---------------------------------------------------------------------------------------------------


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    found: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        found.append((statement, parameters))

    event.listen(db.ledger(), "before_cursor_execute", note)
    yield found
    event.remove(db.ledger(), "before_cursor_execute", note)


def test_who_has_no_limit_pays_no_statement_for_those_of_others() -> None:
    limit(running=1)
    limit(Whose(Subject.OWNER, "emmy"), running=1)
    task_id = accept(task_type="test_busy")
    with statements() as found:
        assert claim(task_id)
    assert [said.split()[0] for said, _ in found] == ["UPDATE", "INSERT", "SELECT"]


def test_each_statement_of_a_claim_and_an_admission_is_led_by_an_index() -> None:
    limit(running=2, starts=100)
    limit(ADA, running=2)
    acceptance.accept([life.new() for _ in range(400)])
    waiting = [accept() for _ in range(40)]
    for task_id in waiting:
        claim(task_id)
    transitions.finish(waiting[0], 1)
    with db.reading() as connection:
        connection.execute(text("ANALYZE TABLE tasks, limit_waits, limits, limit_starts"))
    with statements() as found:
        assert admitted()
        claim(accept())
    asked = [each for each in found if each[0].startswith(("SELECT", "UPDATE", "DELETE"))]
    assert len(asked) > 15
    for said, given in asked:
        for plan in plans(said, given):
            assert plan.type not in ("ALL", "index") or plan.table not in ("tasks", "limit_waits"), (said, plan)
            assert "filesort" not in (plan.Extra or ""), (said, plan)


def plans(said: str, given: Any) -> Sequence[Any]:
    with db.reading() as connection:
        return connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {said}", given).all()


# --- what is told ----------------------------------------------------------------------------------------------------


def explained(door: Any, task_id: str) -> Any:
    return door.get(f"/api/tasks/{task_id}/explain").get_json()


def test_it_is_told_why_one_waits_and_behind_how_many(door: Any) -> None:
    limit(running=1)
    limit(ADA, starts=9)
    first, second, third = accept(), accept(), accept()
    assert [claim(each) for each in (first, second, third)] == [True, False, False]
    told = explained(door, third)
    assert (told["state"], told["cause"]) == ("throttled", "limit_reached")
    assert told["sentence"] == "It waits for a place: 1 of at most 1 test_quick tasks run; 1 task waits before it."
    of_owner, of_type = told["evidence"]["limits"]
    assert (of_type["name"], of_type["running"], of_type["most_running"]) == ("test_quick", 1, 1)
    assert (of_owner["name"], of_owner["starts"], of_owner["starts_per_minute"]) == ("ada", 1, 9)
    transitions.finish(first, 1)
    life.let_pass(60)
    assert explained(door, third)["cause"] == "monitor_missing", "a place is free and nobody gives it"


def test_a_long_wait_is_remarked_on(throttled: str) -> None:
    life.let_pass(60)
    assert remarks.leave() == 1
    assert "It waits for a place: 0 of at most 0 test_quick tasks run; it is the next." in life.remarks(throttled)
    assert remarks.leave() == 0


def test_a_limit_is_set_shown_and_taken_away_through_the_door(door: Any) -> None:
    said = door.put("/api/limits/type/test_quick", json={"most_running": 1})
    assert (said.status_code, said.json["most_running"], said.json["starts_per_minute"]) == (200, 1, None)
    assert [claim(accept()), claim(accept())] == [True, False]
    door.put("/api/limits/owner/ada", json={"starts_per_minute": 7})
    door.put("/api/limits/type/test_quick", json={"most_running": 2, "starts_per_minute": 3})
    owners, types = door.get("/api/limits").json["items"]
    assert (owners["subject"], owners["name"], owners["starts"], owners["waiting"]) == ("owner", "ada", 0, 0)
    assert (types["most_running"], types["running"], types["waiting"]) == (2, 1, 1)
    assert door.get("/api/queues").json["items"][1]["throttled"] == 1
    assert door.delete("/api/limits/type/test_quick").status_code == 204
    assert door.delete("/api/limits/type/test_quick").status_code == 404
    assert [each["name"] for each in door.get("/api/limits").json["items"]] == ["ada"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("type/test_quik", {"most_running": 1}, 404, "did you mean 'test_quick'?"),
        ("queue/data.low", {"most_running": 1}, 404, "of a type or of an owner"),
        ("owner/Ada Lovelace", {"most_running": 1}, 404, "one lower-case word"),
        ("type/test_quick", {}, 422, "most_running, starts_per_minute or both"),
        ("type/test_quick", {"most_runing": 1}, 422, "did you mean 'most_running'"),
        ("type/test_quick", {"most_running": -1}, 422, ""),
        ("type/test_quick", {"most_running": "3"}, 422, ""),
        ("type/test_quick", {"most_running": 2**40}, 422, ""),
        ("type/test_quick", {"starts_per_minute": 0}, 422, ""),
    ],
)
def test_a_limit_that_cannot_be_is_refused_with_the_way_out(
    door: Any, path: str, body: Any, status: int, words: str
) -> None:
    said = door.put(f"/api/limits/{path}", json=body)
    assert said.status_code == status
    assert words in said.get_data(as_text=True)
    assert limits.listed() == []


def test_only_an_admin_sets_limits() -> None:
    door: Any = door_for(key("ada", *keys.USUAL_SCOPES))
    for said in (door.get("/api/limits"), door.put("/api/limits/type/test_quick", json={"most_running": 9})):
        assert (said.status_code, said.json["missing_scope"]) == (403, "admin")
    assert limits.listed() == []
