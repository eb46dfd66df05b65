"""Each tick of a schedule becomes one task, whoever looks at it, dies at it, or looks at it again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

import failpoints
from ledger import acceptance, db, firings, keys, leadership, queries, retention, schedules
from ledger.callers import EVERYBODY, Caller, Scope
from ledger.cron import UnknownZone
from ledger.filters import Filter
from ledger.leadership import Deposed, Term
from ledger.misfires import MOST_MADE_UP, Misfire, Overlap
from ledger.models import firings as fired
from ledger.models import schedules as rows
from ledger.models import tasks as task_rows
from ledger.states import State
from tasks import schedules as ticking
from tests import doors, life, task_types  # noqa: F401  registers the types
from tests.service.ticks import TESTS, come, go_round, now, row, schedule, tasks_of, ticks, wait_for

# --- one tick ------------------------------------------------------------------------------------------------------


def test_a_tick_becomes_a_task_like_any_other() -> None:
    schedule_id = schedule(task={"task_type": "test_quick", "priority": "high", "tags": ["eu"], "max_retries": 7})
    tick = come(schedule_id)
    [due] = schedules.due()
    ticket = ticking.fire(due)
    [task_id] = tasks_of(schedule_id)
    task = life.task(task_id)
    assert ticket == life.ticket(task_id)
    assert (task.owner, task.priority, task.tags, task.max_retries) == ("tests", "high", ["eu"], 7)
    assert firings.of(task_id) == firings.Firing(schedule_id, row(schedule_id).name, tick.replace(tzinfo=UTC))
    life.work(task_id)
    shown = row(schedule_id)
    assert (shown.last_tick, shown.last_task_id, shown.last_state) == (tick, task_id, State.SUCCEEDED)
    assert shown.next_tick > tick
    assert shown.remark is None
    assert queries.totals()["ticks_fired"] == 1


def test_before_its_tick_nothing_is_due() -> None:
    schedule_id = schedule(cron="0 0 1 1 *")
    assert schedules.due() == []
    assert row(schedule_id).next_tick > now()
    assert row(schedule_id).due_at == row(schedule_id).next_tick


def test_a_task_that_is_over_is_purged_and_the_schedule_goes_on() -> None:
    schedule_id = schedule()
    come(schedule_id)
    go_round()
    [task_id] = tasks_of(schedule_id)
    life.put(task_id, state=State.SUCCEEDED, finished_at=now() - timedelta(days=40))
    assert retention.purge([retention.Over(task_id, 0, (), is_old=True)], State.SUCCEEDED, days=30, first=len) == 1
    assert ticks(schedule_id) == tasks_of(schedule_id) == []
    assert (row(schedule_id).last_task_id, row(schedule_id).last_state) == (task_id, None)
    come(schedule_id)
    assert go_round() == 1


# --- exactly one ---------------------------------------------------------------------------------------------------


def test_many_who_look_at_the_same_ticks_make_one_task_of_each() -> None:
    ids = [schedule(cron="* * * * * *", misfire_policy=Misfire.RUN_ALL) for _ in range(4)]
    firsts = {each: come(each, 10) for each in ids}
    seen = [due for _ in range(8) for due in schedules.due()]
    with ThreadPoolExecutor(8) as monitors:
        list(monitors.map(ticking.fire, seen))
        list(monitors.map(lambda _: go_round(), range(8)))
    for each in ids:
        found = ticks(each)
        assert sorted(found) == [firsts[each] + timedelta(seconds=number) for number in range(len(found))]
        assert len(found) >= 11


def dies_after(place: tuple[Any, str], number: int) -> Callable[[], None]:
    """For `life.child`: a monitor that is killed right after a function has been called so often."""
    where, name = place

    def act() -> None:
        original, calls = getattr(where, name), count(1)

        def dies(*arguments: Any, **named: Any) -> Any:
            answer = original(*arguments, **named)
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(where, name, dies)
        go_round()

    return act


@pytest.mark.parametrize(
    ("place", "number", "done"),
    [
        ((schedules, "due"), 1, 0),
        ((schedules, "_go_on"), 1, 0),
        ((firings, "note"), 1, 0),
        ((failpoints, "reach"), 1, 0),
        ((schedules, "fire"), 1, 1),
        ((schedules, "fire"), 3, 3),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_a_monitor_that_dies_leaves_a_tick_whole_or_untouched(place: Any, number: int, done: int) -> None:
    schedule_id = schedule(cron="* * * * * *")
    first = come(schedule_id, 5)
    with life.child(dies_after(place, number)) as pid:
        assert life.end_of(pid) == -signal.SIGKILL
    assert len(ticks(schedule_id)) == done
    assert row(schedule_id).next_tick == first + timedelta(seconds=done)
    go_round()
    found = ticks(schedule_id)
    assert found == [first + timedelta(seconds=each) for each in range(len(found))]
    assert len(queries.page(limit=100).rows) == len(found) >= 6


def test_who_leads_no_more_lets_no_tick_become_a_task() -> None:
    schedule_id = schedule()
    come(schedule_id)
    [due] = schedules.due()
    with leadership.acting(Term(-1, "one that was frozen")), pytest.raises(Deposed):
        ticking.fire(due)
    assert tasks_of(schedule_id) == []
    assert row(schedule_id).remark is None


@pytest.mark.parametrize(
    "change",
    [
        {"task": {"task_type": "test_failing"}},
        {"cron": "0 0 1 1 *"},
        {"enabled": False},
        {"name": "another"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_read_before_a_change_makes_no_task(change: dict[str, Any]) -> None:
    schedule_id = schedule()
    come(schedule_id)
    [due] = schedules.due()
    ticking.change(schedule_id, change, caller=TESTS)
    assert ticking.fire(due) is None
    assert tasks_of(schedule_id) == []


def test_a_schedule_that_is_gone_makes_no_task() -> None:
    schedule_id = schedule()
    come(schedule_id)
    [due] = schedules.due()
    schedules.drop(schedule_id)
    assert ticking.fire(due) is None
    assert queries.page().rows == []


def test_no_tick_gets_a_second_task_even_when_the_row_goes_back_to_it() -> None:
    schedule_id = schedule()
    tick = come(schedule_id)
    go_round()
    wait_for(schedule_id, tick)
    assert go_round() == 0
    assert ticks(schedule_id) == [tick]
    assert row(schedule_id).next_tick > tick
    assert "has a task already" in row(schedule_id).remark


# --- late, and not at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "number"), [(Misfire.SKIP, 0), (Misfire.RUN_ONCE, 1), (Misfire.RUN_ALL, 3)]
)
def test_ticks_that_were_missed_become_what_the_policy_says(policy: Misfire, number: int) -> None:
    schedule_id = schedule(cron="0 * * * *", misfire_policy=policy)
    hour = now().replace(minute=0, second=0)
    # Not the hour that may have begun within the last minute.
    missed = [hour - timedelta(hours=each) for each in (4, 3, 2)]
    with_now = wait_for(schedule_id, missed[0])
    [due] = schedules.due()
    seen = due.__class__(**vars(due) | {"now": (missed[-1] + timedelta(minutes=30)).replace(tzinfo=UTC)})
    while seen.tick <= seen.now:
        ticking.fire(seen)
        seen = seen.__class__(**vars(seen) | {"tick": row(schedule_id).next_tick.replace(tzinfo=UTC)})
    assert ticks(schedule_id) == ([missed[-1]] if number == 1 else missed[:number])
    assert row(schedule_id).next_tick == missed[-1] + timedelta(hours=1)
    remark = row(schedule_id).remark
    assert remark is None if policy is Misfire.RUN_ALL else f"ticks from {with_now} " in remark


def test_a_long_absence_is_made_up_for_within_bounds() -> None:
    schedule_id = schedule(cron="* * * * * *", misfire_policy=Misfire.RUN_ALL)
    come(schedule_id, 100 * 86_400)
    go_round()
    assert MOST_MADE_UP <= len(ticks(schedule_id)) < MOST_MADE_UP + 30
    assert queries.totals()["ticks_passed_over"] >= 1
    assert "were missed and made no task (run_all)" in row(schedule_id).remark


def test_a_tick_makes_no_task_while_one_before_it_has_not_ended() -> None:
    schedule_id = schedule(overlap_policy=Overlap.SKIP)
    for seconds in (30, 20, 10):
        come(schedule_id, seconds)
        go_round()
    [task_id] = tasks_of(schedule_id)
    assert f"task {task_id} has not ended" in row(schedule_id).remark
    assert queries.totals() == {"ticks_fired": 1, "ticks_passed_over": 2}
    life.work(task_id)
    come(schedule_id)
    assert go_round() == 1


def test_ticks_overlap_unless_they_are_told_not_to() -> None:
    schedule_id = schedule()
    for seconds in (2, 1):
        come(schedule_id, seconds)
        go_round()
    assert len(tasks_of(schedule_id)) == 2


def test_a_paused_schedule_goes_on_with_the_next_tick_from_then() -> None:
    schedule_id = schedule(misfire_policy=Misfire.RUN_ALL)
    come(schedule_id, 3_000)
    ticking.change(schedule_id, {"enabled": False}, caller=TESTS)
    assert (go_round(), row(schedule_id).next_tick) == (0, None)
    ticking.change(schedule_id, {"enabled": True}, caller=TESTS)
    assert go_round() == 0
    assert row(schedule_id).next_tick > now()


# --- for its owner -------------------------------------------------------------------------------------------------


def of_ada(*scopes: Scope, **bounds: Any) -> Caller:
    """Who a new key of Ada's acts for."""
    found = keys.find(doors.key("ada", *(scopes or keys.USUAL_SCOPES), **bounds).split("_")[1])
    assert found is not None
    return found.caller


def test_over_its_owners_quota_a_tick_waits_and_says_so() -> None:
    schedule_id = schedule(of_ada(most_open_tasks=1))
    first = come(schedule_id, 2)
    go_round()
    tick = come(schedule_id)
    assert go_round() == 0
    shown = row(schedule_id)
    assert (ticks(schedule_id), shown.next_tick, shown.due_at > now()) == ([first], tick, True)
    assert "waits: at most 1 tasks may be open" in shown.remark
    life.work(tasks_of(schedule_id)[0])
    with db.transaction() as connection:
        connection.execute(update(rows).values(due_at=db.NOW))
    assert go_round() == 1
    assert ticks(schedule_id) == [first, tick]


def test_mails_of_ticks_count_in_the_quota() -> None:
    mail = {"task_type": "email_sending", "parameters": {"to": "ada@example.com"}}
    schedule_id = schedule(of_ada(mails_per_day=1), task=mail)
    for seconds in (2, 1):
        come(schedule_id, seconds)
        go_round()
    assert len(tasks_of(schedule_id)) == 1
    assert "at most 1 mails" in row(schedule_id).remark


def test_without_a_key_that_may_a_schedule_makes_no_task() -> None:
    ada = of_ada()
    schedule_id = schedule(ada)
    assert ada.key_id
    keys.revoke(ada.key_id)
    come(schedule_id)
    assert go_round() == 0
    assert "its owner has no key that may submit it (write)" in row(schedule_id).remark
    assert row(schedule_id).next_tick > now() - timedelta(seconds=1)
    of_ada()
    come(schedule_id)
    assert go_round() == 1


def test_a_type_that_wants_more_wants_it_at_each_tick() -> None:
    admin = of_ada(Scope.ADMIN)
    of_ada()
    schedule_id = schedule(admin, task={"task_type": "truncate_table", "parameters": {"table": "data"}})
    come(schedule_id, 1)
    assert go_round() == 1
    assert admin.key_id
    keys.revoke(admin.key_id)
    come(schedule_id)
    assert go_round() == 0
    assert "may submit it (admin)" in row(schedule_id).remark


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"task_type": "of_an_older_version"}, "unknown task_type"),
        ({"task_type": "test_quick", "parameters": {"of": "an older version"}}, "parameters are wrong"),
    ],
)
def test_a_task_that_is_none_any_more_keeps_nobody_waiting(task: dict[str, Any], said: str) -> None:
    broken, sound = schedule(), schedule()
    with db.transaction() as connection:
        connection.execute(update(rows).where(rows.c.id == broken).values(task=task))
    come(broken, 1)
    come(sound)
    assert go_round() == 1
    assert said in row(broken).remark
    assert (len(tasks_of(broken)), len(tasks_of(sound))) == (0, 1)


def test_a_tick_that_fails_for_no_known_reason_waits_and_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken, sound = schedule(), schedule()
    come(broken, 1)
    come(sound)
    original = keys.scopes_of
    failing = iter([True])

    def fails_once(owner: str) -> frozenset[Scope]:
        if next(failing, False):
            raise RuntimeError("nobody foresaw this")
        return original(owner)

    monkeypatch.setattr(keys, "scopes_of", fails_once)
    assert go_round() == 1
    assert "waits: RuntimeError" in row(broken).remark
    assert row(broken).due_at > now() + timedelta(seconds=30)
    assert len(tasks_of(sound)) == 1


def test_a_zone_that_is_none_any_more_keeps_nobody_waiting() -> None:
    broken, sound = schedule(), schedule()
    with db.transaction() as connection:
        connection.execute(update(rows).where(rows.c.id == broken).values(timezone="Nowhere/Gone"))
    come(broken, 1)
    come(sound)
    assert go_round() == 1
    assert "waits: UnknownZone" in row(broken).remark
    assert row(broken).due_at > now() + timedelta(seconds=30)
    assert len(schedules.next_ticks(schedules.get(broken), 5)) == 1, "it can be shown"
    ticking.change(broken, {"enabled": False})
    assert row(broken).next_tick is None
    with pytest.raises(UnknownZone):
        ticking.change(broken, {"enabled": True})
    assert (len(tasks_of(broken)), len(tasks_of(sound))) == (0, 1)


def test_an_owner_has_so_many_schedules_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST_SCHEDULES", 2)
    ada = of_ada()
    first, _ = schedule(ada), schedule(ada)
    with pytest.raises(schedules.TooMany):
        schedule(ada)
    schedule()
    schedules.drop(first, caller=ada)
    schedule(ada)


# --- an index leads ------------------------------------------------------------------------------------------------


def explained(statement: str) -> list[Any]:
    with db.reading() as connection:
        connection.execute(text("ANALYZE TABLE tasks, schedules, firings"))
        return list(connection.execute(text(f"EXPLAIN FORMAT=TRADITIONAL {statement}")).all())


def test_an_index_leads_to_the_schedules_that_are_due() -> None:
    for _ in range(100):
        schedule()
    [plan] = explained("SELECT * FROM schedules WHERE due_at <= UTC_TIMESTAMP(6) ORDER BY due_at LIMIT 100")
    assert (plan.key, "filesort" in (plan.Extra or "")) == ("ix_schedules_due", False)


@pytest.mark.parametrize(
    ("caller", "index"), [(EVERYBODY, "ix_firings_schedule"), (Caller("ada", frozenset()), "ix_firings_owner")]
)
def test_an_index_leads_to_a_schedules_newest_tasks(caller: Caller, index: str) -> None:
    new = [life.new(firing=firings.Firing("s" if number % 2 else "t", "x")) for number in range(1_000)]
    acceptance.accept(new)
    statement = Filter(schedule="s").newest(task_rows.c.id, caller=caller, below="f").limit(51)
    with db.reading() as connection:
        words = str(statement.compile(connection, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    plan = explained(words)
    assert [(each.table, each.key) for each in plan] == [("firings", index), ("tasks", "PRIMARY")]
    assert not any("filesort" in (each.Extra or "") for each in plan)
    with db.reading() as connection:
        assert connection.execute(select(func.count()).select_from(fired)).scalar_one() == 1_000
